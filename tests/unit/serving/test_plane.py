"""The data plane: the bundle's own probabilities in order, flags, exposures, and requests that are refused."""

from __future__ import annotations

import math

import pytest
from conftest import Toy, make
from toy import NOON, SALT

from serinus.client import bucket_of
from serinus.core.errors import BundleError
from serinus.serving.request import BadRequest, Caller, Instance


def _ask(toy: Toy, caller: Caller | None = None, **fields: object) -> object:
    return toy.plane.answer(Instance.model_validate({"entity": "1", "items": ["a", "c"], **fields}), caller or Caller())


def _probability(visits: float, recency: float, lines: float, hour: float) -> float:
    """The toy's model by hand: weights .1 .2 .3 .4, bias -2, half of the negatives kept."""
    score = 0.1 * visits + 0.2 * recency + 0.3 * lines + 0.4 * hour - 2.0
    return 1 / (1 + math.exp(-(score + math.log(0.5))))


def test_items_come_by_falling_probability_as_the_model_says(ranking: Toy) -> None:
    answer = _ask(ranking, items=["a", "c"], request_id="r1")
    assert answer.items == ("c", "a")
    expected = (_probability(3, 2.5, 4, 12), _probability(3, 2.5, 1, 12))
    assert answer.probabilities == pytest.approx(expected, abs=1e-6)
    assert answer.flags.as_dict() == {"bucket": "missing", "cold_start": False}


def test_ties_keep_the_order_of_the_request(ranking: Toy) -> None:
    assert _ask(ranking, items=["y", "x", "z"]).items == ("y", "x", "z")


def test_an_unknown_entity_gets_the_defaults_and_is_flagged(ranking: Toy) -> None:
    answer = _ask(ranking, entity="nobody", items=["a"])
    assert answer.probabilities[0] == pytest.approx(_probability(0, 9, 1, 12), abs=1e-6)
    assert answer.flags.cold_start
    assert answer.flags.defaulted == {"profile": 1}
    assert ranking.count("serinus_cold_starts_total") == 1
    assert ranking.log.exposures[0].cold_start


def test_unknown_and_expired_items_are_flagged_apart(ranking: Toy) -> None:
    answer = _ask(ranking, items=["a", "b", "new"])
    assert answer.flags.unknown_items == ("new",)
    assert answer.flags.defaulted == {"daily": 2}
    assert ranking.count("serinus_lookups_total", view="daily", status="expired") == 1
    assert ranking.count("serinus_lookups_total", view="daily", status="missing") == 1
    by_item = dict(zip(answer.items, answer.probabilities, strict=True))
    assert by_item["b"] == by_item["new"] == pytest.approx(_probability(3, 2.5, 0.5, 12), abs=1e-6)


def test_an_unreachable_store_is_answered_with_defaults_and_recovers(ranking: Toy) -> None:
    ranking.store.broken = True
    answer = _ask(ranking, items=["a"])
    assert answer.flags.features_unavailable
    assert answer.probabilities[0] == pytest.approx(_probability(0, 9, 0.5, 12), abs=1e-6)
    assert ranking.count("serinus_lookups_total", view="daily", status="unavailable") == 1
    ranking.store.broken = False
    assert not _ask(ranking, items=["a"]).flags.features_unavailable


def test_scoring_is_the_same_code_with_one_probability(scoring: Toy) -> None:
    answer = scoring.plane.answer(Instance(entity="1", context={"amount": 7.0}), Caller())
    expected = 1 / (1 + math.exp(-(0.1 * 3 + 0.4 * 7 - 2.0 + math.log(0.5))))
    assert answer.probabilities == pytest.approx((expected,), abs=1e-6)
    assert answer.items == ()
    assert answer.as_dict()["probability"] == answer.probabilities[0]
    assert scoring.log.scores[0].items == ("",)
    left_out = scoring.plane.answer(Instance(entity="1"), Caller())
    assert left_out.probabilities == pytest.approx((1 / (1 + math.exp(-(0.3 + 0.8 - 2 + math.log(0.5)))),), abs=1e-6)


def test_the_exposure_says_what_was_answered(ranking: Toy) -> None:
    unit = "household-7"
    caller = Caller(bucket=f"{bucket_of(SALT, unit):03d}")
    answer = _ask(ranking, caller, request_id="r9", unit=unit, as_of="2024-03-05T06:00:00", items=["a", "b", "c"])
    (exposure,), (scores,) = ranking.log.exposures, ranking.log.scores
    assert (exposure.id, exposure.request_id, exposure.revision) == ("r9@toy-v3-abcdef", "r9", "toy-v3-abcdef")
    assert (exposure.entity, exposure.unit, exposure.bucket) == ("1", unit, bucket_of(SALT, unit))
    assert (exposure.bucket_check, exposure.forced_arm, exposure.version) == ("ok", "", "3")
    assert exposure.at == NOON.timestamp()
    assert exposure.as_of == NOON.timestamp() - 6 * 3600
    assert (exposure.items, exposure.lookups, exposure.defaulted, exposure.unknown_items) == (3, 4, 1, 0)
    assert exposure.latency_ms > 0
    assert (scores.id, scores.items, scores.probabilities) == (exposure.id, answer.items, answer.probabilities)


@pytest.mark.parametrize(
    ("caller", "check"),
    [
        (Caller(), "missing"),
        (Caller(bucket="1000"), "wrong"),
        (Caller(bucket=f"{(bucket_of(SALT, '1') + 1) % 1000:03d}"), "wrong"),
        (Caller(bucket=f"{bucket_of(SALT, '1'):03d}"), "ok"),
        (Caller(bucket=f"{bucket_of(SALT, '1'):03d}", forced_arm="canary"), "forced"),
    ],
)
def test_buckets_are_recomputed_and_never_believed(ranking: Toy, caller: Caller, check: str) -> None:
    assert _ask(ranking, caller).flags.bucket == check
    assert ranking.log.exposures[0].bucket_check == check
    assert ranking.log.exposures[0].bucket == bucket_of(SALT, "1")
    assert ranking.count("serinus_bucket_checks_total", check=check) == 1


def test_a_request_id_comes_from_body_then_header_then_anew(ranking: Toy) -> None:
    assert _ask(ranking, Caller(request_id="h"), request_id="b").request_id == "b"
    assert _ask(ranking, Caller(request_id="h")).request_id == "h"
    assert _ask(ranking).request_id != _ask(ranking).request_id


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"items": []}, "items"),
        ({"items": list("abcdef")}, "items"),
        ({"context": {"amount": 1.0}}, "context.amount"),
        ({"as_of": "1815-01-01"}, "as_of"),
        ({"as_of": "9999-12-31T23:59:59-14:00"}, "as_of"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_field(ranking: Toy, fields: dict[str, object], path: str) -> None:
    with pytest.raises(BadRequest) as refused:
        _ask(ranking, **fields)
    assert list(refused.value.fields) == [path]
    assert ranking.count("serinus_requests_total", outcome="refused") == 1
    assert ranking.log.exposures == []


def test_items_for_a_scoring_model_are_refused(scoring: Toy) -> None:
    with pytest.raises(BadRequest, match="does not fit"):
        scoring.plane.answer(Instance(entity="1", items=("a",)), Caller())


def test_event_time_needs_a_server_started_for_it() -> None:
    with pytest.raises(BadRequest) as refused:
        _ask(make("ranking", accept_event_time=False), as_of="2024-03-05")
    assert "--accept-event-time" in refused.value.fields["as_of"]


def test_a_failing_model_leaves_an_exposure_with_its_error(ranking: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking.plane.bundle.scorer, "log_odds", lambda rows: rows[:, 0] * float("nan"))
    with pytest.raises(BundleError, match="not a number"):
        _ask(ranking, request_id="r1")
    (exposure,) = ranking.log.exposures
    assert (exposure.error, exposure.request_id) == ("BundleError", "r1")
    assert ranking.log.scores == []
    assert ranking.count("serinus_requests_total", outcome="failed") == 1


def test_a_lost_exposure_is_said_in_the_answer(ranking: Toy) -> None:
    ranking.log.refuses = True
    assert _ask(ranking).flags.as_dict()["not_logged"] is True


def test_every_stage_is_timed(ranking: Toy) -> None:
    _ask(ranking)
    for stage in ("admit", "lookup", "transform", "score", "rank", "log"):
        assert ranking.count("serinus_stage_seconds_count", stage=stage) == 1
    assert ranking.count("serinus_request_seconds_count") == 1
    assert ranking.count("serinus_model_info", service="toy", version="3", revision="toy-v3-abcdef") == 1
