"""Two RSA keys for tokens, one whose word counts and one that forges: making a key takes longer than a test with it."""

from cryptography.hazmat.primitives.asymmetric import rsa

SIGNER, FORGER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
