"""promtool, which knows Prometheus' own rules: it checks files, and runs rules over series that a test makes up."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recsplit.monitoring.rendering import render
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan
from tests.kubernetes.prometheus import TOOLS

BINARY = shutil.which("promtool", path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
needs_promtool = pytest.mark.skipif(BINARY is None, reason="promtool is not installed (Debian's package prometheus)")

Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """Series by name and labels, with values in promtool's short form, one each `step_s`; after `at` each query gives its samples."""

    series: Series
    at: str
    expected: Mapping[str, Sequence[tuple[str, float]]]
    step_s: int = 2
    name: str = field(default="case")


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    assert BINARY is not None
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def write(folder: Path, plan: Plan, watching: Watching) -> Path:
    for name, text in render(plan, watching).items():
        (folder / name).write_text(text)
    return folder


def run(folder: Path, cases: Sequence[Case], rules: Sequence[str] = ("rules.yml", "alerts.yml")) -> None:
    """Run the cases against the rules that were rendered into `folder`; what differs is the assertion's text."""
    tests: list[dict[str, Any]] = [
        {
            "name": case.name,
            "interval": f"{case.step_s}s",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {"expr": expr, "eval_time": case.at, "exp_samples": [{"labels": labels, "value": value} for labels, value in samples]}
                for expr, samples in case.expected.items()
            ],
        }
        for case in cases
    ]
    path = folder / "tests.yml"
    every = f"{min(case.step_s for case in cases)}s"
    path.write_text(json.dumps({"rule_files": list(rules), "evaluation_interval": every, "tests": tests}))  # JSON is YAML
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
