"""The image's short list of packages is enough for the controller, and is a part of pyproject.toml's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[2]

#: Imports and runs what the image runs, where these can't be imported.
WITHOUT = """
import sys
for name in ("torch", "onnx", "onnx_ir", "onnxruntime", "jinja2", "safetensors", "scipy", "numba"):
    sys.modules[name] = None
from pathlib import Path
from recsplit.cli import main
import recsplit_controller.actuate.kubernetes, recsplit_controller.actuate.triton, recsplit_controller.actuate.cluster
import recsplit_controller.observe.prometheus, recsplit_controller.observe.scrape, recsplit_controller.shell.replay
main()
"""


def names(lines: list[str]) -> set[str]:
    """Packages of requirements, as "name[extra]", without versions; what stands there only for one of Python's versions is left out."""
    kept = [line.split("#")[0].strip() for line in lines if ";" not in line]
    return {re.split(r"[<>=~! ]", line)[0] for line in kept if line}


def test_the_list_is_a_part_of_the_projects_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = names([*project["dependencies"], *project["optional-dependencies"]["kubernetes"]])
    listed = names((ROOT / "controller" / "requirements.txt").read_text().splitlines())
    assert {name.partition("[")[0] for name in listed} <= {name.partition("[")[0] for name in known}
    assert not {"onnx", "onnx-ir", "onnxruntime", "torch", "jinja2"} & listed


def test_every_copied_path_is_there() -> None:
    text = (ROOT / "controller" / "Dockerfile").read_text()
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--"):
            assert all((ROOT / path).exists() for path in words[1:-1]), line


def test_the_command_runs_without_what_the_image_lacks(tmp_path: Path) -> None:
    repository = ROOT / "model_repository"
    arguments = [
        "control",
        str(repository),
        "--metrics-url",
        "http://127.0.0.1:9/metrics",
        "--grpc-url",
        "127.0.0.1:9",
        "--once",
        "--dry-run",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tiny_dense" in done.stdout
