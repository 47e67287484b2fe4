"""Cluster settings of a task: volumes, secrets, resources and security, in one place.

Invariant: local runs ignore all of it (plain environment variables would reach them, so the image sets its profile
itself); no name of a machine and no host path is part of a compiled pipeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kfp import dsl, kubernetes

HOME, HOME_CLAIM, SECRET = "/var/lib/serinus", "serinus-home", "serinus-pipeline"


@dataclass(frozen=True)
class Size:
    """What a node must have free for a task, and the CPUs that it may use; memory is both."""

    cpu: str
    cpu_limit: str
    memory: str


# A request decides whether a node takes a task at all: two CPUs never fit one of two beside any other pod.
SMALL = Size(cpu="500m", cpu_limit="500m", memory="1Gi")
LARGE = Size(cpu="500m", cpu_limit="2", memory="5Gi")


def on_cluster(task: dsl.PipelineTask, step: str, *, size: Size, kept: Mapping[str, str]) -> dsl.PipelineTask:
    """The shared volume with feature sources, bundles and journals; credentials from a Secret; a non-root user.

    `kept` are names of results by step. Each task gets its own, because a switch for the whole run does not reach
    tasks inside an exit handler; a task without one is always run.
    """
    task.set_caching_options(step in kept, kept.get(step))
    kubernetes.mount_pvc(task, pvc_name=HOME_CLAIM, mount_path=HOME)
    kubernetes.use_secret_as_env(
        task, SECRET, secret_key_to_env={"tracking_uri": "SERINUS_TRACKING_URI"}, optional=True
    )
    kubernetes.set_security_context(task, run_as_user=65532, run_as_group=65532, run_as_non_root=True)
    task.set_cpu_request(size.cpu).set_cpu_limit(size.cpu_limit)
    task.set_memory_request(size.memory).set_memory_limit(size.memory)
    return task
