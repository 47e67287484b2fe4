"""What a predictor loads: nothing heavy of ours, and of the heavy things only what KServe itself brings."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("pandas", "mlflow", "kfp", "great_expectations", "feast", "duckdb", "sklearn", "matplotlib")
OURS = "serinus.wiring.serve, serinus.serving.plane, serinus.serving.exposures, serinus.features.redis_store"


def _loaded(modules: str) -> set[str]:
    script = f"import sys; sys.argv = ['x']; import {modules}; import json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_our_serving_code_loads_nothing_heavy() -> None:
    assert _loaded(OURS) & set(HEAVY) == set()


def test_a_predictor_that_writes_to_redis_needs_no_pyarrow() -> None:
    """Its image has none. KServe brings pandas, which takes pyarrow where it is and does without elsewhere."""
    assert "pyarrow" not in _loaded(f"{OURS}, serinus.evidence.redis_streams")


def test_the_collector_loads_neither_what_trains_nor_what_serves() -> None:
    assert _loaded("serinus.wiring.collect") & {*HEAVY, "lightgbm", "kserve", "grpc"} == set()


def test_with_kserve_only_what_kserve_brings_is_added() -> None:
    kserve = _loaded("kserve, kserve.protocol.rest.v2_endpoints, kserve.protocol.grpc.server")
    assert kserve & set(HEAVY) == {"pandas"}, "KServe brings something else now: tell it in docs/reference/serving.md"
    whole = _loaded(f"{OURS}, serinus.serving.kserve_server")
    assert whole & set(HEAVY) == {"pandas"}
