"""The files for clusters are of the form that their readers ask for, and what they run exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from rlseq.config.load import load_config
from rlseq.rllib.submission import STOP_SECONDS
from tests.pages import ROOT

PLACE = ROOT / "scripts" / "cluster"
ATTEMPTS = re.compile(r"python -m rlseq\.training\.attempts (\S+) (\S+) (.*)")


def read(name: str) -> Any:
    return yaml.safe_load((PLACE / name).read_text())


def trains(command: str) -> None:
    """A command that attempts a training has a number, an absolute place, and keys that there are."""
    found = ATTEMPTS.search(" ".join(command.split()))
    assert found
    assert int(found[1]) >= 0 and Path(found[2]).is_absolute()
    config, *keys = shlex.split(found[3])
    load_config(config, keys)


def check_cluster(spec: dict[str, Any]) -> None:
    """Fields of a RayCluster's spec that KubeRay demands, the token, and GPUs for all learners of the examples."""
    assert set(spec) <= {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert spec["authOptions"] == {"mode": "token"}
    gpus = 0
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        gpus += group.get("replicas", 1) * int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert gpus == 40


def test_the_launcher_takes_its_file() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    settings = read("ray-up.yaml")
    jsonschema.validate(settings, schema)
    started = settings["head_start_ray_commands"] + settings["worker_start_ray_commands"]
    assert sum("RAY_AUTH_MODE=token" in command and "ray start" in command for command in started) == 2
    assert settings["max_workers"] == len(settings["provider"]["worker_ips"])


def test_kubernetes_takes_a_cluster() -> None:
    cluster = read("raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    check_cluster(cluster["spec"])


def test_kubernetes_takes_a_job() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    check_cluster(job["spec"].pop("rayClusterSpec"))
    trains(job["spec"].pop("entrypoint"))
    variables = yaml.safe_load(job["spec"].pop("runtimeEnvYAML"))["env_vars"]
    assert variables == {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    known = {"submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
    assert set(job["spec"]) == known


def test_slurm_takes_its_script(tmp_path: Path) -> None:
    """With other commands in place of Slurm's and Ray's: it trains with what it was given, and exits as that does."""
    script = PLACE / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    said = tmp_path / "said"
    fakes = {
        "scontrol": "echo one; echo two",
        "srun": 'while [[ $1 == -* || $1 == one || $1 == two ]]; do shift; done; "$@"',
        "hostname": "echo 10.0.0.1 10.1.0.1",
        "ray": f'echo "ray $@ $RAY_AUTH_MODE ${{#RAY_AUTH_TOKEN}}" >> {said}',
        "sleep": "",
        "python": f'if [[ $1 == -c ]]; then exec python3 "$@"; fi; echo "python $@ $RAY_ADDRESS" >> {said}; exit 7',
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NAME": "hull"}
    done = subprocess.run([str(script), "hull", "rl.samples=2"], env=environment, cwd=tmp_path, timeout=60)
    assert done.returncode == 7
    assert sorted(said.read_text().splitlines()) == [
        f"python -m rlseq.training.attempts 2 {tmp_path}/runs/hull hull rl.samples=2 10.0.0.1:6379",
        "ray start --address=10.0.0.1:6379 --block token 64",
        "ray start --head --node-ip-address=10.0.0.1 --port=6379 --include-dashboard=false --block token 64",
    ]


@pytest.mark.parametrize("name", [path.name for path in sorted(PLACE.iterdir())])
def test_commands_in_comments_exist(name: str) -> None:
    """What a file's head says to type names files that are there, and keys."""
    comments = [line[1:].strip() for line in (PLACE / name).read_text().splitlines() if line.startswith("#  ")]
    assert comments
    for line in comments:
        words = shlex.split(line, comments=True)
        assert all((ROOT / word).exists() for word in words if word.startswith("scripts/"))
        if words[0] in ("rlseq", "sbatch"):
            config, *keys = [word for word in words[2:] if "=" in word or word == "hull"]
            load_config(config, keys)
