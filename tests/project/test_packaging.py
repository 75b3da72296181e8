"""The wheel and the sdist hold what a user needs, and the installed command runs without what only developers have."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import pytest

from tests.conftest import REPOSITORY

#: Folders whose files are package data or code; each must arrive in the wheel whole.
SHIPPED = {
    "recsplit": "recsplit",
    "templates": "recsplit/templates",
    "controller/recsplit_controller": "recsplit_controller",
    "perf/recsplit_perf": "recsplit_perf",
}


def run(*command: str | Path, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(kind: str, source: Path, target: Path) -> Path:
    """The wheel or sdist built from a source folder, with the hatchling of this environment and no network."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (file,) = target.iterdir()
    return file


def files_of(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", REPOSITORY, tmp_path_factory.mktemp("sdist"))


def committed(folder: str) -> set[str]:
    """Files of a folder as git knows them, new ones included; a symlink counts as one file."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", folder).split()
    return {name for name in listed if (REPOSITORY / name).is_file()}


@pytest.mark.parametrize("folder", SHIPPED)
def test_the_wheel_holds_every_file_of(folder: str, wheel: Path) -> None:
    expected_files = {SHIPPED[folder] + name.removeprefix(folder) for name in committed(folder)}
    assert expected_files
    assert expected_files <= files_of(wheel)


def test_the_wheel_holds_templates_backends_and_three_packages(wheel: Path) -> None:
    files = files_of(wheel)
    assert any(name.startswith("recsplit/templates/triton/") and name.endswith(".pbtxt.j2") for name in files)
    assert "recsplit/backends/onnxruntime/model.py" in files
    assert {"recsplit/scenarios/elasticrec.toml", "recsplit/scenarios/half-hourly-bursts.txt"} <= files
    tops = {name.partition("/")[0] for name in files if ".dist-info/" not in name}
    assert tops == {"recsplit", "recsplit_controller", "recsplit_perf"}


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source")  # our own archive; `filter` came with a later patch of Python 3.11
    (source,) = (tmp_path / "source").iterdir()
    assert files_of(built("wheel", source, tmp_path / "wheel")) == files_of(wheel)


def test_the_sdist_holds_what_the_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "README.md", "LICENSE", "tests/conftest.py", "docs/cli_reference.py"} <= names


def environment(folder: Path, *requirements: str | Path) -> Path:
    """A new virtual environment with pinned packages in it; returns its bin folder."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    install(folder, "--constraint", "constraints.txt", *requirements)
    return folder / "bin"


def install(folder: Path, *arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", *arguments)


def test_help_runs_with_click_alone(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    shutil.copytree(Path(click.__file__).parent, site_packages / "click")  # as installed here: an index adds nothing but time
    install(tmp_path / "venv", "--no-deps", "--no-index", wheel)
    recsplit = tmp_path / "venv" / "bin" / "recsplit"
    assert "Commands, in the order of use" in run(recsplit, "--help", cwd=tmp_path)
    assert run(recsplit, "--version", cwd=tmp_path).startswith("recsplit ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_default_install_needs_no_extra_to_say_what_it_does(wheel: Path, tmp_path: Path) -> None:
    """What only developers have (torch, onnxscript, hypothesis) must not be needed; sqlite-utils 4.2 shipped broken that way."""
    folder = environment(tmp_path / "venv", wheel)
    for absent in ("torch", "onnxscript", "pytriton", "nvidia_pyindex", "pytest"):
        missing = subprocess.run([folder / "python", "-c", f"import {absent}"], capture_output=True, check=False, timeout=60)
        assert missing.returncode == 1, f"the default install brings {absent}"
    names = run(folder / "python", "-c", "from recsplit.cli import COMMANDS; print(*COMMANDS)", cwd=tmp_path).split()
    for name in names:
        assert "Usage: recsplit" in run(folder / "recsplit", name, "--help", cwd=tmp_path)
    run(folder / "python", "-c", "import recsplit_controller, recsplit_perf, recsplit.client, recsplit.configs.render", cwd=tmp_path)
    factory = subprocess.run(
        [folder / "recsplit", "inspect", "recsplit.zoo.tiny:dlrm"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert factory.returncode == 2
    assert "Hint: pip install 'recsplit[torch]'" in factory.stderr
