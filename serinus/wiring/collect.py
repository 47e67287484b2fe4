"""The collector's process: takes outcomes over HTTP, and moves what predictors left in Redis into the same log.

Invariant: nothing is imported here that a collector does not need: no project, pipeline, registry or feature store.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serinus.evidence.collector import CollectorSettings, serve
from serinus.evidence.drain import Drain
from serinus.evidence.intake import OutcomeNames
from serinus.evidence.logs import waiting_in
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.wiring.listening import reserved
from serinus.wiring.process import run
from serinus.wiring.settings import CollectSettings


def main(arguments: list[str]) -> int:
    """Collects until SIGTERM; the exit code of the fault that kept it from starting."""
    return run(arguments, CollectSettings, collect)


def collect(settings: CollectSettings) -> int:
    """Until SIGTERM or Ctrl-C: batches under way are answered, and the round of the drain is ended, first.

    Raises `Conflict` before anything is said or written when the port is taken.
    """
    with reserved("HTTP", settings.host, settings.port) as http:
        log = ParquetEventLog(Path(settings.folder), writer="collector")
        drain = Drain(waiting_in(settings.events, settings.service), log) if settings.events else None
        sockets = http.listening()
        where = f"http://{settings.host}:{settings.port}/v1/outcomes"
        sys.stdout.write(f"collecting outcomes of {settings.service.shown} at {where}\n")
        sys.stdout.flush()
        names = OutcomeNames(settings.label, settings.outcomes)
        chosen = CollectorSettings(names, accept_event_time=settings.accept_event_time, kinds=settings.kinds)
        serve(log, sockets, chosen, drain)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
