"""Where the bed keeps its files, and the addresses that it uses.

Invariant: what is expensive to make is in `cache` and named by its content; what a cluster writes is in `run` and is
gone when the cluster is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]

NODE = "bed"
NODE_ADDRESS = "10.89.0.2"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
# What programs take for granted: in the bed there is something of its own over these.
BOUND = {"/var/lib": "var-lib", "/var/log": "var-log", "/opt": "opt"}
EMPTY = ("/run", "/dev/shm")
HIDDEN = (*BOUND, *EMPTY)
_KEPT = 3


@dataclass(frozen=True)
class Places:
    """Folders of one bed."""

    cache: Path
    run: Path

    @property
    def control_group(self) -> str:
        """The name of the bed's control group in each hierarchy; another bed on the machine has another."""
        return f"serinus-bed-{blake2b(str(self.run).encode(), digest_size=3).hexdigest()}"

    @property
    def programs(self) -> Path:
        """Binaries, a folder for each content."""
        return self.cache / "programs"

    @property
    def logs(self) -> Path:
        """One file a part."""
        return self.run / "logs"

    @property
    def status(self) -> Path:
        """What the keeper says of each part."""
        return self.run / "status.json"

    @property
    def plan(self) -> Path:
        """What the keeper is to do; the mark of a bed's folder."""
        return self.run / "plan.json"

    @property
    def pki(self) -> Path:
        """Certificates, keys and kubeconfigs of the parts."""
        return self.run / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.run / "kubeconfig"


def places(environ: Mapping[str, str] | None = None) -> Places:
    """`SERINUS_BED_CACHE` (default ~/.cache/serinus-bed) and `SERINUS_BED_HOME` (default `run` in it)."""
    env = os.environ if environ is None else environ
    cache = Path(env.get("SERINUS_BED_CACHE") or Path.home() / ".cache" / "serinus-bed").absolute()
    return Places(cache, Path(env.get("SERINUS_BED_HOME") or cache / "run").absolute())


def outdated(made: Iterable[Path]) -> list[Path]:
    """Of things made one after the other all but the newest: a running bed, or another checkout, may use those."""
    return sorted(made, key=lambda path: path.stat().st_mtime)[:-_KEPT]
