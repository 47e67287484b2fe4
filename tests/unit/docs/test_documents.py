"""What the documents say of the code: metrics, rows and links are true; and how their commands are run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from serinus.core.events import ROW_TYPES
from serinus.core.names import ServiceRef
from serinus.evidence.collector import _Metrics
from serinus.evidence.drain import Drain
from serinus.evidence.intake import Intake
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_streams import RedisStreams
from serinus.serving.metrics import ServingMetrics

sys.path.insert(0, str(Path(__file__).parents[2]))
from docs_commands import commands, run_all

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
ROW = re.compile(r"^\| `(serinus_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def _described(document: str) -> set[tuple[str, str, tuple[str, ...]]]:
    text = (ROOT / "docs/reference" / document).read_text(encoding="utf-8")
    return {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(text)}


def _made(metrics: object) -> set[tuple[str, str, tuple[str, ...]]]:
    found = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    return {(one._name + ("_total" if one._type == "counter" else ""), one._type, one._labelnames) for one in found}


def test_the_predictors_metrics_are_those_of_its_reference() -> None:
    assert _described("serving.md") == _made(ServingMetrics(CollectorRegistry()))


def test_the_collectors_metrics_are_those_of_its_reference(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path)
    metrics = _Metrics(log, Intake(log), Drain(RedisStreams("redis://nobody:1", ServiceRef.parse("toy")), log))
    kinds = {"counter": "_total", "gauge": "", "histogram": ""}
    made = {(family.name + kinds[family.type], family.type) for family in metrics.registry.collect()}
    assert {(name, kind) for name, kind, _ in _described("events.md")} == made


@pytest.mark.parametrize("stream", list(ROW_TYPES))
def test_every_field_of_a_row_is_in_the_reference(stream: str) -> None:
    text = (ROOT / "docs/reference/events.md").read_text(encoding="utf-8")
    section = text.split(f"### {stream}\n")[1].split("\n#")[0]
    fields = {
        name for cell in re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert fields == set(ROW_TYPES[stream].__dataclass_fields__)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert target.startswith("http") or (document.parent / target).exists(), target


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_commands_are_found_once_with_their_continuations(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "```bash\nmake demo\n# a comment\ntrue  # why\ntrue\necho a \\\n  b\nsleep 9 &   # a server\n```\n"
        "```bash\n# needs your data\nfalse\n```\n```bash\n# needs a cluster\nfalse\n```\n```python\nfalse\n```\n"
    )
    assert commands([str(page)]) == ["true", "echo a b", "sleep 9 &"]


@pytest.mark.slow
def test_servers_serve_the_commands_after_them_and_must_end_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.py").write_text(
        "import signal, socket, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); open('port', 'w').write(str(s.getsockname()[1])); s.listen()\n"
        "time.sleep(60)\n"
    )
    ask = "python -c \"import socket; socket.create_connection(('127.0.0.1', int(open('port').read())))\""
    assert run_all(["python server.py 0 &", ask, "false"], tmp_path) == [True, True, False, True]
    assert run_all(["python server.py 3 &", "python -c 0 &"], tmp_path) == [True, False, True, False]
    assert "FAIL" in capsys.readouterr().out
