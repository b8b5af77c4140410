"""The Dockerfile by rules: small, non-root, nothing floating, nothing of the service left out."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from typer.testing import CliRunner

from api.cli.main import app
from api.settings import Settings
from tests.deploy.compose import ROOT, compose, option_of
from tests.deploy.test_compose import GIVEN

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@dataclass(frozen=True, kw_only=True)
class Step:
    """One instruction; ``stage`` counts from 0."""

    stage: int
    name: str
    value: str


def steps() -> list[Step]:
    """The Dockerfile's instructions."""
    content = (ROOT / "Dockerfile").read_text()
    found, stage = [], -1
    for each in DockerfileParser(fileobj=io.BytesIO(content.encode())).structure:
        stage += each["instruction"] == "FROM"
        if each["instruction"] != "COMMENT":
            found.append(Step(stage=stage, name=each["instruction"], value=each["value"]))
    return found


STEPS = steps()
LAST = max(step.stage for step in STEPS)


def values(name: str, *, stage: int = LAST) -> list[str]:
    """What instructions of that name say in a stage."""
    return [step.value for step in STEPS if (step.name, step.stage) == (name, stage)]


def sources() -> list[str]:
    """What is copied from the repository."""
    copies = [step.value.split() for step in STEPS if step.name == "COPY"]
    return [path for copy in copies if not copy[0].startswith("--from") for path in copy[:-1]]


def test_base_images_are_the_python_we_support() -> None:
    """A version, never ``latest``, the same in every stage, and one that pyproject allows."""
    images = [step.value.split()[0] for step in STEPS if step.name == "FROM"]
    assert len(set(images)) == 1
    name, _, tag = images[0].partition(":")
    assert name == "python"
    version = tuple(map(int, tag.split("-")[0].split(".")))
    assert version >= (3, 11)
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_it_does_not_run_as_root() -> None:
    """The last USER is one that was made here, without a login."""
    (user,) = values("USER")
    assert user not in {"root", "0"}
    assert any(f"useradd --system --uid 10001 {user}" in run for run in values("RUN"))


def test_nothing_is_added_from_elsewhere() -> None:
    """No ADD (it downloads and unpacks), no pipe from the network, no package without a version."""
    assert not [step for step in STEPS if step.name == "ADD"]
    for step in STEPS:
        if step.name == "RUN":
            assert "curl" not in step.value
            assert "pip install" not in step.value or "-c constraints.txt" in step.value


def test_it_starts_what_the_command_line_knows() -> None:
    """Exec form, so that signals arrive; each option is one of ``tallyman serve``."""
    (entrypoint,) = values("ENTRYPOINT")
    program, command, *options = json.loads(entrypoint)
    assert program.endswith("/bin/tallyman")
    assert "tallyman" in PROJECT["project"]["scripts"]
    said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert [each for each in options if each.startswith("--") and each not in said.output] == []
    assert values("CMD") == []


def test_data_and_port_are_those_of_compose() -> None:
    """What the entrypoint writes to is a volume, and the port is the default one."""
    (entrypoint,) = values("ENTRYPOINT")
    (volume,) = values("VOLUME")
    assert option_of(json.loads(entrypoint), "--data") == volume
    assert compose(**GIVEN)["services"]["tallyman"]["volumes"] == [f"tallyman:{volume}"]
    assert values("EXPOSE") == [str(Settings.model_fields["port"].default)]
    for setting in values("ENV"):
        _, _, path = setting.partition("=")
        assert path.startswith(f"{volume}/"), "the file system is read-only but for the volume"


def test_what_is_copied_is_there() -> None:
    """Each source is in the repository, and .dockerignore lets it through."""
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for source in sources():
        assert (ROOT / source).exists()
    assert let_through == set(sources())


def tracked(*folders: str) -> set[str]:
    """The files of these folders that git knows."""
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split() if Path(name).name != "README.md"}


@pytest.mark.slow
def test_the_image_has_the_whole_service(tmp_path: Path) -> None:
    """Built from what is copied and nothing else, the package has every file of the service."""
    for source in sources():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-c", build, str(wheels)], cwd=tmp_path, capture_output=True, check=True
    )
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    roots = [
        each.removesuffix("*")
        for each in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    ]
    assert sorted(tracked(*roots) - packed) == []
