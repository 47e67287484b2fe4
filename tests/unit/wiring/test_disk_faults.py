"""What keeps a command or a server from its files is told in words, whatever the system calls it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serinus.cli.app import app
from serinus.core.errors import SerinusError, Unavailable, UsageError
from serinus.wiring.disk_faults import accessible
from serinus.wiring.process import run
from serinus.wiring.settings import CollectSettings

KNOWN = {
    Unavailable: (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE),
    UsageError: (
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG),
    ),
}


@pytest.mark.parametrize(("kind", "number"), [(kind, number) for kind, numbers in KNOWN.items() for number in numbers])
def test_a_fault_of_a_path_or_a_disk_is_known(kind: type[SerinusError], number: int) -> None:
    with pytest.raises(kind) as told, accessible():
        raise OSError(number, os.strerror(number), "/home/of/runs")
    assert os.strerror(number) in told.value.cause
    assert told.value.hint


@pytest.mark.parametrize("fault", [FileNotFoundError(errno.ENOENT, "gone"), ConnectionRefusedError(), OSError("odd")])
def test_other_faults_stay_what_they_are(fault: OSError) -> None:
    with pytest.raises(type(fault)) as told, accessible():
        raise fault
    assert told.value is fault


@pytest.mark.parametrize("arguments", [("model", "list", "renewal"), ("pipeline", "run", "renewal")])
def test_a_home_that_is_a_file_is_told(
    renewal_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    home.write_text("in the way")
    monkeypatch.setenv("SERINUS_PROJECT", str(renewal_project))
    monkeypatch.setenv("SERINUS_HOME", str(home))
    result = CliRunner().invoke(app, list(arguments))
    assert (result.exit_code, str(home) in result.output) == (2, True)


def test_a_server_tells_it_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def work(settings: CollectSettings) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", settings.folder)

    settings = CollectSettings.model_validate({"service": "toy", "folder": str(tmp_path)})
    assert run([settings.model_dump_json()], CollectSettings, work) == 5
    assert "the disk is full" in capsys.readouterr().err
