"""`Registry` on MLflow: versions, and the aliases challenger, champion, previous (D16).

Invariant: an alias change is a chain of single calls with an intent written first; killed between any two of them, the
next call of any method finishes the chain before it does anything else. Each link is idempotent, so finishing twice is
harmless. There is one writer at a time: the pipeline for challenger, the rollout's owner for the others.
People delete versions, move aliases and edit tags in MLflow: an intent that cannot be finished any more is dropped, and
never keeps a reader from reading. `champion` and `previous` are never one version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serinus.core.errors import Conflict, NotFound, SerinusError
from serinus.core.ports import ModelVersion
from serinus.registry.connection import connect, translated

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
INTENT_TAG, MANAGED_TAG = "serinus.promotion", "serinus.managed_by"
URI_TAG = "serinus.storage_uri"


@dataclass(frozen=True)
class _Intent:
    """A promotion under way: what it was decided from, so that finishing does not depend on what is there by then."""

    to: int
    old: int | None
    drop_challenger: bool
    reason: str
    at: str

    def dump(self) -> str:
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> _Intent | None:
        """None for a text that is no intent: somebody edited the tag, and there is nothing to finish."""
        try:
            return _INTENT.validate_json(text)
        except ValidationError:
            return None


_INTENT = TypeAdapter(_Intent)


class MlflowRegistry:
    """See the module. `now` gives the time that is written into tags; `client` stands in for MLflow's in tests."""

    def __init__(
        self,
        uri: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        client: Any = None,  # noqa: ANN401
    ) -> None:
        self._uri, self._now, self._given = uri, now, client

    def register(self, model: str, *, run_id: str, storage_uri: str, tags: Mapping[str, str]) -> ModelVersion:
        """See `Registry`."""
        client = self._settled(model, create=True)
        known = [one for one in self.versions(model) if (one.run_id, one.storage_uri) == (run_id, storage_uri)]
        with translated(f"model {model}"):
            if known:
                number = known[0].version
                for name, value in tags.items():
                    client.set_model_version_tag(model, str(number), name, value)
            else:
                number = self._add(model, run_id, {**tags, URI_TAG: storage_uri})
        return self.version(model, str(number))

    def versions(self, model: str) -> list[ModelVersion]:
        """See `Registry`."""
        client = self._readable(model)
        with translated(f"model {model}"):
            found = client.search_model_versions(f"name = '{model}'", max_results=1000)
            aliases = self._aliases(model)
            return sorted((_ours(one, aliases) for one in found), key=lambda one: -one.version)

    def version(self, model: str, which: str) -> ModelVersion:
        """See `Registry`."""
        found = self.versions(model)
        for one in found:
            if which == str(one.version) or which in one.aliases:
                return one
        known = ", ".join(str(one.version) for one in reversed(found)) or "none"
        raise NotFound(f"model {model} has no version or alias {which}", hint=f"versions: {known}")

    def aliased(self, model: str, alias: str) -> ModelVersion | None:
        """See `Registry`."""
        return next((one for one in self.versions(model) if alias in one.aliases), None)

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """See `Registry`."""
        client = self._settled(model)
        known = self.version(model, str(version)).tags
        with translated(f"version {version} of {model}"):
            for name, value in tags.items():
                if known.get(name) != value:
                    client.set_model_version_tag(model, str(version), name, value)

    def challenge(self, model: str, version: int) -> None:
        """See `Registry`. One call, so there is nothing to finish."""
        self._settled(model)
        self.version(model, str(version))
        self._set_alias(model, CHALLENGER, version)

    def manage(self, model: str, owner: str) -> str:
        """See `Registry`. Of two that claim at once the last one has them; the other learns it when it asks again."""
        client = self._settled(model)
        with translated(f"model {model}"):
            if not self._owner(model):
                client.set_registered_model_tag(model, MANAGED_TAG, owner)
        return self._owner(model)

    def hand_over(self, model: str, owner: str, to: str) -> None:
        """See `Registry`."""
        client = self._settled(model)
        with translated(f"model {model}"):
            if self._owner(model) == owner:
                client.set_registered_model_tag(model, MANAGED_TAG, to)

    def promote(
        self, model: str, version: int, *, reason: str, by_hand: bool = False, way_back: int | None = None
    ) -> None:
        """See `Registry`. By hand it is refused with `Conflict` while a service manages the model."""
        client = self._settled(model)
        self.version(model, str(version))
        if by_hand:
            self._refuse_if_managed(model)
        aliases = self._aliases(model)
        old = way_back or aliases.get(CHAMPION)
        previous = aliases.get(PREVIOUS)
        if aliases.get(CHAMPION) == version != previous and way_back in (None, previous):
            return
        intent = _Intent(version, old, aliases.get(CHALLENGER) == version, reason, self._now().isoformat())
        with translated(f"model {model}"):
            client.set_registered_model_tag(model, INTENT_TAG, intent.dump())
            self._carry_out(model, intent)

    def _add(self, model: str, run_id: str, tags: Mapping[str, str]) -> int:
        """With the run's copy of the bundle as its source: a server refuses a path of a client.

        Of a run that is gone, only what serving loads is left.
        """
        client, source, known = self._client(), tags[URI_TAG], None
        with suppress(NotFound), translated(f"run {run_id}"):
            run = client.get_run(run_id)
            source, known = f"{run.info.artifact_uri}/bundle/{tags.get('serinus.candidate', 'model')}", run_id
        return int(client.create_model_version(model, source, run_id=known, tags=tags).version)

    def _carry_out(self, model: str, intent: _Intent) -> None:
        """Every link sets a state that follows from the intent, and from which versions there still are."""
        client, there = self._client(), self._numbers(model)
        if intent.to not in there:
            client.delete_registered_model_tag(model, INTENT_TAG)
            return
        if intent.old in there and intent.old != intent.to:
            self._set_alias(model, PREVIOUS, intent.old)
        elif self._aliases(model).get(PREVIOUS) == intent.to:
            # Its champion was deleted, and the way back becomes the way: nothing is behind it.
            client.delete_registered_model_alias(model, PREVIOUS)
        self._set_alias(model, CHAMPION, intent.to)
        if intent.drop_challenger and self._aliases(model).get(CHALLENGER) == intent.to:
            client.delete_registered_model_alias(model, CHALLENGER)
        client.set_model_version_tag(model, str(intent.to), "serinus.promoted_because", intent.reason)
        client.set_model_version_tag(model, str(intent.to), "serinus.promoted_at", intent.at)
        client.delete_registered_model_tag(model, INTENT_TAG)

    def _settled(self, model: str, *, create: bool = False) -> Any:  # noqa: ANN401 - MLflow's client
        """The client, after finishing a promotion that was cut off."""
        client = self._client()
        with translated(f"model {model}"):
            tags = self._model_tags(model)
            if tags is None and create:
                self._create(model)
            pending = (tags or {}).get(INTENT_TAG)
            if pending is not None:
                self._finish(model, pending)
        return client

    def _readable(self, model: str) -> Any:  # noqa: ANN401 - MLflow's client
        """The same for who only reads: what cannot be finished now, where one may not write, waits for who may."""
        with suppress(SerinusError):
            self._settled(model)
        return self._client()

    def _finish(self, model: str, pending: str) -> None:
        intent = _Intent.parse(pending)
        if intent is not None:
            self._carry_out(model, intent)
        else:
            self._client().delete_registered_model_tag(model, INTENT_TAG)

    def _numbers(self, model: str) -> set[int]:
        return {int(one.version) for one in self._client().search_model_versions(f"name = '{model}'", max_results=1000)}

    def _create(self, model: str) -> None:
        try:
            with translated(f"model {model}"):
                self._client().create_registered_model(model)
        except Conflict:
            return  # another run was first

    def _refuse_if_managed(self, model: str) -> None:
        owner = self._owner(model)
        if owner:
            raise Conflict(
                f"model {model} is managed by {owner}",
                cause="two writers of champion would undo each other",
                hint=f"start a rollout instead; where that service is no more, delete the model's tag {MANAGED_TAG}",
            )

    def _owner(self, model: str) -> str:
        return (self._model_tags(model) or {}).get(MANAGED_TAG, "")

    def _model_tags(self, model: str) -> dict[str, str] | None:
        try:
            with translated(f"model {model}"):
                return dict(self._client().get_registered_model(model).tags)
        except NotFound:
            return None

    def _aliases(self, model: str) -> dict[str, int]:
        try:
            with translated(f"model {model}"):
                return {
                    name: int(number) for name, number in self._client().get_registered_model(model).aliases.items()
                }
        except NotFound:
            return {}

    def _set_alias(self, model: str, alias: str, version: int) -> None:
        """MLflow answers the first creation of an alias by two clients at once with an error; the second try holds."""
        client = self._client()
        try:
            with translated(f"alias {alias} of {model}"):
                client.set_registered_model_alias(model, alias, str(version))
        except SerinusError:
            with translated(f"alias {alias} of {model}"):
                client.set_registered_model_alias(model, alias, str(version))

    def _client(self) -> Any:  # noqa: ANN401 - MLflow's client
        return self._given if self._given is not None else connect(self._uri)


def _ours(found: Any, aliases: Mapping[str, int]) -> ModelVersion:  # noqa: ANN401 - MLflow's entity
    return ModelVersion(
        model=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        storage_uri=found.tags.get(URI_TAG, found.source),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tags={name: value for name, value in found.tags.items() if name != URI_TAG},
        aliases=tuple(sorted(name for name, number in aliases.items() if number == int(found.version))),
    )
