"""The peer of benchmarks/serving.py: KServe, Feast's client and LightGBM put together as their documentation shows.

`peer_predictor.py SETTINGS`, a JSON document with bundle, registry, online (paths) and port. It gets the same request
as ours and gives the same probabilities. Pinned to be fair: no access log, no latency log, one OpenMP thread, one
columnar Feast call for the customer and one for the items, numpy into the booster. The transforms and the calibration
are ours, because the same inputs have to come out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

# Both are read when the libraries below are imported: OpenMP's threads, and KServe's own command line.
os.environ["OMP_NUM_THREADS"] = "1"
SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
sys.argv = sys.argv[:1]

import feast  # noqa: E402
import kserve  # noqa: E402
import kserve.model_server  # noqa: E402
import lightgbm  # noqa: E402
import numpy as np  # noqa: E402
from kserve.protocol.rest.server import RESTServer  # noqa: E402

from serinus.core.calibration import Calibration  # noqa: E402
from serinus.features.batch import Batch, Column, Ragged, Side  # noqa: E402
from serinus.features.inputs import INPUTS  # noqa: E402
from serinus.features.transforms import matrix  # noqa: E402


class Peer(kserve.Model):
    """Straightforward: look up, transform, predict, sort."""

    def __init__(self, bundle: Path) -> None:
        super().__init__("peer")
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        self.inputs = INPUTS.validate_python(manifest["inputs"])
        self.calibration = Calibration.model_validate(manifest["calibration"])
        self.views = manifest["features"]["definitions"]["views"]
        self.booster = lightgbm.Booster(model_file=str(bundle / "model.txt"))
        self.store = feast_store()
        self.ready = True

    def predict(self, payload: Any, headers: Any = None) -> Any:  # noqa: ARG002 - KServe's signature
        """V1."""
        asked = payload["instances"][0]
        count = len(asked["items"])
        customer, items = self.look_up("customer", [int(asked["entity"])]), self.look_up("item", asked["items"])
        moments = np.full(count, datetime.fromisoformat(asked["as_of"]).timestamp())
        batch = Batch(customer, items, np.zeros(count, dtype=np.int64), np.arange(count), moments)
        odds = np.asarray(self.booster.predict(matrix(self.inputs, batch), raw_score=True))
        probabilities = self.calibration.probability(odds)
        order = np.argsort(-probabilities, kind="stable")
        ranked = [{"item": asked["items"][i], "probability": float(probabilities[i])} for i in order]
        return {"predictions": [{"items": ranked}]}

    def look_up(self, entity: str, ids: list[Any]) -> Side:
        """All features of some ids in one call."""
        views = [view for view in self.views if view["entity"] == entity]
        features = [(view["name"], one["name"], one["type"]) for view in views for one in view["features"]]
        refs = [f"{view}:{name}" for view, name, _ in features]
        found = self.store.get_online_features(refs, {entity: ids}, full_feature_names=True).to_dict()
        columns = {f"{view}:{name}": column(found[f"{view}__{name}"], kind) for view, name, kind in features}
        return Side(np.array([str(one) for one in ids], dtype=object), columns)


def feast_store() -> feast.FeatureStore:
    """Feast's client over the registry and the online store that ours reads, with its own defaults."""
    config = feast.RepoConfig(
        project="retail",
        provider="local",
        registry=SETTINGS["registry"],
        online_store={"type": "sqlite", "path": SETTINGS["online"]},
        entity_key_serialization_version=3,
    )
    return feast.FeatureStore(config=config)


def column(values: list[Any], kind: str) -> Column:
    """Feast's values as the transforms take them."""
    if kind.startswith("Array"):
        flat = [number(element) for one in values for element in one or []]
        offsets = np.cumsum([0, *(len(one or []) for one in values)])
        return Ragged(np.array(flat, dtype=object if kind == "Array(String)" else np.float64), offsets)
    if kind == "String":
        return np.array(values, dtype=object)
    return np.array([np.nan if one is None else number(one) for one in values], dtype=np.float64)


def number(value: Any) -> Any:
    """Times as epoch seconds."""
    return value.timestamp() if isinstance(value, datetime) else value


class Quiet(RESTServer):
    """KServe's, on this machine alone and without its access log; it has no setting for either."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.config.host, self.config.access_log = "127.0.0.1", False


if __name__ == "__main__":
    logging.disable(logging.INFO)
    kserve.model_server.RESTServer = Quiet
    server = kserve.ModelServer(http_port=SETTINGS["port"], enable_grpc=False, enable_latency_logging=False)
    server.start([Peer(Path(SETTINGS["bundle"]))])
