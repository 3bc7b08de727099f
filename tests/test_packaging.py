"""The wheel carries both packages and the configurations, and works from an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TINY = [
    *(
        "mle.updates=2",
        "mle.batch_size=4",
        "rl.updates=1",
        "rl.batch_size=2",
        "task.validation_size=8",
        "task.test_size=8",
    ),
    *("policy.hidden_size=8", "evaluation.samples_shown=1"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", directory, ROOT], check=True)
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    return target


def rlseq(installed: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed package, which PYTHONPATH puts before the checkout."""
    command = [sys.executable, "-m", "rlseq", *arguments]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def sources(folder: str, suffix: str, under: str) -> set[str]:
    base = ROOT / folder
    return {f"{under}/{path.relative_to(base).as_posix()}" for path in base.rglob(f"*{suffix}")}


def test_the_wheel_holds_both_packages_and_the_configurations_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = sources("rlseq", ".py", "rlseq") | sources("envs/rlseq_envs", ".py", "rlseq_envs")
    assert names == code | sources("configs", ".yaml", "rlseq/configs") | {"rlseq/py.typed", "rlseq_envs/py.typed"}


def test_the_wheel_carries_its_licence_and_its_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    meta = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
    assert "Apache License" in archive.read(meta["licenses/LICENSE"]).decode()
    assert "rlseq = rlseq.cli:main" in archive.read(meta["entry_points.txt"]).decode()
    assert "License-Expression: Apache-2.0" in archive.read(meta["METADATA"]).decode()


def test_installed_it_lists_its_own_configurations(installed: Path, tmp_path: Path) -> None:
    code = "import rlseq, rlseq_envs; print(rlseq.__file__, rlseq_envs.__file__)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    places = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert all(place.startswith(str(installed)) for place in places.stdout.split())
    listed = rlseq(installed, tmp_path, "configs", "list")
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert names == {path.stem for path in (ROOT / "configs").glob("*")}


def test_installed_it_trains_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    done = rlseq(installed, tmp_path, "train", "hull", *TINY)
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "runs").iterdir())
    assert (run / "report" / "comparison.json").is_file()
    assert done.stdout.splitlines()[-1].endswith(f"tensorboard --logdir runs/{run.name}/tensorboard")
    assert "accuracy" in done.stdout and [path.name for path in tmp_path.iterdir()] == ["runs"]


# ------------------------------------------------------------------------------------------------------- constraints
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    pinned = constraints()
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if requirement.name != "rlseq":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_constraints_are_versions_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert constraints()["torch"] == "2.13.0"
