"""A home of release 0.1, and the way from there to this one (`serinus home convert`).

0.1 knew a service by its problem: `services/<problem>.json`, `services/<problem>/`, `events/<problem>/`. Each is now
the service of that name in one namespace, `default` unless another is asked for. Bundles get their names in a store;
revisions and rollouts keep theirs, which stand in the log, so what serves goes on serving and nothing is rolled out.
Invariant: nothing is moved before everything was understood. From then on each change is one rename, or one document
replaced whole; a conversion that was killed anywhere goes on where it was and comes to the same end. Nothing is deleted
but what was written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serinus.core.errors import Conflict, UsageError
from serinus.core.names import DEFAULT_NAMESPACE, ServiceRef, namespace_faults, service_faults
from serinus.files import DISK, Disk, Taken, is_locked, locked
from serinus.wiring.deployer import FILE
from serinus.wiring.home_layout import BACK, EVENTS, OUT, SERVICES, is_old
from serinus.wiring.old_documents import Named, documents

# Whoever works on services or their logs holds one of these.
_LOCKS = ("services/**/.lock", "events/**/.lock", "events/*/writers/*", "runs/.*.lock", "demo/.lock")


@dataclass(frozen=True)
class Conversion:
    """The services that it is about, and the documents that are written anew, as paths in the new home."""

    services: tuple[ServiceRef, ...]
    documents: tuple[str, ...]


def planned(home: Path, named: Named, namespace: str = DEFAULT_NAMESPACE) -> Conversion:
    """What `convert` would do; nothing for a home of this release.

    Raises `DataError` for a document that cannot be understood, `UsageError` for a name that no service can have now,
    and `Conflict` for a home that has services of this release, too.
    """
    return _planned(_Way.of(home, namespace), named)[0] if is_old(home) else Conversion((), ())


def convert(
    home: Path,
    named: Named,
    namespace: str = DEFAULT_NAMESPACE,
    *,
    disk: Disk = DISK,
    rename: Callable[[ServiceRef], None] = lambda _: None,
) -> Conversion:
    """Makes all services those of a namespace; where another conversion was killed, goes on with the one it had.

    `rename` tells whoever else knows a service of its new name, perhaps again, before anything is moved.
    Raises what `planned` and `rename` do, and `Conflict` for a home in use.
    """
    if not is_old(home):
        return Conversion((), ())
    with _alone(home):
        if not is_old(home):
            return Conversion((), ())  # another one has ended since
        way = _Way.of(home, namespace)
        found, texts = _planned(way, named)
        for one in found.services:
            rename(one)
        if not way.back.exists():
            _take(way, disk)
            _write(way.out / SERVICES, texts, disk)
            disk.move(way.out, way.back)
        _put(way, disk)
    return found


@dataclass(frozen=True)
class _Way:
    """From the home to the home by two folders: of what was taken out, and of what is put back."""

    home: Path
    namespace: str

    @classmethod
    def of(cls, home: Path, namespace: str) -> _Way:
        begun = (path.name.removeprefix(one) for one in (OUT, BACK) for path in home.glob(f"{one}*"))
        return cls(home, next(begun, namespace))

    @property
    def out(self) -> Path:
        return self.home / f"{OUT}{self.namespace}"

    @property
    def back(self) -> Path:
        return self.home / f"{BACK}{self.namespace}"

    def folder(self, name: str) -> Path:
        """That of all services or of all logs, wherever it has come to."""
        back = (self.back / name, self.home / name / self.namespace) if self.back.exists() else ()
        places = (*back, self.out / name, self.home / name)
        return next((one for one in places if one.exists()), self.home / name)


def _take(way: _Way, disk: Disk) -> None:
    disk.folder(way.out)
    for name in (SERVICES, EVENTS):
        if (way.home / name).exists():
            disk.move(way.home / name, way.out / name)


def _write(services: Path, texts: dict[Path, str], disk: Disk) -> None:
    """The files of services are removed last: while one is there, documents of its service may be old, too."""
    for path, text in texts.items():
        disk.replace(services / path, text)
    for path in services.glob("*.json"):
        disk.remove(path)


def _put(way: _Way, disk: Disk) -> None:
    """What was the folder of all services is now that of the namespace."""
    for name in (SERVICES, EVENTS):
        if (way.back / name).exists():
            disk.move(way.back / name, way.home / name / way.namespace)
    disk.remove(way.back)


def _planned(way: _Way, named: Named) -> tuple[Conversion, dict[Path, str]]:
    """With the new documents by their path below the folder of services; none when all that is left is to put back."""
    _require_one_release(way)
    services = way.folder(SERVICES)
    folders = {path.name for name in (SERVICES, EVENTS) for path in way.folder(name).glob("*") if path.is_dir()}
    refs = [_ref(way.namespace, name) for name in sorted(folders | {path.stem for path in services.glob("*.json")})]
    asked = () if way.back.exists() else refs
    texts = {path: text for ref in asked for path, text in documents(services, ref, named)}
    return Conversion(tuple(refs), tuple(f"{SERVICES}/{way.namespace}/{path}" for path in texts)), texts


def _require_one_release(way: _Way) -> None:
    """Folders of namespaces must not be taken for those of services."""
    begun = way.out.exists() or way.back.exists()
    ours = next(way.home.glob(f"{SERVICES}/*/*/{FILE}"), None)
    if ours is not None and not begun:
        raise Conflict(
            f"{way.home} has services of release 0.1 and of this one",
            cause=f"{ours.relative_to(way.home)} is of this one; release 0.1 has worked on the home since",
            hint=f"move away what it left: {SERVICES}/*.json, and folders of those names in {SERVICES} and {EVENTS}",
        )


def _ref(namespace: str, problem: str) -> ServiceRef:
    faults = [*namespace_faults(namespace), *service_faults(problem, namespace)]
    if faults:
        raise UsageError(
            f"service {problem} cannot be converted",
            cause="; ".join(faults),
            hint="rename its problem, and train it in a new home; release 0.1 still reads this one",
        )
    return ServiceRef(namespace, problem)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Raises `Conflict` while another conversion, or what serves, rolls out, reduces or trains here, is at work."""
    hint = "stop what runs on this home: rollouts, predictors, collectors, pipelines"
    try:
        with locked(home / ".converting.lock", patience=0):
            held = next((path for kind in _LOCKS for path in home.glob(kind) if is_locked(path)), None)
            if held is not None:
                raise Conflict(f"{home} is in use", cause=f"somebody holds {held.relative_to(home)}", hint=hint)
            yield
    except Taken as fault:
        raise Conflict(f"another conversion of {home} is under way") from fault
