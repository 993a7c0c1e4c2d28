from wissel.config import named_files

EVERY_PLACE = b"""
models: [{name: m, cluster: c, credential: {file: upstream}}]
redis: {url: {file: redis}}
admin: {token: {file: token}, viewer_token: {env: NOT_A_FILE}, tls: {cert: a.pem, key: a.key, client_ca: a.ca}}
listen: {tls: {cert: p.pem, key: p.key}}
access:
  jwt:
    - {issuer: i, audience: [w], jwks: keys.json}
    - {issuer: j, audience: [w], jwks: "https://id.example/jwks"}
"""


def test_every_file_that_the_document_names_is_known():
    named = {"upstream", "redis", "token", "a.pem", "a.key", "a.ca", "p.pem", "p.key", "keys.json"}

    assert named_files(EVERY_PLACE) == named


def test_so_it_is_where_the_document_is_refused():
    assert named_files(b"nonsense: [{deep: {file: secret}}]\nmodels: 7") == {"secret"}


def test_what_is_no_yaml_names_none():
    assert named_files(b"models: [") == frozenset()


def test_what_wissel_publishes_and_what_envoy_reads_is_not_followed():
    assert named_files(b"envoy: {discovery: {rest: 'w:1', file: clusters.json, token: {file: token}}}") == frozenset()
