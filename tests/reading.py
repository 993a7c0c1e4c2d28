"""Bodies read whole, as where nobody else is waiting."""

from collections.abc import Mapping

from wissel.apis import body, forms, places, requests
from wissel.apis.api import Api
from wissel.apis.body import Body, Splice
from wissel.apis.windows import whole
from wissel.core.bounds import Bounds
from wissel.core.request import Request


def read_body(data: bytes, bounds: Bounds = Bounds()) -> Body:  # noqa: B008 - it is frozen
    """Of a body as it comes, and as a large one does."""
    found = whole(body.read_body(data, bounds))
    assert whole(body.read_body(bytearray(data), bounds)).members == found.members
    return found


def understand(api: Api, path: str, headers: Mapping[str, str], found: Body, bounds: Bounds = Bounds()) -> Request:  # noqa: B008 - as above
    return whole(requests.understand(api, path, headers, found, bounds))


def models_in(data: bytes, content_type: str, bounds: Bounds = Bounds()) -> tuple[str, ...]:  # noqa: B008 - as above
    """Of a body as it comes, and as a large one does."""
    found = whole(forms.models_in(data, content_type, bounds))
    assert whole(forms.models_in(bytearray(data), content_type, bounds)) == found
    return found


def named_in_pairs(text: str) -> list[str]:
    return whole(forms.named_in_pairs(text.encode(), Bounds()))


def named_in_json(value: object) -> list[str]:
    return [name for name in places.named_in_json(value) if name is not None]


def rewritten(found: Body, name: str, *splices: Splice) -> bytes:
    written = found.with_model(name, *splices)
    return written if isinstance(written, bytes) else b"".join(written)
