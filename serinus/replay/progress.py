"""Where a replay is: one line a finished request, and how many outcomes of each pass were taken.

Invariant: what is written here was answered; what was answered and is not written is sent again under the same id.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serinus.files import DISK

_REQUESTS, _OUTCOMES = "requests.jsonl", "outcomes.json"


class Sent(BaseModel):
    """A finished request: its number, the milliseconds its caller waited, and the fault it ended with, if any.

    One that was not even answered is sent again when the replay is resumed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    ms: float
    fault: str = ""
    answered: bool = True


class Progress:
    """A replay's folder."""

    def __init__(self, folder: Path) -> None:
        DISK.folder(folder)
        self.folder, self._lock = folder, threading.Lock()
        self._sent = {one.number: one for one in self._lines()}
        path = folder / _OUTCOMES
        self._outcomes: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        self._handle = (folder / _REQUESTS).open("a", encoding="utf-8")

    def done(self, number: int) -> bool:
        """Whether a request was answered, well or badly."""
        return number in self._sent and self._sent[number].answered

    def finished(self, one: Sent) -> None:
        """Called from the threads that send."""
        with self._lock:
            self._sent[one.number] = one
            self._handle.write(one.model_dump_json() + "\n")
            self._handle.flush()

    def sent(self) -> list[Sent]:
        """All finished requests, by number."""
        with self._lock:
            return [self._sent[number] for number in sorted(self._sent)]

    def outcomes(self, pass_number: int) -> int:
        """How many of a pass were taken."""
        return self._outcomes.get(str(pass_number), 0)

    def took(self, pass_number: int, count: int) -> None:
        """Moves on by `count`."""
        self._outcomes[str(pass_number)] = self.outcomes(pass_number) + count
        DISK.replace(self.folder / _OUTCOMES, json.dumps(self._outcomes))

    def close(self) -> None:
        """Closes the file."""
        self._handle.close()

    def _lines(self) -> list[Sent]:
        path = self.folder / _REQUESTS
        if not path.exists():
            return []
        # A kill or a full disk may have torn the last line: that request is sent again, and what follows has a line of
        # its own.
        *lines, torn = path.read_bytes().split(b"\n")
        if torn:
            os.truncate(path, path.stat().st_size - len(torn))
        return [Sent.model_validate_json(line) for line in lines]
