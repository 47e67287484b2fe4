"""Submission against a fake server that answers as a backend of 2.17.0 did.

What it shows: the protocol as published, and how runs were seen to look. What it does not show: a real backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp_server_api as api
import pytest
from kfp_driver.fake_api import API, Backend, graph, nodes, served

from pipelines.compile import FOLDER
from pipelines.kfp_api import KfpRuns, Submission, specification
from pipelines.run_tasks import task_names
from pipelines.submit import PATIENCE_SECONDS, POLL_SECONDS, Clock, SubmittedRun, Watch, follow, submit_and_follow
from serinus.core.endings import told
from serinus.core.errors import DataError, NotFound, Unavailable, UsageError
from serinus.core.run import StepError

NAMES = task_names(specification(FOLDER / "retail-training.yaml")["pipeline_spec"])


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def endpoint(backend: Backend) -> Iterator[str]:
    with served(backend) as address:
        yield address


@dataclass
class Time:
    """A clock that sleeping moves."""

    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def watch(self, timeout: float = 0.0) -> Watch:
        return Watch(self.lines.append, timeout, Clock(lambda: self.seconds, self.sleep))


def _submission(endpoint: str, **changes: Any) -> Submission:
    values = {
        "package": FOLDER / "retail-training.yaml",
        "arguments": {"problem": "retail", "register": "chosen"},
        "endpoint": endpoint,
        "run_name": "retail-1",
        "experiment": "retail",
    }
    return Submission(**{**values, **changes})


def _run(endpoint: str, time: Time | None = None, **changes: Any) -> SubmittedRun:
    return submit_and_follow(_submission(endpoint, **changes), (time or Time()).watch(), wait=True)


def test_a_run_is_submitted_and_followed_to_its_end(endpoint: str, backend: Backend) -> None:
    backend.tasks = [*graph("SUCCEEDED"), *nodes("prepare", "SUCCEEDED")]
    time = Time()
    ended = _run(endpoint, time)
    assert (ended.run_id, ended.state, ended.exit_code) == ("r0", "SUCCEEDED", 0)
    assert time.lines == [
        "submitted retail-1: r0",
        "prepare: succeeded", "run: pending", "run: running", "run: succeeded",
    ]  # fmt: skip
    sent = backend.runs["r0"]
    assert sent.runtime_config.parameters == {"problem": "retail", "register": "chosen"}
    assert sent.pipeline_spec["pipeline_spec"]["pipelineInfo"]["name"] == "retail-training"
    assert "kubernetes" in sent.pipeline_spec["platform_spec"]["platforms"]


def test_each_task_is_told_once_by_the_name_that_the_package_shows(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING", "RUNNING", "RUNNING", "FAILED"]
    others = [*nodes("check-raw", "FAILED"), {"display_name": "gates", "state": None}]
    backend.tasks = [*graph("RUNNING"), *nodes("prepare", "SUCCEEDED"), *nodes("train-2", "RUNNING"), *others]
    time = Time()
    ended = _run(endpoint, time)
    assert sorted(time.lines[1:]) == [
        "check-raw: failed", "prepare: succeeded", "run: failed", "run: running", "train-gbdt: running",
    ]  # fmt: skip
    assert set(ended.tasks) == set(NAMES.values())
    assert (ended.tasks["train-gbdt"], ended.tasks["gates"]) == ("running", "omitted")


def test_no_task_of_the_package_has_the_name_of_a_node_that_is_none() -> None:
    assert "train-and-register" not in NAMES.values()
    assert {"prepare", "train-linear", "train-gbdt", "train-neural", "report"} <= set(NAMES.values())


REFUSED = told("gates", StepError(error="GateFailed", headline="refused by fast_enough", hint="faster", exit_code=3))


def test_a_failed_run_tells_the_reason_and_ends_with_the_exit_code_of_its_step(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING", "FAILED"]
    backend.tasks = [*nodes("prepare", "SUCCEEDED"), *nodes("gates", "FAILED", pod="p7")]
    launcher = "I1127 10:00:00.000000 1 launcher_v2.go:1] publish\nF1127 10:00:00.1 1 main.go:50] exit status 3\n"
    backend.logs = {"p7": f"[KFP Executor INFO]: looking\n{REFUSED}{launcher}Error: exit status 1\n"}
    ended = _run(endpoint)
    (failure,) = ended.failures
    assert (failure.task, failure.headline, failure.cause) == ("gates", "refused by fast_enough", "faster")
    assert (ended.state, ended.exit_code) == ("FAILED", 3)
    assert ended.tasks["gates"] == "failed"


def test_a_task_that_died_tells_its_last_lines(endpoint: str, backend: Backend) -> None:
    backend.script = ["FAILED"]
    backend.tasks = nodes("evaluate", "FAILED", pod="p3")
    backend.logs = {"p3": 'Traceback (most recent call last):\n  File "executor.py", line 470\nTypeError: Cannot\n'}
    (failure,) = _run(endpoint).failures
    assert (failure.task, failure.headline, failure.exit_code) == ("evaluate", "TypeError: Cannot", 1)
    assert failure.cause.startswith("Traceback")


def test_of_two_failures_the_first_decides(endpoint: str, backend: Backend) -> None:
    backend.script = ["FAILED"]
    late, early = nodes("report", "FAILED", pod="late"), nodes("gates", "FAILED", pod="early")
    late[4]["end_time"], early[4]["end_time"] = "2026-11-27T10:01:00Z", "2026-11-27T10:00:00Z"
    backend.tasks = [*late, *early]
    lost = told("report", StepError(error="Unavailable", headline="gone", exit_code=5))
    backend.logs = {"early": REFUSED, "late": lost}
    ended = _run(endpoint)
    assert [one.task for one in ended.failures] == ["gates", "report"]
    assert ended.exit_code == 3


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (nodes("gates", "FAILED"), "its log cannot be read"),
        ([{"display_name": "gates", "state": "FAILED"}], "failed before it wrote a log"),
    ],
    ids=["no log", "no pod"],
)
def test_a_failed_task_without_a_log_is_told_as_such(
    endpoint: str, backend: Backend, tasks: list[dict[str, Any]], message: str
) -> None:
    backend.script, backend.tasks = ["FAILED"], tasks
    ended = _run(endpoint)
    assert [(one.task, one.headline) for one in ended.failures] == [("gates", message)]
    assert ended.exit_code == 1


def test_a_pod_that_waits_is_told_once_with_the_usual_causes(endpoint: str, backend: Backend) -> None:
    polls = int(2.5 * PATIENCE_SECONDS / POLL_SECONDS)
    backend.script = ["RUNNING"] * polls + ["SUCCEEDED"]
    backend.tasks = nodes("prepare", "RUNNING", executor="PENDING")
    time = Time()
    _run(endpoint, time, namespace="team")
    (hint,) = [line for line in time.lines if "waits to be started" in line]
    for word in ("serinus-home", "image", "CPUs", "kubectl --namespace team", "pipeline/runid=r0"):
        assert word in hint


def test_a_task_that_works_for_long_is_no_standstill(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING"] * int(2 * PATIENCE_SECONDS / POLL_SECONDS) + ["SUCCEEDED"]
    backend.tasks = nodes("train", "RUNNING")
    time = Time()
    _run(endpoint, time)
    assert not [line for line in time.lines if "waits" in line]


def test_following_ends_when_its_time_is_over_and_the_run_goes_on(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING"]
    time = Time()
    with pytest.raises(Unavailable, match="run r0 has not ended after 60 s") as raised:
        submit_and_follow(_submission(endpoint), time.watch(timeout=60), wait=True)
    assert time.seconds == 60
    assert "pipeline watch r0" in raised.value.hint
    assert not [line for line in backend.requests if line.endswith(":terminate")]


def test_a_connection_that_breaks_for_a_while_ends_nothing(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING", "SUCCEEDED"]
    time = Time()

    def sleep(_: float) -> None:
        backend.status = 200 if backend.status == 500 else 500

    ended = submit_and_follow(
        _submission(endpoint), Watch(time.lines.append, clock=Clock(lambda: 0.0, sleep)), wait=True
    )
    assert ended.state == "SUCCEEDED"
    assert any("could not carry out run r0; looking again" in line for line in time.lines)


def test_an_api_that_is_gone_ends_following_and_says_how_to_go_on(endpoint: str, backend: Backend) -> None:
    runs = KfpRuns(endpoint)
    run_id = runs.create(_submission(endpoint))
    backend.status = 500
    with pytest.raises(Unavailable) as raised:
        follow(runs, run_id, NAMES, Time().watch())
    assert "pipeline watch r0" in raised.value.hint


def test_a_second_try_finds_the_run_of_the_first(endpoint: str, backend: Backend) -> None:
    runs = KfpRuns(endpoint)
    assert runs.create(_submission(endpoint)) == runs.create(_submission(endpoint)) == "r0"
    assert runs.create(_submission(endpoint, run_name="retail-2")) == "r1"
    assert len(backend.experiments) == 1


def test_a_run_is_found_by_its_name_and_by_its_id(endpoint: str) -> None:
    runs = KfpRuns(endpoint)
    runs.create(_submission(endpoint))
    assert runs.find("retail-1") == runs.find("r0") == "r0"
    with pytest.raises(NotFound, match="run retail-9 is not known"):
        runs.find("retail-9")


def test_the_package_of_a_scheduled_run_is_that_of_its_version(endpoint: str, backend: Backend) -> None:
    whole = specification(FOLDER / "retail-training.yaml")
    backend.versions["v1"] = whole
    reference = api.V2beta1PipelineVersionReference(pipeline_id="p", pipeline_version_id="v1")
    runs = KfpRuns(endpoint)
    for run in (api.V2beta1Run(pipeline_version_reference=reference), api.V2beta1Run(pipeline_spec=whole)):
        assert task_names(runs.package(run)) == NAMES


def test_an_image_of_ones_own_is_that_of_all_components(endpoint: str, backend: Backend) -> None:
    KfpRuns(endpoint).create(_submission(endpoint, image="registry.local/mine:7"))
    executors = backend.runs["r0"].pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"registry.local/mine:7"}


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED", "FAILED"])
def test_following_ends_on_states_that_kfps_own_client_waits_on_for_ever(
    endpoint: str, backend: Backend, state: str
) -> None:
    backend.script = ["RUNNING", state]
    runs = KfpRuns(endpoint)
    ended = follow(runs, runs.create(_submission(endpoint)), NAMES, Time().watch())
    assert (ended.state, ended.exit_code) == (state, 1)


def _interrupted(time: Time) -> Watch:
    calls = iter([KeyboardInterrupt])

    def sleep(_: float) -> None:
        for fault in calls:
            raise fault

    return Watch(time.lines.append, clock=Clock(lambda: 0.0, sleep))


def test_ctrl_c_cancels_the_run_and_waits_for_it(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING"]
    with pytest.raises(KeyboardInterrupt):
        submit_and_follow(_submission(endpoint), _interrupted(Time()), wait=True)
    assert f"POST {API}/runs/r0:terminate" in backend.requests
    assert backend.runs["r0"].state == "FAILED", "what a backend of 2.17.0 makes of a terminated run"


def test_ctrl_c_in_the_last_second_is_ctrl_c(endpoint: str, backend: Backend) -> None:
    """The run ended between the last look and the request to end it, which the API then refuses."""
    backend.script = ["RUNNING"]

    def sleep(_: float) -> None:
        backend.runs["r0"].state, backend.script = "SUCCEEDED", ["SUCCEEDED"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit_and_follow(_submission(endpoint), Watch(lambda _: None, clock=Clock(lambda: 0.0, sleep)), wait=True)


def test_without_waiting_the_run_is_left_alone(endpoint: str, backend: Backend) -> None:
    ended = submit_and_follow(_submission(endpoint), Time().watch(), wait=False)
    assert (ended.state, ended.exit_code) == ("SUBMITTED", 0)
    assert not [line for line in backend.requests if line.startswith(f"GET {API}/runs/r0")]


def test_a_link_is_shown_only_where_people_can_look(endpoint: str) -> None:
    assert _run(endpoint).url == ""
    time = Time()
    ended = _run(endpoint, time, run_name="retail-2", ui="https://kubeflow.local/pipeline/")
    assert ended.url == f"https://kubeflow.local/pipeline/#/runs/details/{ended.run_id}"
    assert ended.url in time.lines[0]


def test_no_endpoint_says_how_to_set_one() -> None:
    with pytest.raises(Unavailable, match="no Kubeflow Pipelines endpoint") as raised:
        _run("")
    for way in ("serinus.toml", "SERINUS_KFP_ENDPOINT", "--endpoint"):
        assert way in raised.value.hint


def test_a_server_that_is_down_is_told() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        KfpRuns("http://127.0.0.1:9").create(_submission("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, UsageError, "refuses the request"),
        (401, Unavailable, "refuses access"),
        (403, Unavailable, "refuses access"),
        (500, Unavailable, "could not carry out"),
    ],
)
def test_refusals_are_told_with_the_reason_that_the_api_gives(
    endpoint: str, backend: Backend, status: int, kind: type[Unavailable | UsageError], message: str
) -> None:
    backend.status = status
    with pytest.raises(kind, match=message) as raised:
        KfpRuns(endpoint).create(_submission(endpoint))
    assert raised.value.cause.startswith(f"HTTP {status}")
    backend.refusal = {"code": 3, "message": "parameter(s) provided are not required by pipeline: nope", "details": []}
    with pytest.raises(kind) as raised:
        KfpRuns(endpoint).create(_submission(endpoint))
    assert raised.value.cause == "parameter(s) provided are not required by pipeline: nope"


def test_a_run_that_vanishes_is_told(endpoint: str) -> None:
    with pytest.raises(NotFound, match="run r7 is not known"):
        KfpRuns(endpoint).get("r7")


def test_the_token_is_sent(endpoint: str, backend: Backend) -> None:
    KfpRuns(endpoint, token="secret").create(_submission(endpoint))
    assert backend.authorization == "Bearer secret"
    assert "secret" not in repr(_submission(endpoint, token="secret"))


def test_the_token_is_sent_for_logs_too(endpoint: str, backend: Backend) -> None:
    backend.logs = {"p": "words"}
    assert KfpRuns(endpoint, token="secret").log("r0", "p") == ["words"]
    assert backend.authorization == "Bearer secret"


def test_a_file_that_is_no_pipeline_is_told(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a compiled pipeline"):
        KfpRuns(endpoint).create(_submission(endpoint, package=tmp_path / "none.yaml"))
