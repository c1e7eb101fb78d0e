"""Certificates for one run of a benchmark."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_NAME = "bench.default.svc"


def issue(directory: Path) -> None:
    """A CA, and RSA certificates under it for backend, proxy and client; `proxy.pem` and `client.pem` hold both
    certificate and key, for HAProxy."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = rsa.generate_private_key(65537, 2048)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench-ca")])

    def start(subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        return builder.not_valid_after(now + datetime.timedelta(days=1))

    ca = start(ca_name, ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (directory / "ca.crt").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    for name in ("backend", "proxy", "client"):
        key = rsa.generate_private_key(65537, 2048)
        builder = start(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME), x509.DNSName("localhost")])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
        chain = certificate.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        secret = key.private_bytes(serialization.Encoding.PEM, *form)
        for suffix, data in (("crt", chain), ("key", secret), ("pem", chain + secret)):
            (directory / f"{name}.{suffix}").write_bytes(data)
