"""The cluster's own certificate authority, and what it signs: servers, and the identities that RBAC knows.

Invariant: keys are made anew for each cluster and never leave its folder.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.bed.places import API_SERVER

_LIFE = timedelta(days=30)


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs for everything in the cluster; writes below `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = _name("serinus-bed", ())
        usage = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = _draft(self._name, self._name, self._key).add_extension(usage, critical=True)
        self._signed = self._certificate.sign(self._key, hashes.SHA256())
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(self._signed.public_bytes(serialization.Encoding.PEM))

    def sign(self, file: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """A pair `file`.crt, `file`.key for a user with groups, and for a server at `hosts` (names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        draft = _draft(_name(user, groups), self._name, key).add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if hosts:
            draft = draft.add_extension(x509.SubjectAlternativeName([_host(one) for one in hosts]), critical=False)
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        signed = draft.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        write_key(pair.key, key)
        return pair

    def kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user with groups."""
        pair = self.sign(path.stem, user, groups)
        return self.kubeconfig_of(path, {"client-certificate": str(pair.certificate), "client-key": str(pair.key)})

    def kubeconfig_of(self, path: Path, identity: Mapping[str, str]) -> Path:
        """A kubeconfig for who can show `identity`, in the words of kubeconfigs."""
        cluster = {"server": API_SERVER, "certificate-authority": str(self.certificate)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": "bed", "user": dict(identity)}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
            "current-context": "bed",
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """PEM, for the owner's eyes."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def signing_key(folder: Path) -> Pair:
    """The pair by which the API server signs and checks the tokens of service accounts (public key in place of a
    certificate)."""
    key = ec.generate_private_key(ec.SECP256R1())
    pair = Pair(folder / "service-accounts.pub", folder / "service-accounts.key")
    write_key(pair.key, key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pair.certificate.write_bytes(public)
    return pair


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
