"""The faulty predictors of examples/: faults of serving alone, behind every gate; and no switch for one in serinus/."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from toy import NOON, SALT, MemoryLog, bundle, reader

from serinus.core.card import Problem
from serinus.core.events import BucketCheck
from serinus.core.names import ServiceRef
from serinus.features.transforms import Matrix
from serinus.serving.answer import Answer
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane, unaltered
from serinus.serving.recorder import Identity
from serinus.serving.request import Caller, Instance
from serinus.serving.stages import Admitted, LookedUp, Stages
from serinus.wiring.settings import ServeSettings

ROOT = Path(__file__).parents[3]
FAULTS = ROOT / "examples/faults"
ITEMS = ("a", "b", "c")
# The inputs of the toy, as if what it knows of an item were the customer's history with it.
NAMES = ("c_visits", "c_recency", "x_lines", "t_hour")


class Named:
    """The toy's transform under other names."""

    names = NAMES

    def __init__(self, right: Callable[[LookedUp], Matrix]) -> None:
        self._right = right

    def __call__(self, found: LookedUp) -> Matrix:
        return self._right(found)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FAULTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sound() -> Stages:
    right = Stages.of(bundle(), reader())
    return Stages(right.look_up, Named(right.transform), right.score)


def looked_up(stages: Stages) -> LookedUp:
    return stages.look_up(Admitted("r", "1", "1", ITEMS, {}, NOON, "", 0, BucketCheck.OK))


def answer(alter: Callable[[Stages], Stages]) -> tuple[Answer, MemoryLog]:
    """Of a data plane over a sound bundle."""
    log, held = MemoryLog(), bundle()
    plane = DataPlane(
        Identity(ServiceRef("default", "toy"), SALT, "3", "toy-v3-abcdef"),
        held,
        reader(),
        log,
        ServingMetrics(CollectorRegistry()),
        alter=alter,
        now=lambda: NOON,
    )
    plane.bundle.require_parity()
    return plane.answer(Instance(entity="1", items=ITEMS), Caller()), log


class TestWrongItem:
    def test_only_what_joins_customer_and_item_is_of_the_item_before(self) -> None:
        right = sound()
        wrong = example("wrong_item").shifted(right)
        found = looked_up(right)
        before, after = right.transform(found), wrong.transform(found)
        column = NAMES.index("x_lines")
        assert len(set(before[:, column].tolist())) == 3
        np.testing.assert_array_equal(after[:, column], np.roll(before[:, column], 1))
        others = [place for place in range(len(NAMES)) if place != column]
        np.testing.assert_array_equal(after[:, others], before[:, others])
        assert (wrong.look_up, wrong.score) == (right.look_up, right.score)

    def test_the_bundle_is_sound_and_the_ranking_is_not(self) -> None:
        module = example("wrong_item")
        good, _ = answer(lambda stages: Stages(stages.look_up, Named(stages.transform), stages.score))
        bad, log = answer(lambda stages: module.shifted(Stages(stages.look_up, Named(stages.transform), stages.score)))
        assert sorted(good.items) == sorted(bad.items)
        assert good.items != bad.items
        assert (log.exposures[0].error, log.exposures[0].defaulted) == ("", 1)  # nothing tells of it

    def test_the_inputs_of_retail_have_such_columns(self) -> None:
        """Else the fault would be none."""
        retail = (ROOT / "problems/retail").glob("*.py")
        names = {name for path in [*retail, *(ROOT / "feature_repo").glob("*.py")] for name in _texts(path)}
        assert {name for name in names if re.fullmatch(r"x_[a-z_0-9]+", name)}


class TestLostCorrection:
    @pytest.fixture
    def begins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "pushed"
        monkeypatch.setenv("FAULT_BEGINS_WITH", str(path))
        return path

    def test_it_begins_while_serving(self, begins: Path) -> None:
        module, right = example("lost_correction"), sound()
        wrong = module.uncorrected(right)
        rows = right.transform(looked_up(right))
        np.testing.assert_array_equal(wrong.score(rows), right.score(rows))
        begins.touch()
        found = wrong.score(rows)
        odds, known = found / (1 - found), right.score(rows) / (1 - right.score(rows))
        np.testing.assert_allclose(odds, known / module.KEPT)
        assert (wrong.look_up, wrong.transform) == (right.look_up, right.transform)

    def test_the_ranking_is_as_good_as_it_was(self, begins: Path) -> None:
        begins.touch()
        good, _ = answer(unaltered)
        bad, log = answer(example("lost_correction").uncorrected)
        assert bad.items == good.items
        assert all(worse > right for worse, right in zip(bad.probabilities, good.probabilities, strict=True))
        assert log.exposures[0].error == ""

    def test_it_loses_what_training_did(self, retail_card: Problem) -> None:
        assert retail_card.data.negative_sampling_rate == example("lost_correction").KEPT


@pytest.mark.parametrize("path", sorted(FAULTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_faulty_predictor_is_an_entry_point_that_wraps_the_stages(path: Path) -> None:
    """It starts the one server that there is, and imports nothing that could touch the bundle."""
    tree = ast.parse(path.read_text())
    imported = {one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    assert "serinus.wiring.serve" in imported
    assert not {one for one in imported if one and one.startswith(("serinus.model", "serinus.training"))}
    assert ast.unparse(tree).count("main(sys.argv[1:], ") == 1


# --- no switch


SOURCES = sorted((ROOT / "serinus").rglob("*.py"))
SERVING = [
    path
    for path in SOURCES
    if path.relative_to(ROOT / "serinus").parts[0] in ("serving", "model", "features", "client", "core")
] + [ROOT / "serinus/wiring/serve.py", ROOT / "serinus/wiring/settings.py"]


def _texts(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 100
    assert len(SERVING) > 40


def test_nothing_in_serinus_knows_a_fault_of_the_examples() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        modules = {one.module or "" for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
        modules |= {name.name for one in ast.walk(tree) if isinstance(one, ast.Import) for name in one.names}
        assert not {name for name in modules if name.split(".")[0] == "examples"}, path
        mentioned = {text for text in _texts(path) if "FAULT_" in text or "examples/faults" in text}
        # Only the demo names an entry point, as a user would on the command line.
        assert not mentioned or (path.parent.name == "wiring" and path.stem.startswith("demo")), path


def test_stages_are_altered_by_an_entry_point_alone() -> None:
    """`alter` is handed on from the entry point to the plane; its one default alters nothing."""
    stages = sound()
    assert unaltered(stages) is stages
    handed_on = 0
    for path in SOURCES:
        for one in ast.walk(ast.parse(path.read_text())):
            if isinstance(one, ast.Call):
                given = [word.value for word in one.keywords if word.arg == "alter"]
                if isinstance(one.func, ast.Name) and one.func.id in ("serve", "main") and path.stem == "serve":
                    given += one.args[1:]
                assert all(isinstance(word, ast.Name) and word.id == "alter" for word in given), (path, one.lineno)
                handed_on += len(given)
            if isinstance(one, ast.FunctionDef):
                arguments = one.args.args + one.args.kwonlyargs
                defaults = [*one.args.defaults, *(word for word in one.args.kw_defaults if word)]
                if "alter" in {word.arg for word in arguments}:
                    assert "unaltered" in {word.id for word in defaults if isinstance(word, ast.Name)}, path
    assert handed_on == 2


def test_what_serves_reads_no_environment() -> None:
    """So no variable can switch anything; KServe's log level is only set, Feast's metrics folder taken away."""
    for path in SERVING:
        tree = ast.parse(path.read_text())
        reads = [one for one in ast.walk(tree) if isinstance(one, ast.Attribute) and one.attr in ("environ", "getenv")]
        sets = [
            one.value
            for one in ast.walk(tree)
            if isinstance(one, ast.Attribute) and one.attr == "setdefault" and one.value in reads
        ]
        assert len(reads) == len(sets) or path.name == "feast_store.py", path


def test_the_settings_of_a_predictor_have_no_switch() -> None:
    suspicious = re.compile(r"fault|break|broken|inject|chaos|corrupt|sabotage|shift|alter|bug")
    assert not [name for name in ServeSettings.model_fields if suspicious.search(name)]
    assert {name for name, one in ServeSettings.model_fields.items() if one.annotation is bool} == {"accept_event_time"}


def test_no_function_that_serves_is_named_as_a_switch() -> None:
    suspicious = re.compile(r"(^|_)(break|inject|chaos|corrupt|sabotage|simulate|pretend)(_|$)")
    for path in SERVING:
        tree = ast.parse(path.read_text())
        names = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.ClassDef)}
        names |= {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
        names |= {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
        assert not {name for name in names if suspicious.search(name)}, path


def test_a_process_that_serves_imports_no_example() -> None:
    code = "import serinus.wiring.serve, sys; sys.exit('examples' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
