"""The manifests of the first service, `tests/cluster/first/`: `first_manifests.py [HOME]` writes them.

Invariant: they follow from the hashes of two bundles alone, which are the same on every machine of one kind; so the
folder is committed and can be applied as it is. Another kind of CPU may train other bytes: with a HOME, the folder is
written for the bundles that are there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from serinus.core.revision import revision_name
from serinus.core.rollout.route import Route
from serinus.rollout.http_route import Parent, http_route
from tests.cluster.capabilities import GATEWAY_CLASS
from tests.cluster.first_parts import Document, claim, collector, job_of_features, redis, serving_runtime, store_loader
from tests.cluster.trained import ROOT, Bundles, finished

FOLDER = Path(__file__).parent / "first"
SERVICE, CLAIM, GATEWAY = "retail", "serinus", "serinus"
# A service's constant, as a deployment draws it once; here everybody may know it.
SALT = "5e81f0aa17c29b64"
SEED, WEIGHT, HOLD_BACK = 20111209, 20, 1
STABLE_REPLICAS = 2
FEATURES, EVENTS = "redis://features:6379/0", "redis://events:6379/0"
# The log is of 2011: requests say when they are, or every feature would have expired.
SERVED = {
    "service": SERVICE, "salt": SALT, "storage_uri": "/mnt/models", "online": FEATURES, "events": EVENTS,
    "writers": "/tmp/writers", "host": "0.0.0.0", "http_port": 8080, "grpc_port": 8081, "accept_event_time": True,
    "covariates": ["customer_profile:visits"],
}  # fmt: skip
_HEAD = (
    "# {}\n# Written by `python -m tests.cluster.first_manifests`; docs/how-to/kubernetes.md says how to apply it.\n"
)


def main(arguments: list[str]) -> int:
    """Writes the folder for the bundles of a home, or anew for those that it names already."""
    bundles = finished(Path(arguments[0])).bundles if arguments else committed()
    for path, text in rendered(bundles).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


def committed() -> Bundles:
    """The bundles that the folder names."""
    documents = yaml.safe_load_all((FOLDER / "revisions.yaml").read_text(encoding="utf-8"))
    return Bundles(
        {
            int(one["metadata"]["labels"]["serinus.dev/version"]): one["spec"]["predictor"]["model"][
                "storageUri"
            ].rpartition("/")[2]
            for one in documents
        }
    )


def rendered(bundles: Bundles, folder: Path = FOLDER) -> dict[Path, str]:
    """The files: text by path. What is below `store` goes first, and is filled before the rest."""
    revisions = [_revision(version, digest) for version, digest in sorted(bundles.digests.items())]
    files: dict[str, tuple[str, Iterable[Document]]] = {
        "store/claim.yaml": (
            "What runs leave: bundles, features, Feast's registry; and a pod by which it is filled.",
            (claim(CLAIM, "1Gi"), store_loader(CLAIM)),
        ),
        "features.yaml": (
            "The online store, and the job that loads it. Its Redis keeps what it has over a restart.",
            (*redis("features", ("--appendfsync", "everysec")), job_of_features(SERVICE, FEATURES, CLAIM)),
        ),
        "events.yaml": (
            "The event log: acknowledged is on disk. The collector drains it to files.",
            (
                *redis("events", ("--appendfsync", "always", "--no-appendfsync-on-rewrite", "no")),
                *collector(SERVICE, EVENTS),
            ),
        ),
        "runtime.yaml": ("How a bundle is served.", (serving_runtime(),)),
        "revisions.yaml": ("One InferenceService a revision: the linear version, and the chosen one.", revisions),
        "route.yaml": (
            f"{100 - WEIGHT} % of the buckets to the first revision, {WEIGHT} % to the second.",
            (_gateway(), http_route(route(revision_names(bundles)), Parent(GATEWAY))),
        ),
    }
    return {folder / name: _file(title, documents) for name, (title, documents) in files.items()}


def revision_names(bundles: Bundles) -> list[str]:
    """By rising version."""
    return [_revision(*one)["metadata"]["name"] for one in sorted(bundles.digests.items())]


def route(revisions: list[str], weight: int = WEIGHT) -> Route:
    """Stable is the first."""
    return Route(
        service=SERVICE,
        rollout="by-hand",
        number=1,
        stable=revisions[0],
        canary=revisions[1],
        weight=weight,
        seed=SEED,
        hold_back=HOLD_BACK,
    )


def settings(version: int, revision: str) -> dict[str, Any]:
    """The predictor's settings document in its pod."""
    return SERVED | {"version": str(version), "revision": revision}


def _revision(version: int, digest: str) -> Document:
    uri = f"pvc://{CLAIM}/bundles/{SERVICE}/{digest}"
    # What else decides the answers of a revision, and is known before its name.
    template = json.dumps([serving_runtime()["spec"], SERVED], sort_keys=True)
    name = revision_name(SERVICE, str(version), uri, template)
    model = {
        "modelFormat": {"name": "serinus"},
        "runtime": "serinus",
        "protocolVersion": "v2",
        "storageUri": uri,
        "args": [json.dumps(settings(version, name))],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {
                "serinus.dev/service": SERVICE,
                "serinus.dev/version": str(version),
                "networking.kserve.io/visibility": "cluster-local",
            },
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "none",
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": STABLE_REPLICAS if version == 1 else 1,
                "automountServiceAccountToken": False,
                "model": model,
            }
        },
    }


def _gateway() -> Document:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY},
        "spec": {
            "gatewayClassName": GATEWAY_CLASS,
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
        },
    }


def _file(title: str, documents: Iterable[Document]) -> str:
    parts = [yaml.dump(one, Dumper=_Plain, sort_keys=False, width=1_000_000) for one in documents]
    return _HEAD.format(title) + "---\n".join(parts)


class _Plain(yaml.SafeDumper):
    """Without anchors for what documents share."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
