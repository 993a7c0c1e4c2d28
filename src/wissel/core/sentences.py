"""The words of every refusal: one row a sentence.

To change what a refusal says, change its row: nothing is refused in any other
words, and the table in docs/refusals.md is made from the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Told = tuple[int, str, str, str, str | None]
"""The first fields of `Denied`."""

VARIES: Final = "the one that is wrong"
"""In place of a row's `param` that differs from case to case."""

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
"""OpenAI's words for these; of the others, those from 500 on are the server's fault."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is the same each time."""

    status: int
    code: str
    sentence: str
    """With a name in braces for each thing that differs from case to case."""
    when: str
    """For people who look the code up."""
    param: str | None = None
    """The member of the body, or the one word of the path, that is to blame, as OpenAI's errors name it."""

    def told(self, **words: str) -> Told:
        """The first fields of `Denied`; `words` fill the sentence."""
        param = None if self.param == VARIES else self.param
        return self.status, self.sentence.format(**words), type_of(self.status), self.code, param


TABLE: Final = (
    UNREADABLE := Refusal(
        400,
        "unreadable_request",
        "{problem}",
        "a body, content-type, query or form cannot be read, or in two ways; the sentence says what and where",
        VARIES,
    ),
    TRAILERS := Refusal(
        400,
        "request_trailers",
        "trailers behind a request's body are not taken here; send the request without them",
        "HTTP/2 trailers where `request_body_mode` is FULL_DUPLEX_STREAMED: Envoy would send the body twice",
    ),
    NO_ABLE_MODEL := Refusal(
        400,
        "no_able_model",
        "no model behind {target} can serve this request: {reasons}",
        "each model that the caller may use lacks the API, a modality or the context; the sentence says which",
        "model",
    ),
    NOT_A_CALL := Refusal(
        400,
        "not_a_call",
        "feedback is no call that is decided",
        "`POST /v1/route` and `wissel explain` were asked to decide feedback",
    ),
    NO_KEY := Refusal(
        401,
        "invalid_api_key",
        "no API key was given; send it as `authorization: Bearer <key>`",
        "`access` is configured, and the request shows no credential and has no mesh identity",
    ),
    WRONG_KEY := Refusal(
        401,
        "invalid_api_key",
        "the API key is not valid",
        "the key is not known, or was revoked",
    ),
    EXPIRED_KEY := Refusal(
        401,
        "invalid_api_key",
        "the API key {key} has expired",
        "a managed key after its end; its public id is named",
    ),
    WRONG_TOKEN := Refusal(
        401,
        "invalid_token",
        "{reason}",
        "a JSON Web Token cannot be trusted; the sentence names the claim, the key or the signature",
    ),
    FORBIDDEN := Refusal(
        403,
        "forbidden",
        "{caller} may not use {what}: {why}",
        "a rule forbids it, and is named, or no rule permits it; of a path in `passthrough` without a param",
        "model",
    ),
    NO_CORS := Refusal(
        403,
        "origin_not_allowed",
        "web pages of {origin} are not served here; the operator may list it in envoy.cors.origins",
        "the question that a browser asks for a web page before it calls, where Envoy's CORS filter did not answer it",
    ),
    UNKNOWN_MODEL := Refusal(
        404,
        "model_not_found",
        "no model is named {model}{hint}",
        "neither a model, alias, split, rollout, tier nor entrypoint; without `access` a name that is near is told",
        "model",
    ),
    UNKNOWN_PATH := Refusal(
        404,
        "path_not_found",
        "{path} is not served here",
        "neither an LLM call nor below a `passthrough`",
    ),
    UNKNOWN_REQUEST := Refusal(
        404,
        "request_not_found",
        "no request of the last 24 hours has the id {request_id}",
        "feedback on a request that is not known, or not any more",
        "request_id",
    ),
    NO_FEEDBACK := Refusal(
        404,
        "feedback_not_kept",
        "no feedback is kept here: the configuration has no redis",
        "feedback, where nothing counts it",
        "request_id",
    ),
    UNKNOWN_ANSWER := Refusal(
        404,
        "answer_not_found",
        "no answer {answer} is kept here for you",
        "an id that nobody knows, or not any more, or of another caller's answer; also where the model that made it is"
        " configured no more, or on another cluster",
        VARIES,
    ),
    LATE := Refusal(
        408,
        "request_timeout",
        "the body did not arrive in time",
        "the body of a call that does not end within two minutes",
    ),
    SCORED_TWICE := Refusal(
        409,
        "already_given",
        "there is feedback on {request_id} already",
        "a second score for one request",
        "request_id",
    ),
    TOO_LARGE := Refusal(
        413,
        "request_too_large",
        "the body is larger than {limit} bytes",
        "larger than `listen.max_body_bytes`",
    ),
    UNREAD_CODING := Refusal(
        415,
        "unsupported_coding",
        "{problem}",
        "a `content-encoding` that is not gzip, deflate, br or zstd, or two; `accept-encoding` says which are read",
    ),
    NO_UPGRADE := Refusal(
        426,
        "upgrade_not_supported",
        "upgrades are not supported here; send the request over HTTP",
        "an upgrade or CONNECT on a path whose `passthrough` does not allow it; who tries a websocket first goes on so",
    ),
    CROWDED := Refusal(
        429,
        "too_many_bodies",
        "{caller} has {count} MiB of bodies here that are still being read; try again when one is done",
        "one caller's large bodies at the same time, beyond what one caller may have in memory",
    ),
    OVERRUN := Refusal(
        429,
        "too_many_uploads",
        "{caller} has begun to send as many bodies as one caller may; end some first",
        "one caller's unfinished bodies, beyond `listen.bounds.uploads`",
    ),
    LIMIT_USED_UP := Refusal(
        429,
        "rate_limit_exceeded",
        "limit {limit}: {amount} for the {per} {subject} is used up; there is more in {wait}",
        "a limit of requests, tokens or concurrent requests; `retry-after` and `x-ratelimit-*` say when",
    ),
    BUDGET_USED_UP := Refusal(
        429,
        "budget_exceeded",
        "limit {limit}: {amount} for the {per} {subject} is used up; there is more in {wait}",
        "a limit in dollars; `retry-after` says when",
    ),
    MISCONFIGURED := Refusal(
        500,
        "unsupported_mode",
        "Envoy's ext_proc filter is misconfigured: {complaint}",
        "a `processing_mode` that cannot be served; the sentence says what to set, and so does `wissel doctor`",
    ),
    LIMITS_AWAY := Refusal(
        503,
        "limits_unavailable",
        "limits cannot be checked at the moment",
        "Redis is away, and `access.on_store_failure` is `forbid`",
    ),
    ORIGIN_AWAY := Refusal(
        503,
        "origin_unavailable",
        "where answers were made cannot be looked up at the moment; try again",
        "Redis is away: an id that this process has not seen itself, or a list of answers",
        VARIES,
    ),
    STORE_AWAY := Refusal(
        503,
        "store_away",
        "feedback cannot be taken right now; try again",
        "feedback while Redis is away",
    ),
    OVERDUE := Refusal(
        504,
        "deadline_passed",
        "{models} could not serve this request, and there is no time left to ask another",
        "the models of a plan failed until `failover.deadline` had passed",
    ),
)
"""In order of the status."""


def type_of(status: int) -> str:
    """OpenAI's `type` of an error."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
