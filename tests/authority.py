"""A certificate authority for tests that speak TLS."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """An authority of its own, with its certificate in `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = str(folder / f"{name}.pem")
        certificate = self.sign(self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        Path(self.file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
        dated = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        return dated.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())

    def issued(self, name: str, subject: x509.Name, extension: x509.ExtensionType) -> str:
        """A file with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign(subject, key.public_key(), extension)
        pem = serialization.Encoding.PEM
        file = self.folder / f"{name}.pem"
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(certificate.public_bytes(pem) + private)
        return str(file)

    def server(self, name: str | None = None, address: str | None = None) -> ssl.SSLContext:
        general = x509.DNSName(name) if name else x509.IPAddress(ip_address(address or ""))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issued("server", x509.Name([]), x509.SubjectAlternativeName([general])))
        return context
