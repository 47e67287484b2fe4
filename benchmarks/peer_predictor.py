"""The peer of benchmarks/serving.py: KServe, Feast's client and LightGBM put together as their documentation shows.

`peer_predictor.py FOLDER_OF_BUNDLE PORT`. It gets the same request as ours and gives the same probabilities. Pinned to be
fair: no access log, no latency log, one OpenMP thread, one columnar Feast call for the customer and one for the items, numpy
into the booster. The transforms are ours, because the same inputs have to come out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
BUNDLE, PORT = Path(sys.argv[1]), int(sys.argv[2])
sys.argv = sys.argv[:1]

import kserve  # noqa: E402
import lightgbm  # noqa: E402
import numpy as np  # noqa: E402

from serinus.core.calibration import Calibration  # noqa: E402
from serinus.features.batch import Batch, Column, Ragged, Side  # noqa: E402
from serinus.features.inputs import INPUTS  # noqa: E402
from serinus.features.transforms import matrix  # noqa: E402
from serinus.wiring.adapters import feature_store  # noqa: E402
from serinus.wiring.project import open_project  # noqa: E402


class Peer(kserve.Model):
    """Straightforward: look up, transform, predict, sort."""

    def __init__(self) -> None:
        super().__init__("peer")
        self.manifest = json.loads((BUNDLE / "bundle.json").read_text())
        self.inputs = INPUTS.validate_python(self.manifest["inputs"])
        self.calibration = Calibration.model_validate(self.manifest["calibration"])
        self.booster = lightgbm.Booster(model_file=str(BUNDLE / "model.txt"))
        self.store = feature_store(open_project(), "retail")._feast
        self.views = self.manifest["features"]["definitions"]["views"]
        self.ready = True

    def predict(self, payload: Any, headers: Any = None) -> Any:
        asked = payload["instances"][0]
        entity = self.look_up("customer", [int(asked["entity"])])
        items = self.look_up("item", asked["items"])
        count = len(asked["items"])
        moments = np.full(count, datetime.fromisoformat(asked["as_of"]).timestamp())
        batch = Batch(entity, items, np.zeros(count, dtype=np.int64), np.arange(count), moments)
        odds = self.booster.predict(matrix(self.inputs, batch), raw_score=True)
        probabilities = self.calibration.probability(np.asarray(odds))
        order = np.argsort(-probabilities, kind="stable")
        ranked = [{"item": asked["items"][i], "probability": float(probabilities[i])} for i in order]
        return {"predictions": [{"items": ranked}]}

    def look_up(self, entity: str, ids: list[Any]) -> Side:
        views = [view for view in self.views if view["entity"] == entity]
        refs = [f"{view['name']}:{one['name']}" for view in views for one in view["features"]]
        found = self.store.get_online_features(refs, {entity: ids}, full_feature_names=True).to_dict()
        columns = {
            f"{view['name']}:{one['name']}": column(found[f"{view['name']}__{one['name']}"], one["type"])
            for view in views
            for one in view["features"]
        }
        return Side(np.array([str(one) for one in ids], dtype=object), columns)


def column(values: list[Any], kind: str) -> Column:
    if kind.startswith("Array"):
        flat = [element for one in values for element in one or []]
        flat = [element.timestamp() if isinstance(element, datetime) else element for element in flat]
        offsets = np.cumsum([0, *(len(one or []) for one in values)])
        return Ragged(np.array(flat, dtype=object if kind == "Array(String)" else np.float64), offsets)
    if kind == "String":
        return np.array(values, dtype=object)
    numbers = [one.timestamp() if isinstance(one, datetime) else one for one in values]
    return np.array([np.nan if one is None else one for one in numbers], dtype=np.float64)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    kserve.ModelServer(http_port=PORT, enable_grpc=False, enable_latency_logging=False).start([Peer()])
