"""The manifests that the tests apply: those of `manifests/`, and what helm makes of the chart with other values.

Invariant: nothing here is made up: what a manifest says is read from the chart, its samples, or what was rendered.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from serinus.core.names import ServiceRef
from serinus.core.rollout.route import Route

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART, MANIFESTS = Path("helm") / "serinus", Path("manifests")
BASE = MANIFESTS / "base" / "serinus.yaml"
CONSTANTS, REVISIONS = MANIFESTS / "samples" / "retail.yaml", MANIFESTS / "samples" / "retail-revisions.yaml"
OVERLAY = MANIFESTS / "overlays" / "kind"

VALUES = yaml.safe_load((ROOT / CHART / "values.yaml").read_text(encoding="utf-8"))
PREDICTOR, OPERATOR, PIPELINE = (VALUES["images"][name] for name in ("predictor", "operator", "pipeline"))
PAUSE_SECONDS = int(VALUES["predictor"]["pauseSeconds"])
SALT = yaml.safe_load((ROOT / CONSTANTS).read_text(encoding="utf-8"))["service"]["salt"]

# Of the release in namespace `serinus`.
SERVICE = "retail"
NAMESPACE = RELEASE = GATEWAY = RUNTIME = "serinus"
HOME_CLAIM, TOOLS, COLLECTOR = "serinus-home", "deployment/serinus-tools", "deployment/serinus-collector"
EVENT_LOG = "/var/lib/serinus/events"
# As the card says them, which `serinus chart` reads.
SEED, WEIGHT, HOLD_BACK = 20111209, 20, 1


def component(name: str) -> str:
    """The label of a part of the release."""
    return f"app.kubernetes.io/component={name}"


def rendered(*values: Path | Mapping[str, Any], folder: Path = ROOT, release: str = RELEASE) -> str:
    """What helm makes of the chart below `folder`, with files and documents of values. Raises `ValueError`."""
    named: list[str] = []
    for one in values:
        named += ["--values", str(one)] if isinstance(one, Path) else ["--set-json", _assignments(one)]
    command = ["helm", "template", release, str(folder / CHART), "--namespace", NAMESPACE, *named]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def documents(text: str, *kinds: str) -> list[Document]:
    """The objects of a rendered text, of some kinds or all."""
    found = [one for one in yaml.safe_load_all(text) if one]
    return [one for one in found if not kinds or one["kind"] in kinds]


def committed(folder: Path = ROOT) -> str:
    """The base as it stands."""
    return (folder / BASE).read_text(encoding="utf-8")


def by_version(text: str) -> dict[int, Document]:
    """Its revisions."""
    found = documents(text, "InferenceService")
    return {int(one["metadata"]["labels"]["serinus.dev/version"]): one for one in found}


def revision_names(text: str) -> list[str]:
    """By rising version."""
    return [one["metadata"]["name"] for _, one in sorted(by_version(text).items())]


def settings(revision: Document) -> dict[str, Any]:
    """The settings document of a revision's predictors."""
    found: dict[str, Any] = json.loads(revision["spec"]["predictor"]["model"]["args"][0])
    return found


def bundle(revision: Document) -> str:
    """The hash of its bundle."""
    return str(revision["spec"]["predictor"]["model"]["storageUri"]).rpartition("/")[2]


def route(revisions: Iterable[str], weight: int = WEIGHT, hold_back: int = HOLD_BACK) -> Route:
    """As a rollout over them would want it; stable is the first."""
    stable, canary = (*revisions, "")[:2]
    return Route(
        service=ServiceRef.parse(SERVICE), rollout="by-hand", number=1,
        stable=stable, canary=canary, weight=weight, seed=SEED,
        hold_back=hold_back,
    )  # fmt: skip


def _assignments(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={json.dumps(value)}" for key, value in values.items())
