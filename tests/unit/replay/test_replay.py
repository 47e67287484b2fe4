"""A replay against a scripted service: order, ids, the clock, outcomes in time, interruption, and its figures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from serinus.core.errors import DataError, NotFound, Unavailable
from serinus.core.names import ServiceRef
from serinus.replay.player import Player, Target
from serinus.replay.progress import Progress, Sent
from serinus.replay.recording import BASELINE, Recording, read_recording, record, write_recording
from serinus.replay.report import baseline_figures, latency
from serinus.replay.schedule import Plan, Schedule
from serinus.replay.scrape import between

TOY = ServiceRef("default", "toy")

DAY = 86_400.0
HORIZON = 3 * DAY


def _at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2024-03-{text}")


@pytest.fixture
def recording() -> Recording:
    """Two customers, four visits on two days; what they bought, and that they came."""
    requests = pd.DataFrame(
        {
            "request_id": ["b-2", "a-1", "a-3", "b-4"],
            "entity": ["b", "a", "a", "b"],
            "unit": ["b", "a", "a", "b"],
            "as_of": [_at("01 11:00"), _at("01 10:00"), _at("02 09:00"), _at("02 10:00")],
        }
    )
    rows = pd.DataFrame(
        {
            "request": [0, 0, 1, 1, 2, 2, 3, 3],
            "item": ["x", "y"] * 4,
            "label": [1, 0, 0, 1, 1, 0, 1, 1],
            "value": [2.0, 0, 0, 3.0, 1.0, 0, 4.0, 5.0],
        }
    )
    outcomes = pd.DataFrame(
        [
            ("a-1", "a", "bought", "y", 3.0, _at("01 10:30")), ("b-2", "b", "bought", "x", 2.0, _at("01 11:00")),
            ("a-3", "a", "bought", "x", 1.0, _at("02 09:00")), ("", "a", "visit", "", 3.0, _at("01 10:00")),
            ("", "a", "visit", "", 1.0, _at("02 09:00")), ("", "a", "visit", "", 1.0, _at("09 09:00")),
            ("", "c", "visit", "", 1.0, _at("02 09:00")), ("b-4", "b", "bought", "y", 5.0, _at("02 10:00")),
        ],
        columns=["request_id", "unit", "name", "item", "value", "at"],
    )  # fmt: skip
    return record(requests, rows, outcomes, {"popular": np.array([1.0, 2.0] * 4)})


def _schedule(recording: Recording, visits: int = 4, passes: int = 1, first_pass: int = 1) -> Schedule:
    return Schedule(recording, Plan(service=TOY, visits=visits, passes=passes, first_pass=first_pass), HORIZON)


class Service:
    """Predictor and collector in one: remembers requests and outcomes in the order they came; `fails` by request id."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], str]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.fails: dict[str, int] = {}
        self.under_way, self.most, self.lock = 0, 0, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = outer._answer(body, self.headers.get("x-serinus-bucket", ""))
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self._thread.start()

    def _answer(self, body: dict[str, Any], bucket: str) -> tuple[int, dict[str, Any]]:
        if "outcomes" in body:
            with self.lock:
                self.outcomes += body["outcomes"]
                self.events += [f"outcome {one['id']}" for one in body["outcomes"]]
            return 200, {"accepted": len(body["outcomes"]), "duplicates": 0}
        (instance,) = body["instances"]
        with self.lock:
            self.requests.append((instance, bucket))
            self.events.append(f"request {instance['request_id']}")
        return self.fails.get(instance["request_id"], 200), {"predictions": [{"request_id": instance["request_id"]}]}

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


def _play(schedule: Schedule, service: Service, folder: Path, on_sent: Any = None, concurrency: int = 1) -> list[Sent]:
    progress = Progress(folder)
    target = Target(service.url, service.url, "toy", "ab", concurrency)

    def move(as_of: datetime) -> None:
        service.events.append(f"clock {as_of:%d}")

    try:
        Player(schedule, target, progress, move, on_sent or (lambda sent: None)).play()
    finally:
        progress.close()
    return progress.sent()


def test_requests_come_in_event_time_with_the_clock_and_outcomes_after_them(
    recording: Recording, service: Service, tmp_path: Path
) -> None:
    sent = _play(_schedule(recording), service, tmp_path)
    assert [one.fault for one in sent] == [""] * 4
    requests = [event for event in service.events if not event.startswith("outcome")]
    assert requests == ["clock 01", "request a-1#1", "request b-2#1", "clock 02", "request a-3#1", "request b-4#1"]
    first, bucket = service.requests[0]
    assert first == {
        "entity": "a", "unit": "a#1", "items": ["x", "y"], "request_id": "a-1#1", "as_of": "2024-03-01T10:00:00+00:00",
    }  # fmt: skip
    assert len(bucket) == 3


def test_outcomes_are_those_of_the_replayed_units_within_the_horizon(
    recording: Recording, service: Service, tmp_path: Path
) -> None:
    _play(_schedule(recording, visits=2), service, tmp_path)
    assert [(one["id"], one["unit"], one.get("request_id")) for one in service.outcomes] == [
        ("a-1#1/bought/y", "a#1", "a-1#1"),
        ("b-2#1/bought/x", "b#1", "b-2#1"),
        ("a#1@1709370000/visit/", "a#1", None),
    ]
    assert service.outcomes[0]["as_of"] == datetime(2024, 3, 1, 10, 30, tzinfo=UTC).timestamp()


def test_passes_have_units_and_ids_of_their_own(recording: Recording, service: Service, tmp_path: Path) -> None:
    schedule = _schedule(recording, visits=2, passes=2, first_pass=7)
    _play(schedule, service, tmp_path)
    assert [(one["unit"], one["entity"]) for one, _ in service.requests] == [
        ("a#7", "a"), ("b#7", "b"), ("a#8", "a"), ("b#8", "b"),
    ]  # fmt: skip
    assert schedule.request_ids() == [one["request_id"] for one, _ in service.requests]
    assert len({one["id"] for one in service.outcomes}) == len(service.outcomes) == 6
    assert [event for event in service.events if "clock" in event] == ["clock 01", "clock 01"]


def test_an_interrupted_replay_goes_on_where_it_was(recording: Recording, service: Service, tmp_path: Path) -> None:
    done: list[Sent] = []

    def interrupt(sent: Sent) -> None:
        done.append(sent)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _play(_schedule(recording), service, tmp_path, interrupt)
    sent = _play(_schedule(recording), service, tmp_path)
    assert [one.number for one in sent] == [0, 1, 2, 3]
    assert [one["request_id"] for one, _ in service.requests] == ["a-1#1", "b-2#1", "a-3#1", "b-4#1"]
    assert len({one["id"] for one in service.outcomes}) == len(service.outcomes) == 5


def test_a_torn_line_of_the_progress_is_sent_again(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.finished(Sent(number=0, ms=1.0))
    progress.close()
    with (tmp_path / "requests.jsonl").open("a") as handle:
        handle.write('{"number": 1, "ms"')
    again = Progress(tmp_path)
    assert (again.done(0), again.done(1)) == (True, False)
    again.finished(Sent(number=1, ms=2.0))
    again.close()
    last = Progress(tmp_path)
    assert [one.ms for one in last.sent()] == [1.0, 2.0]
    last.close()


def test_a_refused_request_is_a_failure_and_is_not_sent_again(
    recording: Recording, service: Service, tmp_path: Path
) -> None:
    service.fails = {"b-2#1": 400}
    sent = _play(_schedule(recording), service, tmp_path)
    assert [bool(one.fault) for one in sent] == [False, True, False, False]
    assert latency(sent)["p99"] > 0
    _play(_schedule(recording), service, tmp_path)
    assert len(service.requests) == 4


def test_no_outcome_is_sent_of_a_request_that_failed(recording: Recording, service: Service, tmp_path: Path) -> None:
    """Nobody saw anything: its outcomes would be orphans, and its unit has none before one was answered."""
    service.fails = {"b-2#1": 500, "a-1#1": 500}
    _play(_schedule(recording), service, tmp_path)
    ids = [one["id"] for one in service.outcomes]
    assert ids == ["a-3#1/bought/x", "a#1@1709370000/visit/", "b-4#1/bought/y"]


def test_an_outcome_waits_for_the_answer_that_it_is_of(
    recording: Recording, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be known at the very moment of its request, which is still under way."""
    monkeypatch.setattr("serinus.replay.player.OUTCOMES_A_BATCH", 1)
    real = service._answer

    def slowly(body: dict[str, Any], bucket: str) -> tuple[int, dict[str, Any]]:
        answer = real(body, bucket)
        if "instances" in body:
            with service.lock:
                service.events.append(f"answered {body['instances'][0]['request_id']}")
        return answer

    service._answer = slowly  # type: ignore[method-assign]
    _play(_schedule(recording), service, tmp_path, concurrency=2)
    for event in [one for one in service.events if one.startswith("outcome ") and "/bought/" in one]:
        owner = event.removeprefix("outcome ").split("/")[0]
        assert service.events.index(f"answered {owner}") < service.events.index(event)
    assert len(service.outcomes) == 5


def test_outcomes_of_a_request_that_was_never_answered_come_with_its_answer_when_it_is_taken_up(
    recording: Recording, service: Service, tmp_path: Path
) -> None:
    schedule = _schedule(recording)
    _play(schedule, service, tmp_path)
    service.outcomes.clear()
    lines = (tmp_path / "requests.jsonl").read_text().splitlines()
    torn = [one.replace('"answered":true', '"answered":false') if '"number":3,' in one else one for one in lines]
    (tmp_path / "requests.jsonl").write_text("\n".join(torn) + "\n")
    _play(schedule, service, tmp_path)
    assert [one["id"] for one in service.outcomes] == ["b-4#1/bought/y"]
    assert len(service.requests) == 5


def test_a_service_that_refuses_everything_stops_the_replay_with_the_first_reason(
    recording: Recording, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serinus.replay.player.MOST_REFUSED", 3)
    service.fails = dict.fromkeys(("a-1#1", "b-2#1", "a-3#1", "b-4#1"), 400)
    with pytest.raises(DataError, match="refused 3 requests in a row") as raised:
        _play(_schedule(recording), service, tmp_path)
    assert raised.value.exit_code == 3
    assert raised.value.cause.startswith("HTTP 400: ")
    assert "a-1#1" in raised.value.cause
    assert service.outcomes == []
    del service.fails["b-2#1"]
    _play(_schedule(recording), service, tmp_path / "other")  # one answer, and the row begins anew


def test_at_most_so_many_requests_are_under_way(recording: Recording, service: Service, tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=10)
    real = service._answer

    def slowly(body: dict[str, Any], bucket: str) -> tuple[int, dict[str, Any]]:
        if "instances" in body:
            with service.lock:
                service.under_way += 1
                service.most = max(service.most, service.under_way)
            both.wait()  # each day has two requests, and both must be under way
            with service.lock:
                service.under_way -= 1
        return real(body, bucket)

    service._answer = slowly  # type: ignore[method-assign]
    _play(_schedule(recording), service, tmp_path, concurrency=2)
    assert service.most == 2


def test_a_service_that_is_gone_stops_the_replay(
    recording: Recording, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serinus.replay.player.MOST_UNREACHABLE", 2)
    monkeypatch.setattr("serinus.client.client.time.sleep", lambda seconds: None)
    progress = Progress(tmp_path)
    target = Target("http://127.0.0.1:9", service.url, "toy", "ab", 1)
    with pytest.raises(Unavailable, match="stopped answering"):
        Player(_schedule(recording), target, progress, lambda as_of: None, lambda sent: None).play()
    assert not progress.done(0)
    progress.close()


def test_a_recording_comes_back_as_it_was(recording: Recording, tmp_path: Path) -> None:
    for _ in range(2):
        write_recording(tmp_path / "toy", recording)
    again = read_recording(tmp_path / "toy", "toy")
    for name in ("requests", "rows", "outcomes"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(recording, name))
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    with pytest.raises(NotFound, match="no recorded requests"):
        read_recording(tmp_path / "other", "other")


def test_baselines_are_judged_on_the_same_visits(recording: Recording) -> None:
    (figure,) = baseline_figures(recording.first(2), 10)
    assert (figure.name, figure.requests, figure.clusters) == ("popular", 2, 2)
    assert figure.estimate == 1.0  # two candidates: both are among the first ten
    assert recording.rows[BASELINE + "popular"].tolist() == [1.0, 2.0] * 4


def test_metrics_count_what_moved_in_between() -> None:
    stage, view = (("stage", "lookup"),), (("status", "found"), ("view", "daily"))
    missing = (("status", "missing"), ("view", "daily"))
    before = {("serinus_stage_seconds_sum", stage): 1.0, ("serinus_stage_seconds_count", stage): 10.0,
              ("serinus_lookups_total", view): 5.0}  # fmt: skip
    after = {("serinus_stage_seconds_sum", stage): 1.5, ("serinus_stage_seconds_count", stage): 110.0,
             ("serinus_lookups_total", view): 8.0, ("serinus_lookups_total", missing): 1.0}  # fmt: skip
    found = between(before, after)
    assert [(one.name, one.mean_ms) for one in found.stages] == [("lookup", 5.0)]
    assert found.missing == {"daily": 0.25}
    assert between({}, {}).stages == ()
