"""What the sections share: what every mapping is, secrets kept elsewhere, conditions on text."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, model_validator

from wissel.config.model.forms import Form, Prefix, SentHeaderName, Text

SECRET_HINT = "a secret is never written here: give {env: NAME} or {file: PATH}"  # noqa: S105  # a message


class Section(BaseModel):
    """What every part of the file shares: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _shape(value: Any) -> str:
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<word>"


WORD_OR_MAPPING = Discriminator(_shape)
"""For `word | {...}`: the error is then about the form that was written."""


def one_of(*names: str) -> Callable[[dict[str, Any]], None]:
    def restrict(schema: dict[str, Any]) -> None:
        schema["oneOf"] = [{"required": [name]} for name in names]

    return restrict


class Secret(Section):
    """A secret kept elsewhere: in an environment variable or a file."""

    model_config = ConfigDict(json_schema_extra=one_of("env", "file"))

    env: Annotated[str, Form(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable", hidden=True)] | None = (
        None
    )
    """The environment variable that holds it."""
    file: Text | None = None
    """The file that holds it, relative to the working directory; white space around it is cut off."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("should have either env or file")
        return self


def _never_inline(value: Any) -> Any:
    if _shape(value) != "<mapping>":
        raise ValueError(SECRET_HINT)
    return value


class Credential(Secret):
    """A secret that is shown to a server, and how."""

    header: SentHeaderName | None = None
    """The header that shows it, such as api-key; the provider's if not given."""
    prefix: Prefix | None = None
    """What stands before it; if not given, Bearer in `authorization` and nothing in another `header`, and without
    `header` what the provider wants."""


SecretRef = Annotated[Secret, BeforeValidator(_never_inline)]


def _forward(value: Any) -> Any:
    if value != "forward":
        raise ValueError(f"{SECRET_HINT}, or forward to pass the caller's own on")
    return value


CredentialRef = Annotated[
    Annotated[Credential, Tag("<mapping>")] | Annotated[Literal["forward"], BeforeValidator(_forward), Tag("<word>")],
    WORD_OR_MAPPING,
]


class HeaderCondition(Section):
    """What a header's value must be."""

    model_config = ConfigDict(json_schema_extra=one_of("exact", "prefix", "suffix"))

    exact: str | None = None
    """The whole value."""
    prefix: str | None = None
    """How it begins."""
    suffix: str | None = None
    """How it ends."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.suffix)) != 1:
            raise ValueError("should have exactly one of exact, prefix, suffix")
        return self
