"""How to ask a component whether it is ready.

Invariant: a probe answers within seconds, and says in words what it misses; only an answer of the component itself
counts.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.cluster.bed.certificates import Pair
from tests.cluster.bed.parts import Probe

_SECONDS = 2.0


def answers(url: str, *, authority: Path | None = None, user: Pair | None = None) -> Probe:
    """An HTTP GET that gives 200, over TLS with `authority` and as `user` where these are given."""

    def probe() -> str:
        context = ssl.create_default_context(cafile=str(authority)) if authority else None
        if context and user:
            context.load_cert_chain(user.certificate, user.key)
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as answer:
                return "" if answer.status == 200 else f"{url} answers {answer.status}"
        except (urllib.error.URLError, OSError) as fault:
            return f"{url}: {fault}"

    return probe


def listens(host: str, port: int) -> Probe:
    """A TCP port that takes connections."""

    def probe() -> str:
        try:
            with socket.create_connection((host, port), _SECONDS):
                return ""
        except OSError as fault:
            return f"{host}:{port}: {fault}"

    return probe


def says(log: Path, words: str) -> Probe:
    """Words in the component's log, for one that has no port."""

    def probe() -> str:
        said = log.exists() and words in log.read_text(encoding="utf-8", errors="replace")
        return "" if said else f"it has not said {words!r} yet"

    return probe


def succeeds(*command: str) -> Probe:
    """A command that ends with 0."""

    def probe() -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return f"{command[0]} takes too long"
        return "" if done.returncode == 0 else done.stderr.strip()[-300:] or f"{command[0]} gives {done.returncode}"

    return probe


def condition(kubectl: tuple[str, ...], what: str, name: str) -> Probe:
    """A Kubernetes object, as in `node/bed`, whose condition `name` is True."""

    def probe() -> str:
        done = subprocess.run((*kubectl, "get", what, "-o", "json"), capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()[-300:]
        found = json.loads(done.stdout).get("status", {}).get("conditions") or []
        true = any(one["type"] == name and one["status"] == "True" for one in found)
        return "" if true else f"{what} is not {name}"

    return probe
