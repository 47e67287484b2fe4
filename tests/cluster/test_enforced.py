"""What docs/reference/test-bed.md says that the cluster enforces: each refusal is one by what it names."""

from __future__ import annotations

import json

import pytest

from tests.cluster.kube import Document, Kube, KubectlFailed

pytestmark = pytest.mark.cluster
POD: Document = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "plain"},
    "spec": {"containers": [{"name": "plain", "image": "redis:7"}]},
}
# A filter of one type with the settings of another: no schema of types refuses it, a rule in CEL does.
ROUTE: Document = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "wrong"},
    "spec": {
        "rules": [{"filters": [{"type": "RequestMirror", "requestRedirect": {"scheme": "https"}}]}],
    },
}


def _refused(kube: Kube, *arguments: str, document: Document | None = None) -> str:
    feed = json.dumps(document).encode() if document else None
    with pytest.raises(KubectlFailed) as refused:
        kube.run(*arguments, feed=feed)
    return str(refused.value)


def test_a_pod_that_is_not_a_restricted_one_is_refused(namespace: Kube) -> None:
    told = _refused(namespace, "create", "--dry-run=server", "--filename", "-", document=POD)
    assert 'violates PodSecurity "restricted' in told


def test_a_service_account_may_nothing_that_it_was_not_given(namespace: Kube) -> None:
    user = f"system:serviceaccount:{namespace.namespace}:default"
    told = _refused(namespace, "get", "secrets", "--as", user)
    assert "forbidden" in told
    assert user in told


def test_rules_of_a_crd_in_cel_are_checked(namespace: Kube) -> None:
    told = _refused(namespace, "create", "--dry-run=server", "--filename", "-", document=ROUTE)
    assert "filter.requestRedirect must be nil if the filter.type is not RequestRedirect" in told
