"""Certificates for tests, made on the spot."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, kw_only=True)
class Issued:
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """The paths of the certificate and its key."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        return certificate, key

    def client_context(self, ca_file: Path, directory: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """A client's TLS context that presents this certificate."""
        context = ssl.create_default_context(cafile=str(ca_file))
        certificate, key = self.write(directory, f"client-{self.certificate.serial_number}")
        context.load_cert_chain(certificate, key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def name(cn: str = "", organizations: Sequence[str] = (), uids: Sequence[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    if cn:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, cn))
    uid = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
    attributes.extend(x509.NameAttribute(uid, value) for value in uids)
    return x509.Name(attributes)


def new_key(kind: str = "ec") -> Key:
    if kind in ("rsa", "small"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048 if kind == "rsa" else 1024)
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    subject: x509.Name,
    issuer: Issued | None = None,
    *,
    usages: Sequence[x509.ObjectIdentifier] = (),
    ca: bool | None = False,
    start: timedelta = timedelta(hours=-1),
    end: timedelta = timedelta(days=30),
    hosts: Sequence[str] = (),
    key: Key | None = None,
    extensions: bool = True,
    path_length: int | None = None,
    more: Sequence[x509.ExtensionType] = (),
) -> Issued:
    """A certificate, self-signed without an issuer.

    Without `extensions` it has basic constraints at most; `ca=None` leaves those out. `more` is critical.
    """
    own = key or new_key()
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
    )
    signer = issuer.key if issuer else own
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    for extension in more:
        builder = builder.add_extension(extension, critical=True)
    if extensions:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
        if ca:
            builder = builder.add_extension(_key_usage(), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if hosts:
        names = [x509.IPAddress(IPv4Address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(certificate=builder.sign(signer, hashes.SHA256()), key=own)


def authority(cn: str, *, kind: str = "ec", extensions: bool = True) -> Issued:
    """A CA; without `extensions` it has basic constraints only, as `openssl req -x509` may leave it."""
    return issue(name(cn), ca=True, key=new_key(kind), extensions=extensions)


def server_for(issuer: Issued) -> Issued:
    return issue(name("server"), issuer, usages=[SERVER], hosts=["localhost", "127.0.0.1"])


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
