"""The manifests for KubeRay, against its custom resources' fields (docs/reference/api.md of KubeRay 1.7)."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from jobs.spec import parse_spec
from tests.infra.files import INFRA, objects, only, walk

JOB = only("kuberay", "base", "rayjob.yaml")
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD = CLUSTER["headGroupSpec"]["template"]["spec"]
(GPU_GROUP,) = CLUSTER["workerGroupSpecs"]
WORKER = GPU_GROUP["template"]["spec"]
PODS = {"head": HEAD, "worker": WORKER, "submitter": JOB["spec"]["submitterPodTemplate"]["spec"]}
CRON_POD = only("kuberay", "cronjob", "cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]

RAYJOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
    "preRunningDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes",
    "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
RAYCLUSTER_FIELDS = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy",
    "rayVersion", "suspend", "tlsOptions", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
WORKER_GROUP_FIELDS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "priority",
    "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip
AUTOSCALER_FIELDS = {
    "args", "command", "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources",
    "securityContext", "upscalingMode", "version", "volumeMounts",
}  # fmt: skip
RAYCRONJOB_FIELDS = {"jobTemplate", "schedule", "suspend", "timeZone"}


def test_a_run_uses_fields_that_the_custom_resources_have() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert set(JOB["spec"]) <= RAYJOB_FIELDS
    assert set(CLUSTER) <= RAYCLUSTER_FIELDS
    assert set(GPU_GROUP) <= WORKER_GROUP_FIELDS
    assert set(CLUSTER["autoscalerOptions"]) <= AUTOSCALER_FIELDS
    assert set(CLUSTER["headGroupSpec"]) <= {"rayStartParams", "template"}


def test_a_run_ends_its_cluster_and_its_retries_and_time_are_bounded() -> None:
    spec = JOB["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] >= 2, "a retry may meet the lease of the pods it replaces"
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]


def test_the_command_is_reelweave_run_on_the_cluster_and_quarantine_is_no_reason_to_retry() -> None:
    shell, option, command = shlex.split(JOB["spec"]["entrypoint"])
    assert (shell, option) == ("sh", "-c")
    assert command.startswith("reelweave run /etc/reelweave/job.yaml --address auto ")
    for code, ends in ((0, 0), (1, 1), (2, 1), (3, 0), (130, 1)):
        stand_in = command.replace(command.partition(" ||")[0], f"(exit {code})")
        assert subprocess.run([shell, option, stand_in], check=False).returncode == ends, code


def test_the_driver_is_on_demand_and_the_gpus_are_spot() -> None:
    assert HEAD["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (term,) = WORKER["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
    ]
    assert {toleration["key"] for toleration in WORKER["tolerations"]} >= {"nvidia.com/gpu"}
    assert 1 <= GPU_GROUP["minReplicas"] <= GPU_GROUP["replicas"] <= GPU_GROUP["maxReplicas"]


def test_a_worker_is_drained_in_the_time_it_has() -> None:
    import ray.scripts.scripts as ray_cli

    script = WORKER["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0
    limit, command = re.search(r"timeout (\d+) ray (drain-node .*)", script.replace("\\\n", " ")).groups()  # type: ignore[union-attr]
    name, *arguments = shlex.split(command.replace("$RAY_ADDRESS", "head:6379"))
    parsed = ray_cli.cli.commands[name].make_context(name, arguments, resilient_parsing=False).params
    loop, pause = re.search(r"seq (\d+)\).*?sleep (\d+)", script, re.DOTALL).groups()  # type: ignore[union-attr]
    grace = WORKER["terminationGracePeriodSeconds"]
    assert int(limit) + int(loop) * int(pause) < grace
    assert parsed["deadline_remaining_seconds"] <= grace
    assert parsed["reason"] == "DRAIN_NODE_REASON_PREEMPTION"


@pytest.mark.parametrize("pod", [*PODS.values(), CRON_POD], ids=[*PODS, "cronjob"])
def test_every_pod_is_unprivileged_and_states_its_resources(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["restartPolicy"] == "Never"
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}


@pytest.mark.parametrize("pod", [HEAD, WORKER], ids=["head", "worker"])
def test_credentials_come_from_a_secret_and_settings_from_a_config_map(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    values = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in container["env"]}
    assert set(values) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {value["name"] for value in values.values()} == {"reelweave-s3"}
    assert container["envFrom"] == [{"configMapRef": {"name": "reelweave-env"}}]
    assert not [found for found in walk(JOB) if "value" in found and "name" in found]


def test_gpus_and_shared_memory_are_asked_for() -> None:
    (container,) = WORKER["containers"]
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for pod in (HEAD, WORKER):
        shared = {volume["name"]: volume for volume in pod["volumes"]}["shm"]
        assert shared["emptyDir"]["medium"] == "Memory"
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]


def test_the_job_of_the_config_map_is_a_valid_job_for_these_gpus() -> None:
    job = parse_spec(only("kuberay", "base", "job.yaml"))
    assert job.cluster.actors[1] * job.cluster.gpus_per_actor <= GPU_GROUP["maxReplicas"]
    assert job.cluster.address == "auto"


def test_the_scheduled_run_has_the_fields_of_ray_cron_job_and_no_others() -> None:
    cron = only("kuberay", "raycronjob", "raycronjob.yaml")
    assert (cron["apiVersion"], cron["kind"]) == ("ray.io/v1", "RayCronJob")
    assert set(cron["spec"]) == RAYCRONJOB_FIELDS - {"jobTemplate"}
    assert len(cron["spec"]["schedule"].split()) == 5
    (replacement,) = only("kuberay", "raycronjob", "kustomization.yaml")["replacements"]
    assert replacement["source"] == {"kind": "RayJob", "fieldPath": "spec"}
    assert replacement["targets"][0]["fieldPaths"] == ["spec.jobTemplate"]


def test_the_fallback_never_overlaps_and_may_only_list_and_create_runs() -> None:
    cron = only("kuberay", "cronjob", "cronjob.yaml")["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert CRON_POD["containers"][0]["command"][-1] == "/etc/reelweave/rayjob.yaml"
    account, role, binding = objects("kuberay", "cronjob", "rbac.yaml")
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["list", "create"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]
    assert CRON_POD["serviceAccountName"] == account["metadata"]["name"]


def test_every_config_map_that_pods_name_is_made() -> None:
    named = {
        found["name"]
        for pod in (*PODS.values(), CRON_POD)
        for mapping in walk(pod)
        for key in ("configMap", "configMapRef")
        if (found := mapping.get(key))
    }
    made = {
        generator["name"]
        for folder in ("base", "cronjob")
        for generator in only("kuberay", folder, "kustomization.yaml")["configMapGenerator"]
    }
    assert named == made - ({"reelweave-rayjob"} - named)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_the_scheduled_runs_with_the_spec_of_a_run() -> None:
    kinds = {}
    for folder in ("base", "raycronjob", "cronjob"):
        built = subprocess.run(
            ["kubectl", "kustomize", str(INFRA / "kuberay" / folder)],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        kinds[folder] = {found["kind"]: found for found in yaml.safe_load_all(built.stdout)}
    assert set(kinds["base"]) == {"ConfigMap"}
    assert kinds["raycronjob"]["RayCronJob"]["spec"]["jobTemplate"] == JOB["spec"]
    assert "RayJob" not in kinds["cronjob"]
    assert set(kinds["cronjob"]) == {"ConfigMap", "CronJob", "Role", "RoleBinding", "ServiceAccount"}
