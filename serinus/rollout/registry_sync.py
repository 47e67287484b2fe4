"""The aliases of a model follow what the service that owns them serves (D16): beside the tick, never in it.

Invariant: nothing that the registry says, does or leaves undone raises here or keeps a tick waiting. It is told in a
`Synced`, and tried again until it holds; afterwards it is looked at again now and then, for people move aliases.
What serves is known by its bundle: a version that was deleted and registered again is the same one. Of several services
of one model the first owns the aliases, and no other one moves them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from serinus.core.bundles import content_of
from serinus.core.errors import NotFound, SerinusError
from serinus.core.names import ServiceRef
from serinus.core.ports import ModelVersion, Registry
from serinus.core.rollout.spec import Revision

ROLLOUT_TAG = "serinus.rollout"
RETRY_SECONDS, CHECK_SECONDS = 5.0, 60.0
# A registry that has not answered for so long is told of; it may still answer.
PATIENCE_SECONDS = 10.0
Run = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class InService:
    """What the registry is to say: the revision that serves, the one before it, which rollout decided that, and why."""

    service: ServiceRef
    revision: Revision
    before: Revision | None = None
    rollout: str = ""
    reason: str = "the first revision of its service"


class Synced(BaseModel):
    """Whether the registry says what it should of `revision`, since when (epoch s), and if not, why not.

    That it is champion; where the aliases belong to another service, nothing: that holds, and `reason` says whose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    holds: bool
    since: float
    reason: str = ""
    hint: str = ""


def in_thread(work: Callable[[], None]) -> None:
    """A registry that hangs hangs alone, and does not keep the process from ending."""
    threading.Thread(target=work, name="registry", daemon=True).start()


class RegistrySync:
    """`tell` is called with each new finding; `run` carries out a try, which may take as long as it likes.

    `heir`: the service that shall have the aliases of a model which nobody has, for which a service claims them.
    """

    def __init__(
        self,
        registry: Registry,
        tell: Callable[[Synced], None],
        now: Callable[[], float],
        run: Run = in_thread,
        heir: Callable[[ServiceRef], ServiceRef] = lambda service: service,
    ) -> None:
        self._registry, self._tell, self._now, self._run, self._heir = registry, tell, now, run, heir
        self._lock, self._idle = threading.Lock(), threading.Event()
        self._idle.set()
        self._wanted: InService | None = None
        self._latest: InService | None = None
        self._tried_at = 0.0
        self._found: Synced | None = None
        self._told: Synced | None = None

    def follow(self, wanted: InService) -> Synced:
        """Begins a try when one is due; what is known so far. Called at every tick."""
        with self._lock:
            self._latest = wanted
            waits = not self._idle.is_set()
            if not waits and self._due(wanted):
                self._wanted, self._tried_at, begin = wanted, self._now(), True
                self._idle.clear()
            else:
                begin = False
        if begin:
            self._run(lambda: self._try(wanted))
        elif waits and self._now() - self._tried_at > PATIENCE_SECONDS:
            self._note(wanted, SerinusError("the registry has not answered yet"))
        return self._known(wanted)

    def settle(self, seconds: float) -> None:
        """Waits for a try that is under way, and for that of what was followed last.

        So a process that ends in order leaves nothing undone.
        """
        if self._idle.wait(seconds) and self._latest is not None:
            self.follow(self._latest)
            self._idle.wait(seconds)

    def _due(self, wanted: InService) -> bool:
        if wanted != self._wanted or self._found is None:
            return True
        return self._now() - self._tried_at >= (CHECK_SECONDS if self._found.holds else RETRY_SECONDS)

    def _try(self, wanted: InService) -> None:
        fault: SerinusError | None = None
        remark = ""
        try:
            remark = point(self._registry, wanted, self._heir(wanted.service))
        except SerinusError as known:
            fault = known
        except Exception as unknown:  # noqa: BLE001 - the edge of a thread; whatever it is, the service goes on
            fault = SerinusError("the registry answers what cannot be understood", cause=repr(unknown))
        finally:
            self._note(wanted, fault, remark)
            self._idle.set()

    def _note(self, wanted: InService, fault: SerinusError | None, remark: str = "") -> None:
        reason = ": ".join(part for part in (fault.headline, fault.cause) if part) if fault else remark
        fresh = Synced(
            revision=wanted.revision.name,
            holds=fault is None,
            since=self._now(),
            reason=reason,
            hint=fault.hint if fault else "",
        )
        known = self._told
        if known is None or known.model_copy(update={"since": fresh.since}) != fresh:
            self._found = fresh
            with suppress(OSError):  # a full disk: it is told with the next try
                self._tell(fresh)
                self._told = fresh

    def _known(self, wanted: InService) -> Synced:
        found = self._found
        if found is not None and found.revision == wanted.revision.name:
            return found
        return Synced(revision=wanted.revision.name, holds=False, since=self._tried_at, reason="not asked yet")


def point(registry: Registry, wanted: InService, heir: ServiceRef) -> str:
    """Makes what serves champion where the aliases are this service's, else says whose they are: `heir`'s at first.

    Raises `NotFound` when the registry has it no more, and what the registry raises.
    """
    model, number = wanted.revision.model.name, wanted.revision.model.version
    versions = registry.versions(model)
    found = version_of(versions, wanted.revision)
    if found is None:
        raise NotFound(
            f"version {number} of {model} was deleted from the registry",
            cause="it goes on serving, from the bundle store",
            hint=f"`serinus model restore {model} {number}` registers its bundle again",
        )
    mine = owner_of(wanted.service)
    owner = registry.manage(model, owner_of(heir))
    if owner != mine:
        return f"the aliases of {model} belong to {owner}"
    before = version_of(versions, wanted.before) if wanted.before is not None else None
    registry.promote(
        model, found.version, reason=wanted.reason, way_back=before.version if before and before != found else None
    )
    if wanted.rollout:
        registry.tag(model, found.version, {ROLLOUT_TAG: f"{wanted.service}/{wanted.rollout}"})
    return ""


def owner_of(service: ServiceRef) -> str:
    """What the registry calls a service that has the aliases of a model."""
    return f"service/{service.shown}"


def version_of(versions: list[ModelVersion], revision: Revision) -> ModelVersion | None:
    """The version of a revision's bundle: the one of its number, else the newest; a number alone may be another's."""
    same = [one for one in versions if content_of(one.storage_uri) == content_of(revision.storage_uri)]
    return next((one for one in same if one.version == revision.model.version), same[0] if same else None)
