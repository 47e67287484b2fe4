"""Where predictors log and what the collector drains: files of the home, or the Redis that the profile names."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.errors import UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.wiring.adapters import deployer
from serinus.wiring.project import open_project
from serinus.wiring.serving import Wish, collect_settings, serve_settings
from serinus.wiring.settings import CollectSettings, ServeSettings

SERVICES = (ServiceRef("default", "renewal"), ServiceRef("lab", "renewal"))


def _settings(service: ServiceRef) -> tuple[ServeSettings, CollectSettings]:
    project = open_project()
    deployer(project).want(service, ModelRef("renewal", 1), "file:///bundles/b1")
    served = serve_settings(project, Wish(service), host="127.0.0.1", http_port=1, grpc_port=0)
    return served, collect_settings(project, service, host="127.0.0.1", port=2, accept_event_time=False)


def test_each_service_logs_to_a_folder_of_its_own(renewal_project: Path) -> None:
    for service in SERVICES:
        served, collects = _settings(service)
        folder = open_project().home / "events" / service.namespace / service.name
        assert (served.events, collects.folder, collects.events) == (str(folder), str(folder), "")
        assert served.writers_folder == folder / "writers"


def test_with_a_redis_of_the_profile_predictors_log_there_and_the_collector_drains_it_to_the_folder(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERINUS_EVENTS", "redis://events:6379/0")
    for service in SERVICES:
        served, collects = _settings(service)
        folder = open_project().home / "events" / service.namespace / service.name
        assert served.events == collects.events == "redis://events:6379/0"
        assert (str(served.service), str(collects.service)) == (str(service), str(service))
        assert collects.folder == str(folder)
        assert served.writers_folder == folder / "writers"


@pytest.mark.parametrize("address", ["events", "/var/events", "file:///var/events"])
def test_a_folder_in_which_services_would_meet_is_refused(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """KPIs are read from the folder of the service: rows in another one would be seen by nothing."""
    monkeypatch.setenv("SERINUS_EVENTS", address)
    with pytest.raises(UsageError, match="no address of a Redis for events") as told:
        _settings(SERVICES[0])
    assert "SERINUS_EVENTS" in told.value.hint
