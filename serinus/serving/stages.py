"""The stages of an answer, each an object that can be tested alone: admit, look up, transform, score and rank.

Invariant: no stage knows a transport; what a stage needs of the one before is one typed value.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from serinus.client import bucket_of
from serinus.client.written import OUT_OF_RANGE, in_range
from serinus.core.errors import BundleError, Unavailable
from serinus.core.events import BucketCheck
from serinus.features.batch import Batch
from serinus.features.inputs import INPUTS
from serinus.features.keys import IdKinds, fault_of
from serinus.features.online import Lookup, OnlineReader
from serinus.features.transforms import Matrix, matrix
from serinus.model.bundle import Bundle, Manifest
from serinus.serving.request import REQUEST_ID_HEADER, BadRequest, Caller, Instance

Now = Callable[[], datetime]


@dataclass(frozen=True)
class Admitted:
    """A request that can be answered: who, what, when, and what its bucket was found to be."""

    request_id: str
    entity: str
    unit: str
    items: tuple[str, ...]
    context: dict[str, float | None]
    as_of: datetime
    forced_arm: str
    bucket: int
    bucket_check: BucketCheck
    route: str = ""


@dataclass(frozen=True)
class Admission:
    """Checks a request against what the model takes, fills in what was left out, and recomputes the bucket."""

    manifest: Manifest
    salt: str
    accept_event_time: bool
    now: Now
    kinds: IdKinds

    def __call__(self, asked: Instance, caller: Caller) -> Admitted:
        """Raises `BadRequest` with the fields at fault."""
        faults = self._faults(asked) | self._wrong_ids(asked, caller)
        if faults:
            raise BadRequest("the request does not fit the model", faults)
        unit = asked.unit or asked.entity
        bucket = bucket_of(self.salt, unit)
        return Admitted(
            request_id=asked.request_id or caller.request_id or uuid.uuid4().hex,
            entity=asked.entity,
            unit=unit,
            items=asked.items,
            context={name: asked.context.get(name) for name in self.manifest.request.context},
            as_of=asked.as_of or self.now(),
            forced_arm=caller.forced_arm,
            bucket=bucket,
            bucket_check=_check(caller, bucket),
            route=caller.route,
        )

    def _faults(self, asked: Instance) -> dict[str, str]:
        shape, ranking = self.manifest.request, self.manifest.problem_kind == "ranking"
        faults = {}
        if ranking and not asked.items:
            faults["items"] = "at least one item is needed to rank"
        if ranking and len(asked.items) > shape.max_items:
            faults["items"] = f"at most {shape.max_items} items, not {len(asked.items)}"
        if not ranking and asked.items:
            faults["items"] = "this model scores one entity and takes no items"
        for name in sorted(set(asked.context) - set(shape.context)):
            faults[f"context.{name}"] = f"unknown; this model takes {', '.join(shape.context) or 'no context'}"
        if asked.as_of is not None and not self.accept_event_time:
            faults["as_of"] = "only a server started with --accept-event-time takes it"
        elif asked.as_of is not None and not in_range(asked.as_of):
            faults["as_of"] = OUT_OF_RANGE
        return faults

    def _wrong_ids(self, asked: Instance, caller: Caller) -> dict[str, str]:
        """Ids in another form than the keys of what they name: another spelling would be another unit."""
        sides = [("entity", self.kinds.entity, asked.entity)]
        sides += [(f"items[{place}]", self.kinds.item, item) for place, item in enumerate(asked.items)]
        faults = {path: fault for path, kind, given in sides if (fault := fault_of(kind, given))}
        unit = "" if asked.unit is None else self.kinds.unit_fault(asked.unit)
        faults |= {"unit": unit} if unit else {}
        header = "" if asked.request_id else caller.fault()
        return faults | ({REQUEST_ID_HEADER: header} if header else {})


def _check(caller: Caller, bucket: int) -> BucketCheck:
    if caller.forced_arm:
        return BucketCheck.FORCED
    if not caller.bucket:
        return BucketCheck.MISSING
    return BucketCheck.OK if caller.bucket == f"{bucket:03d}" else BucketCheck.WRONG


@dataclass(frozen=True)
class LookedUp:
    """A batch of one request with, by view, the status of every id; `reachable` is False when the store was not."""

    batch: Batch
    sides: dict[str, Lookup]
    reachable: bool

    @property
    def lookups(self) -> int:
        """Ids times views, and the values of the context: whatever could have been missing."""
        rows = sum(len(states) for side in self.sides.values() for states in side.status.values())
        return rows + len(self.batch.context)


class FeatureLookup:
    """Reads the online store. When it cannot be reached, every feature is missing and the request goes on."""

    def __init__(self, reader: OnlineReader, entity: str, item: str | None) -> None:
        self._reader, self._entity, self._item = reader, entity, item

    def __call__(self, admitted: Admitted) -> LookedUp:
        """One read for the entity and all items."""
        ids: dict[str, list[str]] = {self._entity: [admitted.entity]}
        if self._item is not None:
            ids[self._item] = list(admitted.items)
        try:
            found, reachable = self._reader.read_together(ids, admitted.as_of), True
        except Unavailable:
            found, reachable = self._reader.nothing(ids), False
        count = len(admitted.items) if self._item is not None else 1
        item = found[self._item].side if self._item is not None else None
        zeros, each = np.zeros(count, dtype=np.int64), np.arange(count, dtype=np.int64)
        context = {name: np.full(count, np.nan if v is None else v) for name, v in admitted.context.items()}
        moments = np.full(count, admitted.as_of.timestamp())
        return LookedUp(Batch(found[self._entity].side, item, zeros, each, moments, context), found, reachable)


class Covariates:
    """What KPIs are adjusted by: log(1 + |stored|), with its sign, of features of the entity; 0 where none is stored.

    Read from the store and not from the model's inputs: a fault behind the lookup must not move them.
    """

    def __init__(self, names: Sequence[str], manifest: Manifest) -> None:
        self._names, self._entity = tuple(names), manifest.entity
        known = {
            f"{view['name']}:{one['name']}"
            for view in manifest.features.definitions.get("views", ())
            if view["entity"] == self._entity
            for one in view["features"]
            if not str(one["type"]).startswith(("Array", "String"))
        }
        unknown = sorted(set(self._names) - known)
        if unknown:
            raise BundleError(
                f"the bundle does not look up the covariate {', '.join(unknown)}",
                hint=f"name numbers of the {self._entity}: {', '.join(sorted(known))}",
            )

    def __call__(self, found: LookedUp) -> tuple[float, ...]:
        """One a name, in order."""
        columns = found.sides[self._entity].side.columns
        stored = [float(np.asarray(columns[name])[0]) for name in self._names]
        return tuple(math.copysign(math.log1p(abs(one)), one) if math.isfinite(one) else 0.0 for one in stored)


class Transform:
    """The bundle's inputs over a batch: the same code as for a training set."""

    def __init__(self, manifest: Manifest) -> None:
        self._inputs = INPUTS.validate_python([dict(one) for one in manifest.inputs])
        self.names = tuple(one.name for one in self._inputs)

    def __call__(self, looked_up: LookedUp) -> Matrix:
        """Shape (rows, inputs), finite."""
        return matrix(self._inputs, looked_up.batch)


class Score:
    """Calibrated probabilities of a matrix."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def __call__(self, rows: Matrix) -> NDArray[np.float64]:
        """One a row. Raises `BundleError` for a matrix the model does not take or an answer that is no probability."""
        found = self._bundle.probabilities(rows)
        if not np.isfinite(found).all():
            raise BundleError("the model gave a probability that is not a number")
        return found


@dataclass(frozen=True)
class Stages:
    """The stages between an admitted request and its ranking: each can be wrapped, for tests and for examples."""

    look_up: Callable[[Admitted], LookedUp]
    transform: Callable[[LookedUp], Matrix]
    score: Callable[[Matrix], NDArray[np.float64]]

    @classmethod
    def of(cls, bundle: Bundle, reader: OnlineReader) -> Stages:
        """Those of a bundle."""
        manifest = bundle.manifest
        return cls(FeatureLookup(reader, manifest.entity, manifest.item), Transform(manifest), Score(bundle))


def rank(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions by falling probability; ties keep the order of the request, as in `serinus.core.kpi.ranked`."""
    return np.argsort(-probabilities, kind="stable")


def wall_clock() -> datetime:
    """The default `Now`."""
    return datetime.now(UTC)
