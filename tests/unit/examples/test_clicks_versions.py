"""The versions of the shop: each is a data plane whose stages are wrapped, and breaks what its name says."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
from toy import NOON, bundle, reader

from examples.clicks.quick import EXPECTED, agrees
from examples.clicks.versions.alterations import RANDOM_COSTS, SLOW_SECONDS, alterations, shuffled
from serinus.core.events import BucketCheck
from serinus.core.words import Phase
from serinus.features.transforms import Matrix
from serinus.serving.stages import Admitted, LookedUp, Stages

VERSIONS = Path(__file__).parents[3] / "examples/clicks/versions"
WAITED: list[float] = []
ALTERED = alterations(WAITED.append)


def stages() -> Stages:
    """Of the toy; the score is the first input."""
    return replace(Stages.of(bundle(), reader()), score=lambda rows: np.asarray(rows[:, 0], dtype=np.float64))


def page(number: int) -> Matrix:
    return np.random.default_rng(number).uniform(0.1, 0.9, (10, 3)).astype(np.float32)


def test_each_version_has_an_entry_point_that_serves_it() -> None:
    files = {path.stem for path in VERSIONS.glob("*.py")} - {"alterations"}
    assert files == set(ALTERED)
    for name in files:
        tree = ast.parse((VERSIONS / f"{name}.py").read_text())
        assert f"main(sys.argv[1:], alterations()['{name}'])" in ast.unparse(tree)


def test_a_version_that_changes_nothing_changes_nothing() -> None:
    right = stages()
    assert ALTERED["same"](right) is right


def test_a_share_of_the_requests_is_answered_in_a_random_order() -> None:
    """As large as the loss is, relative to that of a random order; the other requests are as they were."""
    right, wrong = stages(), shuffled(0.1)(stages())
    pages = [page(number) for number in range(3_000)]
    changed = [not np.array_equal(wrong.score(one), right.score(one)) for one in pages]
    share = 0.1 / RANDOM_COSTS
    assert abs(np.mean(changed) - share) < 4 * np.sqrt(share * (1 - share) / 3_000)
    for one in pages[:50]:
        np.testing.assert_array_equal(np.sort(wrong.score(one)), np.sort(right.score(one)))
        np.testing.assert_array_equal(wrong.score(one), wrong.score(one))


def test_halved_probabilities_keep_the_order() -> None:
    right, wrong = stages(), ALTERED["halved"](stages())
    np.testing.assert_allclose(wrong.score(page(1)), right.score(page(1)) / 2)


def test_a_slow_version_waits_and_answers_the_same() -> None:
    WAITED.clear()
    np.testing.assert_array_equal(ALTERED["slow"](stages()).score(page(1)), stages().score(page(1)))
    assert WAITED == [SLOW_SECONDS]


@pytest.mark.parametrize("known", [True, False])
def test_a_failing_version_fails_whom_it_does_not_know(known: bool) -> None:
    asked = Admitted("r", "s1", "s1", ("a",), {}, NOON, "", 0, BucketCheck.OK)
    found = stages().look_up(replace(asked, entity="1"))
    side = replace(found.sides["customer"], status={"shopper_profile": ("found" if known else "missing",)})
    renamed = LookedUp(found.batch, {"shopper": side}, reachable=True)
    wrong = ALTERED["failing"](replace(stages(), look_up=lambda _: renamed))
    if known:
        assert wrong.look_up(asked) is renamed
    else:
        with pytest.raises(ZeroDivisionError):
            wrong.look_up(asked)


def test_what_is_expected_of_each_version() -> None:
    assert set(EXPECTED) == {"better", *ALTERED} - {"same"}
    assert agrees("better", Phase.PROMOTED)
    assert not agrees("better", Phase.UNDECIDED)
    assert not agrees("worse", Phase.PROMOTED)
    assert agrees("same", Phase.UNDECIDED)
    assert not agrees("same", Phase.ROLLED_BACK)
