"""`Registry` on MLflow: versions, and the aliases challenger, champion, previous (D16).

Invariant: an alias change is a chain of single calls with an intent written first; killed between any two of them, the
next call of any method finishes the chain before it does anything else. Each link is idempotent, so finishing twice is
harmless. There is one writer at a time: the pipeline for challenger, the rollout's owner for the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
                source = self._source(run_id, tags.get("serinus.candidate", "model"))
                all_tags = {**tags, URI_TAG: storage_uri}
                made = client.create_model_version(model, source, run_id=run_id, tags=all_tags)
                number = int(made.version)
        return self.version(model, str(number))

    def versions(self, model: str) -> list[ModelVersion]:
        """See `Registry`."""
        client = self._settled(model)
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
        self.version(model, str(version))
        with translated(f"version {version} of {model}"):
            for name, value in tags.items():
                client.set_model_version_tag(model, str(version), name, value)

    def challenge(self, model: str, version: int) -> None:
        """See `Registry`. One call, so there is nothing to finish."""
        self.version(model, str(version))
        self._set_alias(model, CHALLENGER, version)

    def manage(self, model: str, owner: str) -> None:
        """See `Registry`."""
        client = self._settled(model)
        with translated(f"model {model}"):
            client.set_registered_model_tag(model, MANAGED_TAG, owner)

    def promote(self, model: str, version: int, *, reason: str, by_hand: bool = False) -> None:
        """See `Registry`. By hand it is refused with `Conflict` while a service manages the model."""
        client = self._settled(model)
        self.version(model, str(version))
        if by_hand:
            self._refuse_if_managed(model)
        aliases = self._aliases(model)
        if aliases.get(CHAMPION) == version:
            return
        intent = _Intent(
            version, aliases.get(CHAMPION), aliases.get(CHALLENGER) == version, reason, self._now().isoformat()
        )
        with translated(f"model {model}"):
            client.set_registered_model_tag(model, INTENT_TAG, intent.dump())
            self._carry_out(model, intent)

    def _source(self, run_id: str, candidate: str) -> str:
        """Where the run keeps the bundle's files: a server refuses a version whose source is a path of a client."""
        run = self._client().get_run(run_id)
        return f"{run.info.artifact_uri}/bundle/{candidate}"

    def _carry_out(self, model: str, intent: _Intent) -> None:
        """Every link sets a state that follows from the intent alone."""
        client = self._client()
        if intent.old is not None:
            self._set_alias(model, PREVIOUS, intent.old)
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
                self._carry_out(model, _Intent(**json.loads(pending)))
        return client

    def _create(self, model: str) -> None:
        try:
            with translated(f"model {model}"):
                self._client().create_registered_model(model)
        except Conflict:
            return  # another run was first

    def _refuse_if_managed(self, model: str) -> None:
        owner = (self._model_tags(model) or {}).get(MANAGED_TAG)
        if owner:
            raise Conflict(
                f"model {model} is managed by {owner}",
                cause="two writers of champion would undo each other",
                hint="start a rollout instead, or remove the service first",
            )

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
