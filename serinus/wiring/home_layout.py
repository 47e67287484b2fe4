"""Where a home keeps its services and their logs, and which release laid it out.

Invariant: a home of release 0.1, or one whose conversion was cut off, is used by nothing but the conversion.
"""

from __future__ import annotations

from pathlib import Path

from serinus.core.errors import Conflict

# Below them `<namespace>/<name>/`; in release 0.1 `<problem>/`, and `<problem>.json` beside the services.
SERVICES, EVENTS = "services", "events"
# While a conversion has taken them out, and while it puts them back; the namespace follows (`serinus.wiring.old_home`).
OUT, BACK = ".converting-", ".converted-"
# What only 0.1 has at these depths: also where somebody deleted the file of a service, as a damaged one asked for.
_OLD = (f"{SERVICES}/*.json", f"{SERVICES}/*/*.json", f"{EVENTS}/*/*/*.parquet")


def is_old(home: Path) -> bool:
    """Whether a home is of release 0.1, or its conversion was cut off."""
    return any(any(home.glob(one)) for one in (f"{OUT}*", f"{BACK}*", *_OLD))


def require_current(home: Path) -> Path:
    """The home itself. Raises `Conflict` for one of release 0.1."""
    if is_old(home):
        raise Conflict(
            f"{home} is a home of release 0.1",
            cause="its services have no namespace",
            hint="`serinus home convert` brings it here: nothing is lost, and what serves goes on serving",
        )
    return home
