"""What importing a package brings along. The import linter sees statements; these tests see what really happens."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def modules_after(statement: str) -> set[str]:
    """Top-level names of everything that one import loads, in a new interpreter."""
    script = f"import sys, json\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def at_start() -> set[str]:
    """What a new interpreter loads anyway (site-packages may hold .pth files that import)."""
    return modules_after("pass")


@pytest.mark.parametrize("module", ["recsplit", "recsplit.plan.plan", "recsplit.errors"])
def test_the_plan_needs_the_standard_library_only(module: str, at_start: set[str]) -> None:
    assert modules_after(f"import {module}") - at_start - sys.stdlib_module_names <= {"recsplit"}


def test_the_command_line_needs_click_only(at_start: set[str]) -> None:
    assert modules_after("import recsplit.cli") - at_start - sys.stdlib_module_names <= {"recsplit", "click"}


def test_the_controller_starts_with_torch_onnx_and_jinja2_absent() -> None:
    assert not modules_after("import recsplit_controller") & {"torch", "onnx", "onnx_ir", "jinja2"}


def test_the_client_needs_no_model_library() -> None:
    assert not modules_after("import recsplit.client") & {"torch", "onnx", "onnx_ir", "onnxruntime", "jinja2"}


def test_a_module_has_one_subject() -> None:
    """At most 300 lines, and a docstring whose first line says what it is about."""
    packages = ("recsplit", "controller", "perf", "docs")
    modules = [path for package in packages for path in (REPOSITORY / package).rglob("*.py")]
    assert not [str(path) for path in modules if len(path.read_text().splitlines()) > 300]
    assert not [str(path) for path in modules if not path.read_text().startswith('"""')]
