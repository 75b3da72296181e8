"""The dashboard's JSON by Grafana's own types (npm's @grafana/schema): Grafana itself is in no registry of packages that we may use."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from recsplit.monitoring.dashboard import dashboard
from recsplit.monitoring.watching import Watching
from tests.remote import sharded

SCHEMA, COMPILER = "@grafana/schema@12.4.11", "typescript@5.9.3"
#: JSON has strings where the types have enums; a literal with a key that the types don't have is an error.
HEAD = """
import type { Dashboard } from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';
import type { Options, FieldConfig } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends Array<infer E> ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Some<T> = { [K in keyof T]?: T[K] extends object | undefined ? Partial<T[K]> : T[K] };
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm isn't installed"),
]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the types and a compiler."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", SCHEMA, COMPILER]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        pytest.skip(f"npm can't fetch Grafana's types: {done.stderr[-200:]}")
    return folder


def checked(folder: Path, text: str) -> str:
    """What the compiler says of it; "" where all is well."""
    (folder / "dashboard.ts").write_text(HEAD + text)
    command = [
        "node_modules/.bin/tsc",
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "dashboard.ts",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False).stdout


def test_the_dashboard_is_one_by_grafanas_types(compiler: Path, tmp_path: Path) -> None:
    model = dashboard(sharded.write(tmp_path / "shop"), Watching(bound_ms=50))
    lines = [f"const whole: Plain<Dashboard> = {json.dumps(model)};"]
    for panel in model["panels"]:
        if panel["type"] == "timeseries":
            # The whole's types leave open what a panel of a kind has of its own.
            lines.append(f"{{ const options: Some<Plain<Options>> = {json.dumps(panel['options'])}; }}")
            lines.append(f"{{ const custom: Plain<FieldConfig> = {json.dumps(panel['fieldConfig']['defaults']['custom'])}; }}")
    assert len(lines) > 20
    assert checked(compiler, "\n".join(lines)) == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"absolute"', '"relative"', "not assignable"),
        ('"includeAll"', '"includesAll"', "does not exist"),
        ('"schemaVersion": 39', '"schemaVersion": "39"', "not assignable"),
    ],
)
def test_what_grafana_would_not_know_is_told(compiler: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = json.dumps(dashboard(sharded.write(tmp_path / "shop"), Watching(bound_ms=50)))
    assert old in text
    assert message in checked(compiler, f"const whole: Plain<Dashboard> = {text.replace(old, new, 1)};")
