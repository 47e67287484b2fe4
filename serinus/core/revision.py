"""The name of an arm (D1): a model version and the way it is served.

Invariant: what serves differently has another name; the same version served twice in the same way has the same one.
"""

from __future__ import annotations

import hashlib


def revision_name(service: str, version: int | str, storage_uri: str, template: str = "") -> str:
    """`<service>-v<version>-<hash6>`; `template` is whatever else decides how the version is served."""
    digest = hashlib.sha256(f"{storage_uri}\0{template}".encode()).hexdigest()
    return f"{service}-v{version}-{digest[:6]}"
