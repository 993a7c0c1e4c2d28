from hashlib import sha256
from time import thread_time

import pytest

from factories import api_key, permit, snapshot
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Denied
from wissel.core.identity import flatten, forwarded_uri, groups_at, identify, public_id_of, text_at
from wissel.core.request import Head
from wissel.core.snapshot import ManagedKey, VerifiedIdentity

NOW = 1_800_000_000.0
WEB = "spiffe://mesh/ns/default/sa/web"
ENVOYS = VerifiedIdentity("envoy.filters.http.jwt_authn", "payload.sub", "payload.groups", "envoy:")
MTLS = {"connection.mtls": "True", "connection.uri_san_peer_certificate": WEB}


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def managed(secret: str = "wsl-k1-s3cret", **fields) -> dict[str, ManagedKey]:
    return {"k1": ManagedKey("k1", Principal("team-a", frozenset({"eng"})), digest(secret), **fields)}


def who(config, *, tokens=None, attributes=None, metadata=None, now=NOW, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = Head("llm", "POST", "/v1/chat/completions", named, "chat", (), attributes or {}, metadata or {})
    found = identify(config, head, now=now, tokens=tokens)
    return str(found.status) if isinstance(found, Denied) else found.id


class OnlyAda:
    def verify(self, token: str) -> Principal | str:
        return Principal("jwt:ada") if token == "a.b.c" else "the token cannot be read"


def of(**fields):
    return snapshot(rules=(permit(),), **fields)


def test_without_access_everyone_is_anonymous():
    assert who(snapshot(), authorization="Bearer x") == ANONYMOUS.id


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"authorization": "Bearer s-ada"}, "ada"),
        ({"authorization": "bearer s-ada"}, "ada"),
        ({"x_api_key": "s-ada"}, "ada"),
        ({"authorization": "Basic s-ada"}, "401"),
        ({"authorization": "Basic x", "x_api_key": "s-ada"}, "401"),
        ({"authorization": "Bearer s-adb"}, "401"),
        ({"authorization": "Bearer "}, "401"),
        ({}, "401"),
    ],
)
def test_a_key_of_the_configuration(headers, answer):
    assert who(of(keys=(api_key("s-ada"),)), **headers) == answer


def test_a_managed_key_is_found_by_its_public_id_and_checked_by_its_hash():
    config = of(managed=managed())

    assert who(config, authorization="Bearer wsl-k1-s3cret") == "team-a"
    for wrong in ("wsl-k1-s3cres", "wsl-k2-s3cret", "wsl-k1-", "wsl--s3cret", "wsl-k1", digest("wsl-k1-s3cret")):
        assert who(config, authorization=f"Bearer {wrong}") == "401"


def test_a_managed_key_expires():
    config = of(managed=managed(expires=NOW))

    assert who(config, now=NOW - 1, x_api_key="wsl-k1-s3cret") == "team-a"
    assert who(config, now=NOW, x_api_key="wsl-k1-s3cret") == "401"


def test_a_rotated_secret_goes_on_for_a_while():
    config = of(managed=managed("wsl-k1-new", previous_sha256=digest("wsl-k1-old"), previous_until=NOW))

    assert who(config, now=NOW - 1, x_api_key="wsl-k1-old") == "team-a"
    assert who(config, now=NOW, x_api_key="wsl-k1-old") == "401"
    assert who(config, now=NOW, x_api_key="wsl-k1-new") == "team-a"


def test_a_revoked_id_does_not_fall_back_to_an_empty_hash():
    assert who(of(managed=managed()), x_api_key="wsl-gone-x") == "401"


def test_a_token_is_checked_where_issuers_are_configured():
    assert who(of(), tokens=OnlyAda(), authorization="Bearer a.b.c") == "jwt:ada"
    assert who(of(), tokens=OnlyAda(), authorization="Bearer a.b.d") == "401"
    assert who(of(), authorization="Bearer a.b.c") == "401"


def test_a_peer_of_the_mesh_is_its_spiffe_id():
    assert who(of(spiffe="attributes"), attributes=MTLS) == WEB


@pytest.mark.parametrize(
    "attributes",
    [{}, {**MTLS, "connection.mtls": "False"}, {"connection.uri_san_peer_certificate": WEB},
     {**MTLS, "connection.uri_san_peer_certificate": "https://web"}],
)  # fmt: skip
def test_a_peer_without_a_verified_spiffe_id_is_nobody(attributes):
    assert who(of(spiffe="attributes"), attributes=attributes) == "401"


def test_the_mesh_is_not_asked_unless_configured():
    assert who(of(), attributes=MTLS) == "401"
    assert who(of(spiffe="attributes"), x_forwarded_client_cert=f"URI={WEB}") == "401"


def test_a_wrong_key_is_never_passed_over_for_the_mesh():
    config = of(keys=(api_key("s-ada"),), spiffe="attributes")

    assert who(config, attributes=MTLS, authorization="Bearer wrong") == "401"
    assert who(config, attributes=MTLS, authorization="Bearer s-ada") == "ada"
    assert who(config, attributes=MTLS) == WEB


def test_a_credential_for_the_upstream_does_not_hide_the_mesh_where_no_keys_are_taken():
    assert who(of(spiffe="attributes"), attributes=MTLS, authorization="Bearer sk-upstream") == WEB


@pytest.mark.parametrize(
    ("header", "uri"),
    [
        (f"URI={WEB}", WEB),
        (f'By=spiffe://a/b;Hash=00;Subject="CN=x, O=y;z";URI={WEB}', WEB),
        (f"URI=spiffe://evil/admin,Hash=1;URI={WEB}", WEB),
        (f'Subject="a\\",URI=spiffe://evil/admin";URI={WEB}', WEB),
        (f"URI=spiffe://evil/x;URI={WEB}", ""),
        (f'Subject="open;URI={WEB}', ""),
        (f'URI={WEB};Subject="open', ""),
        (f"By={WEB}", ""),
        (f"URI={WEB},Hash=1", ""),
        ("URI=https://web", ""),
        ("", ""),
    ],
)
def test_the_header_of_the_mesh_is_read_as_its_last_proxy_wrote_it(header, uri):
    assert forwarded_uri(header) == uri


def test_an_identity_that_envoy_verified_is_taken():
    metadata = {"envoy.filters.http.jwt_authn": {"payload": {"sub": "ada", "groups": ["eng"]}}}

    assert who(of(verified=ENVOYS), metadata=metadata) == "envoy:ada"
    assert (
        who(of(verified=ENVOYS, keys=(api_key("k"),)), metadata=metadata, authorization="Bearer a.b.c") == "envoy:ada"
    )
    assert who(of(verified=ENVOYS, keys=(api_key("k"),)), metadata=metadata, authorization="Bearer abc") == "401"
    assert who(of(verified=ENVOYS), metadata={"other": metadata}) == "401"
    assert who(of(), metadata=metadata) == "401"


def test_claims_are_found_by_path_and_flattened_by_dotted_names():
    claims = {"sub": "ada", "realm": {"roles": ["a", "b", 7]}, "scope": "x y", "n": 1, "ok": True, "a.b": "dots"}

    assert (text_at(claims, "sub"), text_at(claims, "realm.x"), text_at(claims, "a.b"), text_at(claims, "n")) == (
        "ada", "", "dots", "",
    )  # fmt: skip
    assert (groups_at(claims, "realm.roles"), groups_at(claims, "scope")) == ({"a", "b"}, {"x", "y"})
    assert flatten(claims) == {"sub": "ada", "scope": "x y", "n": "1", "ok": "true", "a.b": "dots"}
    assert flatten({"a": {"b": {"c": "d"}}}) == {"a.b.c": "d"}


@pytest.mark.parametrize(
    ("secret", "public"),
    [("wsl-ab-cd-ef", "ab"), ("wsl-ab", None), ("wsl--x", None), ("sk-ab-cd", None), ("wsl-a-", None)],
)
def test_the_public_part_of_a_managed_key(secret, public):
    assert public_id_of(secret) == public


@pytest.mark.parametrize(
    ("claims", "path"),
    [
        ({"https://acme.example/roles": "eng"}, "https://acme.example/roles"),
        ({"https://acme.example/auth": {"roles": "eng"}}, "https://acme.example/auth.roles"),
        ({"resource_access": {"my.client": {"roles": "eng"}}}, "resource_access.my.client.roles"),
        ({"a.b": {"c": "eng"}, "a": {"b": {"c": "other"}}}, "a.b.c"),
        ({"a.b": {}, "a": {"b": {"c": "eng"}}}, "a.b.c"),
    ],
)
def test_a_claim_is_found_whatever_dots_its_names_have(claims, path):
    assert groups_at(claims, path) == frozenset({"eng"})


def nested(depth: int) -> dict[str, object]:
    return {"a": nested(depth - 1)} if depth else {"a": "found"}


def test_claims_are_looked_for_eight_levels_down():
    assert flatten(nested(8)) == {".".join(["a"] * 9): "found"}
    assert flatten(nested(9)) == {}


def test_a_long_certificate_takes_no_time_that_grows_with_its_square():
    def seconds(size: int) -> float:
        began = thread_time()
        forwarded_uri("URI=" + "x" * size)
        return thread_time() - began

    assert min(seconds(200_000) for _ in range(3)) < 24 * min(seconds(20_000) for _ in range(3))
