"""Volumes: rancher's local-path provisioner, as on kind, behind the default storage class.

Invariant: a claim's folder is made by a pod on the node, as the provisioner does everywhere; only the provisioner
itself runs beside the cluster instead of in it.
"""

from __future__ import annotations

from tests.cluster.bed.parts import Component, Part, Task
from tests.cluster.bed.probes import says
from tests.cluster.bed.programs import LOCAL_PATH, module_folder
from tests.cluster.bed.site import Site, documents

_NAMESPACE = "local-path-storage"
_ACCOUNT = "local-path-provisioner-service-account"
_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "rancher.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
}


def storage(site: Site, helper_image: str) -> list[Part]:
    """`helper_image` has a shell."""
    deployed = documents(module_folder(*LOCAL_PATH) / "deploy" / "local-path-storage.yaml")
    (settings,) = (one for one in deployed if one["kind"] == "ConfigMap")
    settings["data"]["helperPod.yaml"] = settings["data"]["helperPod.yaml"].replace("busybox", helper_image)
    config = site.places.run / "local-path.json"
    config.write_text(settings["data"]["config.json"], encoding="utf-8")
    helper = site.places.run / "local-path-helper.yaml"
    helper.write_text(settings["data"]["helperPod.yaml"], encoding="utf-8")
    objects = [one for one in deployed if one["kind"] not in ("Deployment", "StorageClass")]
    provisioner = Component(
        "local-path-provisioner",
        (
            site.program("local-path-provisioner"),
            "start",
            f"--kubeconfig={site.account(_NAMESPACE, _ACCOUNT)}",
            f"--namespace={_NAMESPACE}",
            f"--config={config}",
            f"--helper-pod-file={helper}",
            "--configmap-name=local-path-config",
        ),
        says(site.places.logs / "local-path-provisioner.log", "Started provisioner controller"),
        needs=("storage-objects",),
    )

    def apply() -> None:
        site.apply([*objects, _CLASS])
        site.sign_in(_NAMESPACE, _ACCOUNT)

    return [Task("storage-objects", apply, needs=("kube-apiserver",)), provisioner]
