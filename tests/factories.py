"""Sensible defaults: a test names only what it is about."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

from wissel.core.access import Principal, Rule, RuleBook
from wissel.core.request import Conversation, Request, Turn
from wissel.core.snapshot import ApiKey, Model, Route, Snapshot
from wissel.core.split import KeySource, Split, Variant

DEFAULT_KEY = (KeySource("header", "x-session-id"), KeySource("conversation"))


def model(name: str, **fields: Any) -> Model:
    chat = frozenset({"chat", "completions"})
    default = Model(name, f"{name}-cluster", name, apis=chat, accepts=frozenset({"text"}))
    return replace(default, **fields)


def split(name: str = "ab", *, key: tuple[KeySource, ...] = DEFAULT_KEY, **weights: int) -> Split:
    """Variants named as their models, in the order given."""
    variants = tuple(Variant(arm, arm, weight) for arm, weight in weights.items())
    return Split(name, key, variants, default=variants[0].name)


def permit(rule_id: str = "all", **fields: Any) -> Rule:
    return Rule(rule_id, "permit", **fields)


def forbid(rule_id: str, **fields: Any) -> Rule:
    return Rule(rule_id, "forbid", **fields)


def api_key(secret: str, *, id: str = "ada", groups: frozenset[str] = frozenset()) -> ApiKey:  # noqa: A002 - the config's word
    return ApiKey(Principal(id, groups), sha256(secret.encode()).hexdigest())


def snapshot(
    *,
    models: tuple[Model, ...] = (),
    splits: tuple[Split, ...] = (),
    routes: tuple[Route, ...] = (),
    rules: tuple[Rule, ...] | None = None,
    keys: tuple[ApiKey, ...] = (),
    **fields: Any,
) -> Snapshot:
    """By default: models small, large and pixel, routes chat and code, a split ab."""
    models = models or (model("small"), model("large"), model("pixel", accepts=frozenset({"text", "image"})))
    splits = splits or (split("ab", small=50, large=50),)
    routes = routes or (Route("chat", "small"), Route("code", "large"))
    default = Snapshot(
        revision="r1",
        models={each.name: each for each in models},
        splits={each.name: each for each in splits},
        routes={each.name: each for each in routes},
        entrypoints=frozenset({"auto"}),
        aliases={},
        fallback=routes[0].name,
        keys={each.sha256: each for each in keys},
        rules=None if rules is None else RuleBook(rules),
    )
    return replace(default, **fields)


def conversation(*texts: str) -> Conversation:
    """User and assistant in turns, the user first."""
    return Conversation(tuple(Turn("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(texts)))


def request(model: str = "auto", *texts: str, **fields: Any) -> Request:
    default = Request("chat", "/v1/chat/completions", model, conversation(*(texts or ("hello",))))
    return replace(default, **fields)
