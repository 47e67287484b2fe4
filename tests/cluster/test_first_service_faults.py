"""The first service while things change under load: weights, pods, and each of its two Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from serinus.core.rollout.route import Route
from serinus.rollout.http_route import Parent, http_route
from tests.cluster.conftest import Scale
from tests.cluster.event_log import exposures, lost
from tests.cluster.first_service import FirstService, route_fault
from tests.cluster.kube import Document, Kube, KubectlFailed, condition, wait_until
from tests.cluster.load import Ask, Asking, Load, Plan, Reply, failed, loading
from tests.cluster.manifests import GATEWAY, PAUSE_SECONDS, RELEASE, SERVICE, WEIGHT, component, route
from tests.cluster.visits import PREDICT, Visit, bucket, unit_of_bucket, without_bucket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
AFTER_PATCH_SECONDS = 1.0
RATE, SLOW_RATE, MOST = 50.0, 20.0, 20_000
STEADY_SECONDS = 3.0
RESTART_SECONDS = 120.0
KILL_REDIS = "kill -9 $(redis-cli info server | sed -n 's/^process_id:\\([0-9]*\\).*/\\1/p')"


@contextmanager
def _weights(first: FirstService) -> Iterator[None]:
    """Whatever the test does to the route, it is then as it was."""
    try:
        yield
    finally:
        _patch(first, route([first.stable, first.canary], WEIGHT))
        wait_until("the route is as it was", lambda: route_fault(first.kube.find("httproute", SERVICE)), 30.0)


def _patch(first: FirstService, wanted: Route) -> float:
    """The monotonic time at which the patch came back."""
    rules = http_route(wanted, Parent(GATEWAY))["spec"]["rules"]
    first.kube.patch("httproute", SERVICE, {"spec": {"rules": rules}})
    return time.monotonic()


def _with_and_without_bucket(visits: list[Visit]) -> Asking:
    def ask(number: int) -> Ask:
        visit, at = visits[number % len(visits)], number % 1_000
        if number % 2:
            return Ask(PREDICT, visit.instance(unit=unit_of_bucket()[at]), bucket(at))
        return Ask(PREDICT, visit.instance())

    return ask


def _steadily(load: Load, seconds: float = STEADY_SECONDS) -> None:
    """Lets the load go on for a while, with answers to the end of it."""
    until = time.monotonic() + seconds
    load.wait_for(f"an answer {seconds:.0f} s later", lambda one: one.began >= until, seconds + 30)


def test_an_old_arm_is_left_within_a_second_of_the_patch_and_nothing_fails(
    first: FirstService, scale: Scale, figure: Callable[[str], None]
) -> None:
    """All weight to the canary, and back; requests with and without a bucket."""
    plain = route([first.stable, first.canary])
    all_canary = plain.model_copy(update={"weight": 100, "hold_back": 0})
    turns = [
        (all_canary, first.stable, first.canary),
        (plain.model_copy(update={"weight": 0}), first.canary, first.stable),
    ]
    with _weights(first), loading(Plan(first.endpoint, _with_and_without_bucket(first.visits), RATE, MOST)) as load:
        for wanted, old, new in turns * scale.repeats:
            load.wait_for("the old arm answers", partial(_by, old), 30)
            _steadily(load)
            patched = _patch(first, wanted)
            _steadily(load, AFTER_PATCH_SECONDS + STEADY_SECONDS)
            since = [one for one in load.replies if one.began > patched + AFTER_PATCH_SECONDS]
            assert {one.revision for one in since} == {new}
            late = max(one.began - patched for one in load.replies if one.revision == old)
            assert late <= AFTER_PATCH_SECONDS
            figure(f"the old arm's last request began {1_000 * late:.0f} ms after the patch came back")
        replies = load.stop()
    assert not failed(replies)
    assert {one.revision for one in replies} == {first.stable, first.canary}
    figure(f"{len(replies)} requests, none failed")


def test_a_pod_that_is_deleted_under_load_fails_no_request(
    first: FirstService, scale: Scale, figure: Callable[[str], None]
) -> None:
    """It goes on answering for its pause, in which the gateway leaves it; then another one is there."""
    selector = f"serving.kserve.io/inferenceservice={first.stable}"
    with loading(Plan(first.endpoint, without_bucket(first.visits), RATE, MOST)) as load:
        for _ in range(2 * scale.repeats):
            _steadily(load)
            pods = _ready(first.kube, selector)
            assert len(pods) == 2
            gone = pods[0]["metadata"]["name"]
            deleted = time.monotonic()
            first.kube.run("delete", "pod", gone, "--wait=false")
            wait_until(f"{gone} is gone", partial(_there, first.kube, gone), RESTART_SECONDS)
            assert time.monotonic() - deleted >= PAUSE_SECONDS, "it went without its pause"
            wait_until("its successor is ready", lambda: _fewer(first.kube, selector, 2), RESTART_SECONDS)
        _steadily(load)
        replies = load.stop()
    assert not failed(replies)
    assert sum(one.revision == first.stable for one in replies) > len(replies) / 2
    figure(f"{len(replies)} requests while {2 * scale.repeats} pods went, none failed")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_its_features_it_answers_with_defaults_and_then_recovers(
    first: FirstService, scale: Scale, figure: Callable[[str], None], how: str
) -> None:
    known = _known(first)
    before = _answer(first, known)
    assert not before.flags["cold_start"]
    with loading(Plan(first.endpoint, without_bucket([known]), SLOW_RATE, MOST)) as load:
        for _ in range(scale.repeats):
            load.wait_for("an answer with features", _has_features, 30)
            seen = len(load.replies)
            with _away(first.kube, "features", how):
                # One that was killed may be back before kubectl is.
                load.wait_for("an answer that says so", _says_so, 30, since=seen)
                if how == "stopped":
                    _steadily(load)
            load.wait_for("an answer with features again", _has_features, RESTART_SECONDS)
            _steadily(load)
        replies = load.stop()
    assert not failed(replies)
    without = [one for one in replies if _says_so(one)]
    assert without
    # Defaults alone, and said so; nothing in between.
    assert all(one.flags["cold_start"] for one in without)
    assert all(_has_features(one) or one in without for one in replies)
    assert _has_features(replies[-1])
    assert _answer(first, known).prediction["items"] == before.prediction["items"]
    figure(f"{len(replies)} requests, none failed, {len(without)} answered with defaults")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_its_event_log_it_answers_and_every_exposure_comes_later(
    first: FirstService, scale: Scale, figure: Callable[[str], None], how: str
) -> None:
    lost_before = lost(exposures(first.kube))
    name = f"events-{how}-{time.time_ns()}"
    with loading(Plan(first.endpoint, without_bucket(first.visits, name), SLOW_RATE, MOST)) as load:
        for _ in range(scale.repeats):
            _steadily(load)
            with _away(first.kube, "events", how):
                _steadily(load)
            _steadily(load)
        replies = load.stop()
    assert not failed(replies)
    assert not [one for one in replies if one.flags.get("not_logged")]
    told = {f"{name}-{one.number}" for one in replies}
    missing = set(told)

    def undrained() -> str | None:
        missing.difference_update(one.request_id for one in exposures(first.kube))
        return f"{len(missing)} of {len(told)} exposures are not in the collector's log" if missing else None

    try:
        wait_until("the log is drained", undrained, 60.0, every=3.0)
    except AssertionError:
        # What is lost must be counted by the log itself.
        assert lost(exposures(first.kube)) - lost_before >= len(missing), f"{len(missing)} are lost without a gap"
    assert len(told) > 100
    figure(f"{len(told)} requests, none failed, {len(missing)} exposures lost")


def _known(first: FirstService) -> Visit:
    """A visit of a customer, with items, that the features know."""
    return next(one for one in first.visits if set(_answer(first, one).flags) == {"bucket", "cold_start"})


def _answer(first: FirstService, visit: Visit) -> Reply:
    """The stable arm's."""
    ask = Ask(PREDICT, visit.instance(), {"x-serinus-arm": "stable"})
    with loading(Plan(first.endpoint, lambda _: ask, rate=100, most=1)) as load:
        (reply,) = load.join()
    assert not reply.fault
    return reply


def _by(revision: str, reply: Reply) -> bool:
    return reply.revision == revision


def _has_features(reply: Reply) -> bool:
    return not reply.flags.get("features_unavailable") and reply.flags.get("cold_start") is False


def _says_so(reply: Reply) -> bool:
    return bool(reply.flags.get("features_unavailable"))


@contextmanager
def _away(kube: Kube, name: str, how: str) -> Iterator[None]:
    """`stopped`: it has no pod meanwhile. `killed`: SIGKILL; it comes up by itself. Then it is up, whatever happens."""
    try:
        _down(kube, name, how)
        yield
    finally:
        kube.scale("statefulset", f"{RELEASE}-{name}", 1)
        wait_until(f"{name} is up", lambda: _fewer(kube, component(name), 1), RESTART_SECONDS)


def _down(kube: Kube, name: str, how: str) -> None:
    pod = f"{RELEASE}-{name}-0"
    if how == "killed":
        before = _restarts(kube, pod)
        with suppress(KubectlFailed):  # the shell may end with its container
            kube.execute(pod, "sh", "-c", KILL_REDIS)
        survived = lambda: None if _restarts(kube, pod) > before else "it was not started again"  # noqa: E731
        wait_until(f"{name} was killed", survived, RESTART_SECONDS)
        return
    kube.scale("statefulset", f"{RELEASE}-{name}", 0)
    gone = lambda: "it has a pod" if kube.every("pods", component(name)) else None  # noqa: E731
    wait_until(f"{name} is stopped", gone, 60.0)


def _restarts(kube: Kube, pod: str) -> int:
    found = kube.get("pod", pod)["status"]["containerStatuses"]
    return sum(int(one["restartCount"]) for one in found)


def _there(kube: Kube, pod: str) -> str | None:
    return "it is still there" if kube.find("pod", pod) is not None else None


def _fewer(kube: Kube, selector: str, wanted: int) -> str | None:
    found = len(_ready(kube, selector))
    return None if found == wanted else f"{found} of {wanted} are ready"


def _ready(kube: Kube, selector: str) -> list[Document]:
    return [one for one in kube.pods(selector) if condition(one, "Ready") is None]
