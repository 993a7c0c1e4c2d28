"""What an answer tells the router on its way, beside going on to its caller."""

from wissel.core.decision import Decision, Routed
from wissel.core.request import Head
from wissel.extproc.events import Heed, Made, Step, Unmade
from wissel.extproc.response import Response


def heard(response: Response, decision: Decision | None) -> list[Step]:
    """To be done before the bytes that tell it go on: the caller's next request is to find it done."""
    if not isinstance(decision, Routed):
        return []
    made = response.name() if decision.thread is not None else None
    fallback = response.model if response.model is not decision.model else None
    heeds = [Heed(response.model)] if response.model is not None and response.objects_to_us else []
    return [*heeds, *([Made(made, fallback)] if made is not None else [])]


def deleted(head: Head | None, status: str) -> list[Step]:
    """An answer that its server has deleted is forgotten."""
    is_deleted = head is not None and head.about is not None and head.method == "DELETE" and status.startswith("2")
    return [Unmade(head.about)] if is_deleted and head and head.about else []
