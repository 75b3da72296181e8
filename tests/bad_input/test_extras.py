"""Packages that are not installed: each is named with the pip command that installs it, and what doesn't need it works."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input.kinds import contents, read

#: The command line, where importing the packages named by the first argument finds nothing.
WITHOUT = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

hidden = sys.argv.pop(1).split(",")
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from recsplit.cli import main
sys.exit(main())
"""


def run_without(packages: str, arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", WITHOUT, packages, *shlex.split(arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


FACTORY = "build recsplit.zoo.tiny:dlrm -o models --name shop"


@pytest.mark.parametrize(
    ("package", "arguments", "error", "hint", "code"),
    [
        ("torch", FACTORY, "torch is not installed, and a package.module:factory source needs it", "pip install 'recsplit[torch]'", 2),
        ("torch", "build bad.pt2 -o models", "torch is not installed, and an .pt2 source needs it", "pip install 'recsplit[torch]'", 2),
        ("onnxscript", FACTORY, "onnxscript is not installed, and a package.module:factory", "pip install 'recsplit[torch]'", 2),
        ("torch", "inspect recsplit.zoo.tiny:dlrm", "torch is not installed", "pip install 'recsplit[torch]'", 2),
        ("torch", "demo --dir demo", "torch is not installed", "pip install 'recsplit[torch", 2),
        ("pytriton", "serve models", "nvidia-pytriton is not installed, and a Triton server", "pip install 'recsplit[local]'", 2),
        ("pytriton", "verify models --served", "nvidia-pytriton is not installed", "pip install 'recsplit[local]'", 2),
        ("pytriton", "perf run models -b 8", "nvidia-pytriton is not installed", "pip install 'recsplit[local]'", 2),
        ("pytriton", "demo --dir demo", "nvidia-pytriton is not installed", "pip install 'recsplit[", 2),
        ("recbole", "demo --movielens --dir demo", "recbole", "pip install", 2),
        ("torchrec", "inspect recsplit.zoo.torchrec:dlrm", "No module named 'torchrec'", "install what it imports", 2),
        ("onnxruntime", "build shop.onnx -o models", "importing onnxruntime failed", "pip install --force-reinstall recsplit", 1),
        ("tritonclient", "verify models", "importing tritonclient failed", "pip install --force-reinstall recsplit", 1),
    ],
)
def test_a_package_that_is_missing_is_named(package: str, arguments: str, error: str, hint: str, code: int, folder: Path) -> None:
    before = contents(folder)
    done = run_without(package, arguments, folder)
    answer = read(done.returncode, done.stderr)
    assert error in answer.error
    assert hint in answer.hint
    assert answer.code == code
    assert contents(folder) == before


def test_an_onnx_model_is_built_and_verified_without_any_extra(folder: Path) -> None:
    for arguments in ("build shop.onnx -o new --name shop", "verify new"):
        done = run_without("torch,onnxscript,torchrec,pytriton,tensorrt", arguments, folder)
        assert done.returncode == 0, done.stderr
