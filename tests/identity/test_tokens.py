"""Tokens as attackers make them, and issuers as they fail."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from signers import FORGER, SIGNER
from wissel.core.access import Principal
from wissel.core.snapshot import TokenIssuer
from wissel.errors import UpstreamError
from wissel.identity.jwks import KeySet, keys_of
from wissel.identity.tokens import MOST_BYTES, KeySets, Tokens

RSA, OTHER, EC = SIGNER, FORGER, ec.generate_private_key(ec.SECP256R1())
ISSUER = TokenIssuer("https://id", ("wissel",), "keys", frozenset({"RS256", "ES256"}), groups_claim="realm.roles")


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


SET = {"keys": [jwk(RSA, "r1"), jwk(EC, "e1", alg="ES256")]}


def tokens(document: Any = SET, issuer: TokenIssuer = ISSUER, **changed: Any) -> Tokens:
    keys = KeySet("keys")
    keys._keys = keys_of(json.dumps(document).encode(), "keys")
    return Tokens((replace(issuer, **changed),), {"keys": keys})


def sign(key: Any = RSA, algorithm: str = "RS256", *, kid: str | None = "r1", **claims: Any) -> str:
    now = time.time()  # of the collection: the whole suite may pass before the test runs
    payload = {"iss": "https://id", "aud": "wissel", "sub": "ada", "exp": now + 7200, "nbf": now - 60, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm, headers={} if kid is None else {"kid": kid})


def unsigned(**header: Any) -> str:
    head, payload, _ = sign().split(".")
    head = jwt.utils.base64url_encode(json.dumps({"typ": "JWT", **header}).encode()).decode()
    return f"{head}.{payload}."


@pytest.mark.parametrize("token", [sign(), sign(EC, "ES256", kid="e1"), sign(aud=["other", "wissel"]), sign(nbf=None)])
def test_a_good_token_speaks_for_its_subject(token):
    found = tokens().verify(token)

    assert isinstance(found, Principal)
    assert found.id == "jwt:ada"


def test_groups_and_claims_come_along():
    found = tokens().verify(sign(realm={"roles": ["eng"]}, org={"id": 7}))

    assert (found.groups, found.claims["org.id"]) == (frozenset({"eng"}), "7")


PUBLIC_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed_with_the_public_key() -> str:
    """HS256 with the bytes of the public key as the secret: PyJWT will not make it, so it is made by hand."""
    import hashlib  # only an attacker needs it
    import hmac

    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": "r1"}).encode()).decode()
    text = f"{head}.{sign().split('.')[1]}"
    mac = hmac.new(PUBLIC_PEM, text.encode(), hashlib.sha256).digest()
    return f"{text}.{jwt.utils.base64url_encode(mac).decode()}"


def tampered() -> str:
    head, _, signature = sign().split(".")
    return f"{head}.{sign(sub='admin').split('.')[1]}.{signature}"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (unsigned(alg="none"), "the token's algorithm is not allowed"),
        (unsigned(alg="None", kid="r1"), "the token's algorithm is not allowed"),
        (unsigned(), "the token's algorithm is not allowed"),
        (unsigned(alg="RS256", kid="r1"), "the token's signature is wrong"),
        (signed_with_the_public_key(), "the token's algorithm is not allowed"),
        (sign(RSA, "RS512"), "the token's algorithm is not allowed"),
        (sign(kid="r2"), "the token's key is not known"),
        (sign(OTHER, kid=None), "the token's signature is wrong"),
        (sign(OTHER), "the token's signature is wrong"),
        (tampered(), "the token's signature is wrong"),
        (sign(kid="e1"), "the token's algorithm is not its key's"),
        (sign(EC, "ES256", kid="r1"), "the token cannot be read"),
        (sign(aud="other"), "the token is for another audience"),
        (sign(aud=None), 'the token has no "aud"'),
        (sign(iss="https://evil"), "the token's issuer is not known here"),
        (sign(iss=None), "the token's issuer is not known here"),
        (sign(exp=time.time() - 60), "the token has expired"),
        (sign(exp=None), 'the token has no "exp"'),
        (sign(nbf=time.time() + 7200), "the token is not valid yet"),
        (sign(iat=time.time() + 7200), "the token is not valid yet"),
        (sign(sub=None), 'the token has no "sub"'),
        (sign(sub=""), 'the token has no "sub"'),
        (sign(x="y" * MOST_BYTES), f"the token is longer than {MOST_BYTES} bytes"),
        ("a.b.c", "the token cannot be read"),
        ("..", "the token cannot be read"),
    ],
)  # fmt: skip
def test_an_attack_is_refused(token, reason):
    assert tokens().verify(token) == reason


@pytest.mark.parametrize("name", ["half \ud83d", "x" * 201])
def test_a_subject_that_cannot_be_written_is_refused(name):
    assert tokens().verify(sign(sub=name)) == 'the token\'s "sub" is longer than 200 characters, or no text'


def test_a_refusal_repeats_nothing_of_the_token():
    assert "canary" not in str(tokens().verify(sign(iss="canary")))


def test_a_nested_bomb_is_refused():
    body = jwt.utils.base64url_encode(b"[" * 5000).decode()
    head = sign().split(".")[0]

    assert tokens().verify(f"{head}.{body}.x") == "the token cannot be read"


def test_a_secret_in_a_key_set_is_left_out():
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}

    found = keys_of(json.dumps({"keys": [secret, jwk(RSA, "r1"), jwk(EC, "x", use="enc")]}).encode(), "f")

    assert [key.kid for key in found] == ["r1"]


def test_a_set_in_which_no_key_is_left_is_an_error():
    with pytest.raises(UpstreamError, match="has no key to verify signatures with"):
        keys_of(b'{"keys": []}', "f")


def without_ids(*keys):
    return json.dumps({"keys": [{name: value for name, value in key.items() if name != "kid"} for key in keys]})


@pytest.mark.parametrize("kid", [None, "r1"])
async def test_keys_that_have_no_id_are_tried_in_turn(tmp_path, kid):
    path = tmp_path / "jwks.json"
    path.write_text(without_ids(jwk(EC, "e1"), jwk(RSA, "r1")))
    keys = KeySet(str(path))
    await keys.refresh()

    found = Tokens((ISSUER,), {ISSUER.jwks: keys}).verify(sign(kid=kid))

    assert isinstance(found, Principal)
    assert found.id == "jwt:ada"


async def test_a_token_without_an_id_makes_missing_keys_be_looked_for(tmp_path):
    path = tmp_path / "jwks.json"
    keys = KeySet(str(path), hurry=0.01)
    await keys.start()
    following = asyncio.create_task(keys.run())
    path.write_text(without_ids(jwk(RSA, "r1")))
    keys.find(None)
    async with asyncio.timeout(5):
        while not keys.find(None):  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)
    following.cancel()

    assert len(keys.find(None)) == 1


@pytest.mark.parametrize(("skew", "is_taken"), [(5.0, False), (60.0, True)])
def test_an_issuers_clock_may_differ_as_far_as_the_file_says(skew, is_taken):
    found = tokens(clock_skew=skew).verify(sign(exp=int(time.time()) - 30))

    assert isinstance(found, Principal) == is_taken


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"keys": 7}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set_is_an_error(raw):
    with pytest.raises(UpstreamError, match="is no JWK set"):
        keys_of(raw, "f")


async def test_keys_come_from_a_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(SET))
    keys = KeySet(str(path))
    await keys.refresh()

    assert keys.find("r1") is not None


class Server:
    """An issuer's server that does as it is told."""

    def __init__(self) -> None:
        self.document: Any = SET
        self.status = 200
        self.wait = 0.0
        self.asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.wait)
        return web.json_response(self.document, status=self.status)


@pytest.fixture
async def server():
    issuer = Server()
    application = web.Application()
    application.router.add_get("/jwks", issuer.answer)
    async with TestServer(application) as running:
        issuer.url = str(running.make_url("/jwks"))
        yield issuer


async def test_a_slow_issuer_costs_no_more_than_the_deadline_and_the_known_keys_stay(server):
    keys = KeySet(server.url, deadline=0.1)
    await keys.refresh()
    server.wait = 5
    began = time.perf_counter()
    await keys.start()

    assert time.perf_counter() - began < 2
    assert keys.find("r1") is not None


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_an_issuer_that_fails_leaves_the_known_keys(server, status):
    keys = KeySet(server.url)
    await keys.refresh()
    server.status, server.document = status, {"keys": []}
    await keys.start()

    assert keys.find("r1") is not None


async def test_an_issuer_that_is_down_at_the_start_refuses_every_token_and_nothing_else():
    sets = KeySets()
    down = TokenIssuer("https://id", ("wissel",), "http://127.0.0.1:1/jwks", frozenset({"RS256"}))
    found = await sets.tokens((down,))
    await sets.close()

    assert found.verify(sign()) == "the token's key is not known"


async def test_a_rotated_key_is_looked_for_and_found(server):
    sets = KeySets(hurry=0.05)
    found = await sets.tokens((TokenIssuer("https://id", ("wissel",), server.url, frozenset({"RS256"})),))
    server.document = {"keys": [jwk(OTHER, "r2")]}
    first = found.verify(sign(OTHER, kid="r2"))
    for _ in range(100):
        if isinstance(found.verify(sign(OTHER, kid="r2")), Principal):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the new key was not found")
    await sets.close()

    assert first == "the token's key is not known"
    assert found.verify(sign()) == "the token's key is not known"


async def test_made_up_keys_do_not_make_a_crowd_at_the_issuer(server):
    sets = KeySets()
    found = await sets.tokens((TokenIssuer("https://id", ("wissel",), server.url, frozenset({"RS256"})),))
    for number in range(200):
        found.verify(sign(OTHER, kid=f"x{number % 7}"))
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    await sets.close()

    assert server.asked == 1
