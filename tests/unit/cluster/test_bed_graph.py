"""The test bed's parts start in the order of their needs, and what fails is named."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from tests.cluster.bed.graph import Graph, PartStatus
from tests.cluster.bed.parts import Component, PartFailed, Task, needed, waiting

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")
SPEAKS = (sys.executable, "-c", "print('no such disk'); raise SystemExit(3)")


class Seen:
    """The last status of each part."""

    def __init__(self) -> None:
        self.parts: dict[str, PartStatus] = {}

    def __call__(self, parts: list[PartStatus]) -> None:
        self.parts = {one.name: one for one in parts}

    def states(self) -> dict[str, str]:
        return {name: one.state for name, one in self.parts.items()}


def test_a_part_starts_when_what_it_needs_is_ready(tmp_path: Path) -> None:
    order: list[str] = []
    parts = [
        Task("last", lambda: order.append("last"), needs=("left", "right")),
        Task("left", lambda: order.append("left"), needs=("first",)),
        Task("right", lambda: order.append("right"), needs=("first",)),
        Task("first", lambda: order.append("first")),
    ]
    seen = Seen()
    Graph(parts, tmp_path, seen).start()
    assert order[0] == "first"
    assert order[-1] == "last"
    assert set(seen.states().values()) == {"ready"}


def test_parts_that_need_nothing_of_each_other_start_together(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)
    Graph([Task("a", lambda: _met(together)), Task("b", lambda: _met(together))], tmp_path, Seen()).start()


def _met(barrier: threading.Barrier) -> None:
    barrier.wait()


def test_a_component_that_ends_before_it_is_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    seen = Seen()
    parts = [
        Component("disk", SPEAKS, lambda: "not listening"),
        Task("after", lambda: None, needs=("disk",)),
    ]
    with pytest.raises(PartFailed, match=r"(?s)disk ended with exit code 3.*no such disk"):
        Graph(parts, tmp_path, seen).start()
    assert seen.states() == {"disk": "failed", "after": "waiting"}


def test_a_component_that_does_not_get_ready_says_what_it_misses(tmp_path: Path) -> None:
    graph = Graph([Component("slow", SLEEPS, lambda: "no port yet", patience=0.3)], tmp_path, Seen())
    with pytest.raises(PartFailed, match="slow is not ready: no port yet"):
        graph.start()
    graph.stop()


def test_the_part_that_failed_first_is_named_and_not_one_that_was_starting(tmp_path: Path) -> None:
    seen = Seen()
    begun = tmp_path / "begun"
    slow = Component("slow", (sys.executable, "-c", f"open({str(begun)!r}, 'w'); {SLEEPS[2]}"), lambda: "no port yet")

    def fails() -> None:
        waiting("slow has begun", lambda: "" if begun.exists() else "not yet", ()).run()
        raise RuntimeError("refused")

    graph = Graph([slow, Task("apply", fails)], tmp_path, seen)
    with pytest.raises(PartFailed, match="apply failed: refused"):
        graph.start()
    graph.stop()
    assert seen.states() == {"slow": "waiting", "apply": "failed"}


def test_a_task_that_fails_is_named(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("refused")

    seen = Seen()
    with pytest.raises(PartFailed, match="apply failed: refused"):
        Graph([Task("apply", fails)], tmp_path, seen).start()
    assert seen.parts["apply"].message == "refused"


def test_a_component_that_is_killed_later_is_noticed(tmp_path: Path) -> None:
    seen = Seen()
    pid_file = tmp_path / "pid"
    command = (
        sys.executable,
        "-c",
        f"import os,time; open({str(pid_file)!r},'w').write(str(os.getpid())); time.sleep(60)",
    )
    graph = Graph(
        [Component("victim", command, lambda: "" if pid_file.exists() and pid_file.read_text() else "no pid")],
        tmp_path,
        seen,
    )
    graph.start()
    graph.look()
    assert seen.states() == {"victim": "ready"}
    os.kill(int(pid_file.read_text()), 9)
    waiting("noticed", lambda: _noticed(graph, seen), ()).run()
    assert "victim ended with signal 9" in seen.parts["victim"].message


def _noticed(graph: Graph, seen: Seen) -> str:
    graph.look()
    return "" if seen.states()["victim"] == "ended" else "still ready"


def test_parts_are_stopped_before_what_they_need(tmp_path: Path) -> None:
    log = tmp_path / "stopped"
    script = (
        "import signal,sys,time\n"
        "def end(*_):\n"
        "    open({log!r},'a').write({name!r} + ' '); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open({ready!r},'w').close()\n"
        "time.sleep(60)\n"
    )
    parts = []
    for name, needs in (("base", ()), ("upper", ("base",))):
        ready = tmp_path / f"{name}.ready"
        text = script.format(log=str(log), name=name, ready=str(ready))
        probe = lambda ready=ready: "" if ready.exists() else "not yet"  # noqa: E731
        parts.append(Component(name, (sys.executable, "-c", text), probe, needs))
    graph = Graph(parts, tmp_path, Seen())
    graph.start()
    graph.stop()
    assert log.read_text().split() == ["upper", "base"]


def test_parts_that_need_each_other_or_an_unknown_one_are_refused(tmp_path: Path) -> None:
    loop = [Task("a", lambda: None, needs=("b",)), Task("b", lambda: None, needs=("a",))]
    with pytest.raises(ValueError, match="need each other"):
        Graph(loop, tmp_path, Seen())
    with pytest.raises(ValueError, match="unknown"):
        Graph([Task("a", lambda: None, needs=("nobody",))], tmp_path, Seen())
    with pytest.raises(ValueError, match="different names"):
        Graph([Task("a", lambda: None), Task("a", lambda: None)], tmp_path, Seen())


def test_only_what_is_wanted_and_what_it_needs_is_kept() -> None:
    parts = [
        Task("etcd", lambda: None),
        Task("api", lambda: None, needs=("etcd",)),
        Task("gateway", lambda: None, needs=("api",)),
    ]
    assert [one.name for one in needed(parts, ("api",))] == ["etcd", "api"]
    assert needed(parts, ()) == parts
    with pytest.raises(ValueError, match="no part disk"):
        needed(parts, ("disk",))
