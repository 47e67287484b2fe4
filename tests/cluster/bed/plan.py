"""What `up` hands to the keeper: where everything is that it had made before.

Invariant: the keeper builds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.bed.places import Places


@dataclass(frozen=True)
class Plan:
    """Binaries by name, and archives of images by the names that pods use.

    `wanted`: parts to start with what they need; all when empty.
    """

    places: Places
    programs: Mapping[str, Path]
    images: Mapping[str, Path]
    envoy_image: str
    helper_image: str
    wanted: tuple[str, ...] = ()

    def write(self) -> None:
        """Into the run's folder."""
        document = {
            "cache": str(self.places.cache),
            "programs": {name: str(path) for name, path in self.programs.items()},
            "images": {name: str(path) for name, path in self.images.items()},
            "envoy_image": self.envoy_image,
            "helper_image": self.helper_image,
            "wanted": self.wanted,
        }
        self.places.plan.write_text(json.dumps(document), encoding="utf-8")

    @staticmethod
    def read(run: Path) -> Plan:
        """What `write` wrote."""
        found = json.loads((run / "plan.json").read_bytes())
        paths = {key: {name: Path(path) for name, path in found[key].items()} for key in ("programs", "images")}
        where = Places(Path(found["cache"]), run)
        return Plan(
            where,
            **paths,
            envoy_image=found["envoy_image"],
            helper_image=found["helper_image"],
            wanted=tuple(found["wanted"]),
        )
