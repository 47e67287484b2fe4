"""The names of what is served: a service, a version of a model; a problem is named like a service (DESIGN D23).

Invariant: a name that exists could be that of objects on Kubernetes, whose rules bind everywhere: what runs on one
machine today is applied to a cluster tomorrow under the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import CoreSchema, core_schema

from serinus.core.errors import UsageError

DEFAULT_NAMESPACE = "default"
# RFC 1035 as Kubernetes and KServe ask for it; a namespace may begin with a digit (RFC 1123).
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MOST_NAMESPACE = 38
# A revision is `<service>-v<N>-<hash6>`, and KServe makes `<revision>-predictor-<namespace>` a host's label of 63
# characters at most; the names of the Services that Serinus owns set the other limit (D23).
_MOST_SERVICE, _MOST_BOTH = 35, 39


@dataclass(frozen=True, order=True)
class ServiceRef:
    """One service: the key of its event log, folders and rollouts. In documents it is one text, `namespace/name`.

    Raises `UsageError` for names that cannot be those of a service on Kubernetes.
    """

    namespace: str
    name: str

    def __post_init__(self) -> None:
        faults = "; ".join((*namespace_faults(self.namespace), *service_faults(self.name, self.namespace)))
        if faults:
            raise UsageError(f"{self.namespace}/{self.name} is no name of a service", cause=faults)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def shown(self) -> str:
        """As people write it: the namespace only where it is not the usual one."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else str(self)

    @classmethod
    def parse(cls, text: str) -> ServiceRef:
        """Of `name`, in the namespace `default`, or `namespace/name`. Raises `UsageError`."""
        namespace, slash, name = text.rpartition("/")
        return cls(namespace if slash else DEFAULT_NAMESPACE, name)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> CoreSchema:  # noqa: ANN401 - what pydantic hands over
        text = core_schema.no_info_after_validator_function(cls._read, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def _read(cls, text: str) -> ServiceRef:
        try:
            return cls.parse(text)
        except UsageError as fault:
            raise ValueError(fault.cause) from fault


@dataclass(frozen=True, order=True)
class ModelRef:
    """A version of a registered model; `version` counts from 1."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def service_faults(name: str, namespace: str = DEFAULT_NAMESPACE) -> Iterator[str]:
    """Why a service in `namespace` cannot have this name; nothing when it can."""
    if not _SERVICE.fullmatch(name):
        yield "a name is lower-case letters, digits and hyphens, a letter first and no hyphen last"
    most = min(_MOST_SERVICE, _MOST_BOTH - len(namespace))
    if len(name) > most:
        yield f"a name has at most {most} characters in namespace {namespace}, not {len(name)}"


def problem_faults(name: str) -> Iterator[str]:
    """Why no problem can have this name: its usual service, in the namespace `default`, has the same."""
    faults, better = list(service_faults(name)), name.lower().replace("_", "-")
    yield from faults
    if faults and not list(service_faults(better)):
        yield f"{better} would do"


def feast_project(problem: str) -> str:
    """What a problem is called where Feast and Python take word characters only: its Feast project and the module of
    its declarations. No two problems share one, for no name of a problem has an underscore.
    """
    return problem.replace("-", "_")


def problem_of(project: str) -> str:
    """The problem of a Feast project: the inverse of `feast_project`."""
    return project.replace("_", "-")


def namespace_faults(namespace: str) -> Iterator[str]:
    """Why there can be no namespace of this name; nothing when there can."""
    if not _NAMESPACE.fullmatch(namespace):
        yield "a namespace is lower-case letters, digits and hyphens, a letter or digit at both ends"
    if len(namespace) > _MOST_NAMESPACE:
        yield f"a namespace has at most {_MOST_NAMESPACE} characters, or no service in it could have a name"
