"""How a command is interrupted: Ctrl-C, SIGTERM and a closed terminal are the same, from its first moment on.

Invariant: one word and exit code 130, never a traceback. While libraries are imported nothing has begun that could be
left half done, so the process just ends; from then on it is a KeyboardInterrupt, and whatever else goes wrong on the
way out is a part of it. Imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130
_AGAIN_SECONDS = 0.1
_Handler = Callable[[int, FrameType | None], Any]
_seen = threading.Event()


def end_at_once() -> None:
    """Until the work begins, and after it has ended."""
    _listen(_end)


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`, or 130 when it was interrupted: also where a library made another fault of that."""
    with _interruptible():
        try:
            return work()
        except KeyboardInterrupt:
            pass
        except Exception:
            if not _seen.is_set():
                raise
    sys.stderr.write("interrupted\n")
    return INTERRUPTED


@contextmanager
def _interruptible() -> Iterator[None]:
    """The signals raise KeyboardInterrupt in the block; after it they do what they did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # of a program that has signals of its own
        return
    _seen.clear()
    before, hook = _listen(_raise), sys.unraisablehook
    sys.unraisablehook = lambda unraisable: _lost(unraisable, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(handler: _Handler) -> dict[int, Any]:
    """Sets the handler of all three, and gives those of before. What the caller ignores (`nohup`) stays ignored."""
    known = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before: dict[int, Any] = {number: one for number, one in known.items() if one not in (signal.SIG_IGN, None)}
    for number in before:
        # A server knows SIGTERM alone, and ends in order by it.
        signal.signal(number, handler if number != signal.SIGHUP else _hang_up)
    return before


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _raise(_number: int, _frame: FrameType | None) -> None:
    _seen.set()
    raise KeyboardInterrupt


def _hang_up(_number: int, _frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _lost(unraisable: Any, hook: Callable[[Any], Any]) -> None:  # noqa: ANN401 - of sys.unraisablehook
    """An interrupt that fell into a place from which nothing can be raised: once more, when that place is left."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        main = threading.main_thread().ident
        assert main is not None  # noqa: S101 - it runs
        threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGTERM)).start()
    else:
        hook(unraisable)
