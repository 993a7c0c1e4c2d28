"""Which files a configuration names, so that they can be read again when they change.

The names come from the document as it is written and not from a `Config`: a
document that is refused names files as well, and one of them may be why.
"""

from collections.abc import Iterator

from wissel.config.document import Place, read

_PEM_PLACES = tuple((section, "tls", name) for section in ("listen", "admin") for name in ("cert", "key", "client_ca"))


def named_files(raw: bytes) -> frozenset[str]:
    """The paths of secrets, certificates and key sets in the document, as written; none where it is no YAML."""
    root, _ = read(raw)
    return frozenset((*_secrets(root), *_certificates(root), *_key_sets(root)))


def _secrets(place: Place) -> Iterator[str]:
    """Of every `{file: PATH}`, wherever it stands but where wissel or Envoy is whose file it is."""
    for name, each in place.entries():
        if name == "discovery":
            continue
        if name == "file" and each.text is not None:
            yield each.text
        yield from _secrets(each)
    for each in place.items():
        yield from _secrets(each)


def _certificates(root: Place) -> Iterator[str]:
    for section, tls, name in _PEM_PLACES:
        if (path := root[section][tls][name].text) is not None:
            yield path


def _key_sets(root: Place) -> Iterator[str]:
    for issuer in root["access"]["jwt"].items():
        source = issuer["jwks"].text
        if source is not None and not source.startswith(("https://", "http://")):
            yield source
