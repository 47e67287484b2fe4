"""What a home has in service, as values of the chart: `serinus chart`.

Invariant: a function of the service file and the card alone; bundles are named by what was stored, never by what
another machine would have trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serinus.core.assignment import regex_of, smaller_arm
from serinus.core.bundles import content_of
from serinus.core.card import Problem
from serinus.core.errors import UsageError
from serinus.core.names import ServiceRef
from serinus.core.ports import Service
from serinus.wiring.project import Project
from serinus.wiring.services import service_of
from serinus.wiring.serving import id_kinds, outcome_names


@dataclass(frozen=True)
class Shares:
    """Per cent of the buckets that the second revision gets, and that stay with the first whatever happens.

    `seed` decides which; the card's own when None.
    """

    weight: int = 0
    hold_back: int | None = None
    seed: int | None = None


def chart_values(project: Project, ref: ServiceRef, shares: Shares) -> dict[str, Any]:
    """Values `service`, `revisions` and `route`: the first version as stable, the wanted one, if another, as canary.

    Raises `NotFound` when nothing was ever deployed, `UsageError` for a weight that is not possible.
    """
    service = service_of(project, ref)
    card = project.problem(service.problem).card
    first, wanted = service.first_version or service.version, service.version
    revisions = {"stable": _revision(first, service.first_uri or service.storage_uri)}
    if wanted != first:
        revisions["canary"] = _revision(wanted, service.storage_uri)
    elif shares.weight:
        raise UsageError(f"{ref.shown} has version {first} alone", hint="without a second one the weight is 0")
    return {
        "service": _service(project, service, card),
        "revisions": revisions,
        "route": route_values(shares, card.operation.rollout.hold_back, card.data.seed),
    }


def route_values(shares: Shares, hold_back: int, seed: int) -> dict[str, Any]:
    """`route`: the arm with fewer buckets, and an expression of these; `hold_back` and `seed` where none are asked for.

    Raises `UsageError` for a weight that is none, or that reaches into the hold-back.
    """
    held = hold_back if shares.hold_back is None else shares.hold_back
    try:
        arm, buckets = smaller_arm(seed if shares.seed is None else shares.seed, shares.weight, held)
    except ValueError as fault:
        raise UsageError("these shares cannot be", cause=str(fault)) from fault
    return {"weight": shares.weight, "listed": arm.value, "buckets": regex_of(buckets) if buckets else ""}


def _service(project: Project, service: Service, card: Problem) -> dict[str, Any]:
    """Its names, what predictors and the collector must know of the card, and key types of the version that is wanted.

    The namespace is that of the release.
    """
    kinds, (label, *others) = id_kinds(project, service.ref), outcome_names(card)
    return {
        "name": service.ref.name,
        "problem": service.problem,
        "covariates": list(card.requirements.covariates),
        "inputsShare": card.operation.inputs_share,
        "unit": card.framing.unit,
        "outcomes": [label, *others],
        "keys": {"unit": kinds.unit, "item": kinds.item},
    }


def _revision(version: int, uri: str) -> dict[str, str]:
    return {"version": str(version), "bundle": content_of(uri)}
