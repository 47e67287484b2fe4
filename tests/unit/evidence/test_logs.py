"""Event logs by address: which schemes there are, and that each loads only what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from memory_log import TOY, outcome

from serinus.core.errors import UsageError
from serinus.core.events import Stream
from serinus.evidence.logs import in_folder, sink_of, waiting_in
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_streams import RedisEventSink


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_written_to(tmp_path: Path, scheme: str) -> None:
    sink_of(f"{scheme}{tmp_path}/log", TOY, "w").append(Stream.OUTCOMES, [outcome("o")])
    assert len(ParquetEventLog(tmp_path / "log").segments(Stream.OUTCOMES)) == 1
    assert in_folder(f"{scheme}{tmp_path}/log")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_server_of_redis_is_written_to_and_drained(scheme: str) -> None:
    assert isinstance(sink_of(f"{scheme}://nobody:1/2", TOY, "w"), RedisEventSink)
    assert len(waiting_in(f"{scheme}://nobody:1/2", TOY)) == 2
    assert not in_folder(f"{scheme}://nobody:1")


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster"])
def test_a_cluster_is_refused_with_its_reason_and_without_its_password(scheme: str) -> None:
    for asked in (lambda at: sink_of(at, TOY, "w"), lambda at: waiting_in(at, TOY)):
        with pytest.raises(UsageError) as refused:
            asked(f"{scheme}://me:secret@nobody:1")
        assert "may lack what was acknowledged" in refused.value.cause
        assert "a Redis of its own" in refused.value.hint
        assert "secret" not in str(refused.value)


def test_another_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError) as refused:
        sink_of("s3://bucket/log", TOY, "w")
    assert "redis://" in refused.value.hint
    with pytest.raises(UsageError):
        waiting_in("a/folder", TOY)


def test_a_predictor_that_writes_to_redis_loads_no_arrow() -> None:
    code = (
        "import sys; from serinus.evidence.logs import sink_of; from serinus.core.names import ServiceRef;"
        "sink_of('redis://nobody:1', ServiceRef('default', 'toy'), 'w'); assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
