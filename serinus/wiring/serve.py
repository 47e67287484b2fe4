"""The predictor's process: everything it needs comes in one settings document.

Invariant: nothing is imported here that a predictor does not need: no project, card, registry or feature registry.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import psutil
from pydantic import ValidationError

from serinus.core.errors import BundleError, SerinusError
from serinus.evidence.logs import sink_of
from serinus.features.online import OnlineReader
from serinus.features.service import ServiceInfo
from serinus.features.stores import store_of
from serinus.model.bundle import Bundle, read_bundle
from serinus.model.stores import bundle_at
from serinus.serving.exposures import ExposureWriter
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane, unaltered
from serinus.serving.recorder import Identity
from serinus.serving.sequence import SequenceFile
from serinus.serving.stages import Stages
from serinus.wiring.listening import Reserved, reserved
from serinus.wiring.process import run
from serinus.wiring.settings import ServeSettings

_log = logging.getLogger("serinus.serve")


def main(arguments: list[str], alter: Callable[[Stages], Stages] = unaltered) -> int:
    """Serves until SIGTERM; the exit code of the fault that kept it from starting."""
    return run(arguments, ServeSettings, lambda settings: serve(settings, alter))


def serve(settings: ServeSettings, alter: Callable[[Stages], Stages] = unaltered) -> int:
    """Takes the ports, loads the bundle, proves it on its golden rows and answers; on SIGTERM it ends what it began.

    Raises `Conflict` before anything is loaded or written when a port is taken.
    """
    with ExitStack() as stack:
        http = stack.enter_context(reserved("HTTP", settings.host, settings.http_port))
        grpc: tuple[str, ...] = ()
        if settings.grpc_port:
            grpc = stack.enter_context(reserved("gRPC", settings.host, settings.grpc_port)).addresses
        return _serve(settings, http, grpc, alter)


def _serve(
    settings: ServeSettings, http: Reserved, grpc: Sequence[str], alter: Callable[[Stages], Stages] = unaltered
) -> int:
    # KServe parses the command line when it is imported, and logs each request unless told otherwise.
    sys.argv = sys.argv[:1]
    os.environ.setdefault("KSERVE_LOGLEVEL", "WARNING")
    from serinus.serving.kserve_model import PredictorModel
    from serinus.serving.kserve_server import PredictorServer

    bundle = read_bundle(bundle_at(settings.storage_uri))
    sequence = SequenceFile(settings.writers_folder, settings.revision)
    metrics = ServingMetrics()
    log = sink_of(settings.events, settings.service, sequence.writer)
    writer = ExposureWriter(log, sequence, metrics, report=_not_written())
    identity = Identity(settings.service, settings.salt, str(settings.version), settings.revision)
    reader = online_reader(settings.online, bundle)
    plane = DataPlane(
        identity,
        bundle,
        reader,
        writer,
        metrics,
        accept_event_time=settings.accept_event_time,
        covariates=settings.covariates,
        inputs_share=settings.inputs_share,
        unit=settings.unit,
        alter=alter,
    )
    model = PredictorModel(plane)
    try:
        model.load()
        PredictorServer(grpc, http.listening, lambda: _ready(settings)).start([model])
    finally:
        writer.close()
        sequence.close()
    return 0


def feature_service(bundle: Bundle) -> ServiceInfo:
    """The definitions that the bundle carries. Raises `BundleError` when they are not those it was trained on."""
    source = bundle.manifest.features
    try:
        found = ServiceInfo.model_validate(source.definitions)
    except ValidationError as fault:
        raise BundleError("the bundle's feature definitions cannot be read", cause=str(fault)) from fault
    if found.hash != source.service_hash:
        raise BundleError("the bundle's feature definitions are not those that it was trained on")
    return found


def online_reader(address: str, bundle: Bundle) -> OnlineReader:
    """Reads the store at an address as the bundle's definitions say: of their Feast project, whatever serves them."""
    definitions = feature_service(bundle)
    return OnlineReader(store_of(address, definitions.project), definitions)


def _not_written() -> Callable[[SerinusError], None]:
    """Tells of a log that refuses rows, once a minute at most."""
    told = [0.0]

    def report(fault: SerinusError) -> None:
        if time.monotonic() - told[0] > 60:
            told[0] = time.monotonic()
            _log.error("exposures wait: %s (%s)", fault.headline, fault.cause)

    return report


def _ready(settings: ServeSettings) -> None:
    # What lives now lives for good: without this, full collections show in the slowest requests.
    gc.collect()
    gc.freeze()
    seconds = time.time() - psutil.Process().create_time()
    grpc = f", gRPC :{settings.grpc_port}" if settings.grpc_port else ""
    where = f"http://{settings.host}:{settings.http_port}{grpc}"
    sys.stdout.write(f"serving {settings.revision} at {where} after {seconds:.1f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
