"""The whole file, and its JSON Schema."""

from typing import Annotated, Any

from pydantic import Field, Tag
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from wissel.config.model.access import Access
from wissel.config.model.envoy import Envoy
from wissel.config.model.forms import Name, RedisUrl
from wissel.config.model.intent import Intent, Route
from wissel.config.model.models import Failover, Health, Model, Passthrough
from wissel.config.model.rollouts import Rollout
from wissel.config.model.section import WORD_OR_MAPPING, SecretRef, Section
from wissel.config.model.serving import Admin, Affinity, Listen, Redis
from wissel.config.model.splits import ConversationIds, Split
from wissel.config.model.telemetry import Exports
from wissel.config.model.tiers import Tier


class Config(Section):
    """Configuration of wissel, the Envoy external processor for LLM traffic."""

    listen: Listen = Field(default_factory=Listen)
    """Where wissel listens."""
    admin: Admin = Field(default_factory=Admin)
    """The admin API and the console."""
    redis: (
        Annotated[Annotated[RedisUrl, Tag("<word>")] | Annotated[Redis, Tag("<mapping>")], WORD_OR_MAPPING] | None
    ) = None
    """Where replicas share state: a URL without password, {url: {env: NAME}}, or embedded: a server of wissel's own."""
    namespace: Name = "default"
    """Installations that share a Redis and should not share state take different ones."""
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """The models that can serve."""
    entrypoints: tuple[Name, ...] = ()
    """Model names that are routed by intent, such as auto."""
    passthrough: tuple[Passthrough, ...] = ()
    """Paths that are no LLM calls and go on under the same access rules; any other path is refused."""
    aliases: dict[Name, Name] = Field(default_factory=dict)
    """Other names that clients may ask for, each for a model, split, rollout or tier."""
    failover: Failover = Field(default_factory=Failover)
    """How the fallbacks of models are asked."""
    health: Health = Field(default_factory=Health)
    """When models that fail are left out of plans."""
    intent: Intent = Field(default_factory=Intent)
    """How the intent of a conversation is found."""
    routes: tuple[Route, ...] = ()
    """The intents, and what serves each."""
    conversation: ConversationIds = Field(default_factory=ConversationIds)
    """How the requests of one conversation are known by the key `conversation`."""
    affinity: Affinity = Field(default_factory=Affinity)
    """How requests about an answer that is kept, and calls that go on from one, find the model that made it."""
    splits: tuple[Split, ...] = ()
    """Experiments: names behind which several models share the traffic."""
    splits_salt: SecretRef | None = None
    """A secret of this installation with which targeting keys are dealt out, of splits and rollouts alike: with it no
    caller can work out which keys meet which arm. Another one deals out anew, and begins new evidence."""
    rollouts: tuple[Rollout, ...] = ()
    """Models that take over step by step, judged on evidence; they need `redis`."""
    tiers: tuple[Tier, ...] = ()
    """Names behind which a strong and a weak target share the traffic by difficulty."""
    access: Access | None = None
    """Who may use what; without it everyone may use everything."""
    telemetry: Exports = Field(default_factory=Exports)
    """What wissel tells about itself."""
    envoy: Envoy | None = None
    """Read by `wissel envoy` and `wissel demo` only: where Envoy listens and what its clusters are."""

    @property
    def processors(self) -> tuple[str, ...]:
        """Where Envoy finds wissel."""
        return (self.envoy.processors if self.envoy else None) or (self.listen.ext_proc,)


class _Strict(GenerateJsonSchema):
    """The file has no null: what is not wanted is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", "") is None:
            del found["default"]
        return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(schema_generator=_Strict),
    }
