"""A further attempt at a request, written for the model that it goes to.

Envoy asks about each attempt after the first. It shows the headers as the
attempt before left them, for they are one map over all attempts, and the body
as the decision left it. So whatever an earlier model was given is overwritten
or removed here. Who may be asked was decided before, and nothing of that is
asked again; only an attempt that comes too late is not made.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from wissel.apis.body import Splice, Written, size_of, spliced
from wissel.apis.table import APIS
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.identity import CREDENTIAL_HEADERS
from wissel.core.names import CLUSTER_HEADER, MODEL_HEADER, REWRITTEN_HEADER
from wissel.core.plan import shows_callers_credential
from wissel.core.refusals import overdue
from wissel.core.snapshot import Model
from wissel.extproc.events import Event, Fail, Refuse, Reply, RequestBody, RequestHeaders, RequestTrailers, Step
from wissel.extproc.itinerary import Errand, heard
from wissel.extproc.mutation import Mutation, for_denied
from wissel.extproc.upstream import headers_for, path_for, shown_in

_KNOWN: Final = Principal("known")
"""Stands for whoever asked: which of them it was makes no difference any more."""


class Attempt:
    """The state of one; `models` are those that the file has, `clock` tells Unix time."""

    __slots__ = ("_errand", "_headers", "_model", "_models", "_number", "clock", "is_settled")

    def __init__(self, models: Mapping[str, Model], clock: Callable[[], float]) -> None:
        self._models = models
        self.clock = clock
        self._headers: Mapping[str, str] = {}
        self._errand: Errand | None = None
        self._model: Model | None = None
        self._number = 0
        self.is_settled = False
        """Whether it was written; until then the stream must not end cleanly."""

    def receive(self, event: Event) -> list[Step]:
        """What to do about Envoy's next message."""
        match event:
            case RequestHeaders():
                return self._on_headers(event)
            case RequestBody(data):
                return self._on_body(data)
            case RequestTrailers():
                return [Reply("request_trailers")]
            case _:
                return [Fail("an answer's message came on an attempt's stream")]

    def _on_headers(self, event: RequestHeaders) -> list[Step]:
        errand = heard(event.metadata)
        if errand is None:
            return [Fail("an attempt came without its plan; forward the namespace wissel.attempts")]
        number = event.headers.get("x-envoy-attempt-count", "")
        if not number.isdecimal() or event.end_of_stream:
            return [Fail("an attempt came without its number or its body")]
        self._number = min(max(1, int(number)), len(errand.models))
        missing = [name for name in errand.models[: self._number] if name not in self._models]
        if missing:
            return [Fail(f"the plan names {missing[0]}, which this configuration does not have")]
        model = self._models[errand.models[self._number - 1]]
        if model.cluster != errand.clusters[self._number - 1]:
            # Its credential is for whoever is there now, and Envoy goes where the plan says.
            return [Fail(f"the model {model.name} is in another cluster than when the plan was made")]
        if self.clock() > errand.until:
            self.is_settled = True
            refusal = for_denied(overdue(self._number - 1), request_id=errand.request_id, api=APIS.get(errand.api))
            return [Refuse(refusal, {})]
        self._errand, self._headers = errand, event.headers
        self._model = model
        return [Reply("request_headers")]

    def _on_body(self, data: bytes | bytearray) -> list[Step]:
        errand, model = self._errand, self._model
        if errand is None or model is None or self.is_settled:
            return [Fail("an attempt's body came before its headers, or twice")]
        start, end = errand.model_at
        if not _is_text(data[start:end]):
            return [Fail("the body is not the one that the plan was made for")]
        edits = errand.edits[self._number - 1]
        body = spliced(data, (Splice(start, end, json.dumps(model.upstream_model)), *edits))
        self.is_settled = True
        return [Reply("request_body", self._mutation(errand, model, body))]

    def _mutation(self, errand: Errand, model: Model, body: Written) -> Mutation:
        before = [self._models[name] for name in errand.models[: self._number - 1]]
        caller = ANONYMOUS if errand.is_anonymous else _KNOWN
        shown = {name for each in before for name in shown_in(each, errand.api)}
        shown.update(*errand.shown[: self._number - 1])
        stale = shown - set(errand.kept)
        if not all(shows_callers_credential(each, caller) for each in (*before, model)):
            stale |= set(CREDENTIAL_HEADERS)
        fresh = {name: value for name, value in self._headers.items() if name not in stale}
        ours, withheld = headers_for(model, errand.api, fresh, caller)
        ours |= {
            CLUSTER_HEADER: model.cluster,
            MODEL_HEADER: model.name,
            REWRITTEN_HEADER: str(self._number),
            ":path": path_for(model, errand.path, model.upstream_model),
        }
        if "content-length" in self._headers:
            ours["content-length"] = str(size_of(body))
        gone = {*withheld, *stale} - ours.keys()
        return Mutation(ours, tuple(name for name in self._headers if name in gone), body=body)


def _is_text(value: bytes | bytearray) -> bool:
    return len(value) >= 2 and value[:1] == value[-1:] == b'"'
