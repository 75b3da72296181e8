"""A package that isn't installed: which extra brings it, and that this is no fault of the installation."""

import os
from pathlib import Path

import pytest

from recsplit.errors import extras_by_package
from tests.conftest import Run


@pytest.mark.parametrize(("package", "extra", "command"), [("matplotlib", "capacity", ("report", "MODELS", "-o", "report.html"))])
def test_a_command_names_the_extra_that_brings_what_is_missing(
    repository: Path, tmp_path: Path, run_recsplit: Run, package: str, extra: str, command: tuple[str, ...]
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no such module', name='{package}')\n")
    arguments = [str(repository / "model_repository") if each == "MODELS" else each for each in command]
    done = run_recsplit(*arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert f"{package} is not installed" in done.stderr and f"pip install 'recsplit[{extra}]'" in done.stderr


def test_extras_are_those_of_the_distribution() -> None:
    extras = extras_by_package()
    assert {"torch": "torch", "numba": "capacity", "kr8s": "kubernetes", "pyarrow": "parquet"}.items() <= extras.items()
    assert "onnx" not in extras
