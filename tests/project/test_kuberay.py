"""The Kubernetes samples: what they must say, and what they must not. (No API server checks them here.)"""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import rabbitray.cluster
from rabbitray.actors.remote.inline import INLINE_VARIABLES
from rabbitray.actors.router.end_asked import DRAIN_SHARE
from rabbitray.cluster.driver.session import most_workers
from rabbitray.cluster.settings import Settings, load

FOLDER = Path(rabbitray.cluster.__path__[0]) / "deploy" / "kuberay"
Json = dict[str, Any]

RAYS_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


def documents(name: str) -> list[Json]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def specs() -> list[Json]:
    """The cluster of each sample."""
    return [documents("raycluster.yaml")[0]["spec"], documents("rayjob.yaml")[0]["spec"]["rayClusterSpec"]]


def pods(spec: Json) -> list[Json]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_both_samples_are_of_the_kinds_that_kuberay_knows() -> None:
    kinds = [(one["apiVersion"], one["kind"]) for name in ("raycluster.yaml", "rayjob.yaml") for one in documents(name)]
    assert kinds == [
        ("ray.io/v1", "RayCluster"),
        ("v1", "PersistentVolumeClaim"),
        ("policy/v1", "PodDisruptionBudget"),
        ("ray.io/v1", "RayJob"),
    ]


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_every_cluster_uses_the_token_and_the_autoscaler(spec: Json) -> None:
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["rayVersion"] == version("ray")
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_the_pool_is_told_that_pods_may_come_and_may_use_them_all(spec: Json) -> None:
    (container,) = pods(spec)[0]["containers"]
    environ = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("RABBITRAY_")}
    settings = load({}, environ, None).settings
    assert settings.can_grow_nodes
    group = spec["workerGroupSpecs"][0]
    (worker,) = group["template"]["spec"]["containers"]
    cpus = group["maxReplicas"] * float(worker["resources"]["limits"]["cpu"])
    assert cpus / settings.worker_num_cpus == most_workers(1, can_grow=True)


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_no_worker_fits_on_the_head_and_a_drain_fits_into_the_grace_period(spec: Json) -> None:
    settings = Settings.model_fields
    assert float(spec["headGroupSpec"]["rayStartParams"]["num-cpus"]) == 0
    grace_s, drain_s = pods(spec)[0]["terminationGracePeriodSeconds"], settings["drain_deadline_s"].default
    assert grace_s > 2 * drain_s
    [left_s] = [int(one["value"]) for one in pods(spec)[0]["containers"][0]["env"] if one["name"] == RAYS_DRAIN]
    assert left_s < grace_s, "Ray ends the node before Kubernetes does"
    assert DRAIN_SHARE * left_s >= drain_s, "by itself Ray leaves as long as our drain alone takes"


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_the_brokers_address_is_a_file_on_the_head_and_nowhere_else(spec: Json) -> None:
    head, *workers = pods(spec)
    (container,), (copying,) = head["containers"], head["initContainers"]
    assert copying["command"] == ["install", "-m", "600", "/etc/rabbitmq-secret/url", "/etc/rabbitray/url"]
    others = ("RABBITRAY_CAN_GROW_NODES", RAYS_DRAIN, *INLINE_VARIABLES)
    addresses = [one for one in container["env"] if one["name"] not in others]
    assert {one["name"]: one["value"] for one in container["env"]}.items() >= INLINE_VARIABLES.items()
    assert addresses == [{"name": "RABBITMQ_URL_FILE", "value": "/etc/rabbitray/url"}]
    secret = next(volume["secret"] for volume in head["volumes"] if "secret" in volume)
    assert secret == {"secretName": "rabbitmq", "defaultMode": 0o440}
    for pod in workers:
        [worker] = pod["containers"]
        assert [one["name"] for one in worker["env"]] == [RAYS_DRAIN]
        assert "volumeMounts" not in worker


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_a_pod_of_workers_has_the_time_of_a_handler_to_end(spec: Json) -> None:
    takes_s = Settings.model_fields["handler_timeout_s"].default
    for pod in pods(spec)[1:]:
        [left_s] = [int(one["value"]) for one in pod["containers"][0]["env"] if one["name"] == RAYS_DRAIN]
        assert takes_s < left_s < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_no_pod_starts_again_in_place_and_nobody_evicts_the_head(spec: Json) -> None:
    assert {pod["restartPolicy"] for pod in pods(spec)} == {"Never"}
    annotations = spec["headGroupSpec"]["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


@pytest.mark.parametrize("spec", specs(), ids=["raycluster", "rayjob"])
def test_nodes_are_found_by_their_labels(spec: Json) -> None:
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert group["labels"]["ray.io/node-group"] == group.get("groupName", "head")
        assert group["labels"]["ray.io/market-type"] in ("on-demand", "spot")


def test_pods_with_a_gpu_come_where_workers_ask_for_one() -> None:
    _, gpu = specs()[0]["workerGroupSpecs"]
    (container,) = gpu["template"]["spec"]["containers"]
    assert (gpu["replicas"], gpu["minReplicas"]) == (0, 0)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in gpu["template"]["spec"][
        "tolerations"
    ]


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_three_values_are_to_be_filled_in(name: str) -> None:
    assert (FOLDER / name).read_text().count("# change: ") == 3


def test_the_job_runs_a_command_that_exists_and_gives_the_drain_its_time() -> None:
    spec = documents("rayjob.yaml")[0]["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:5] == ["exec", "python", "-m", "rabbitray", "run"]
    wait_s = int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert wait_s > Settings.model_fields["drain_deadline_s"].default
    assert "url" not in " ".join(spec["metadata"])


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_no_secret_is_in_a_sample(name: str) -> None:
    text = (FOLDER / name).read_text().replace("amqps://USER:PASSWORD@HOST/VHOST", "")
    assert "amqp" not in text
    assert "RAY_AUTH_TOKEN" not in text.replace("RAY_AUTH_TOKEN=$(kubectl", "")
