"""Shell completion: the scripts are valid, and the answers come without importing commands."""

import shutil
import subprocess
import sys

import pytest

from recsplit.cli import COMMANDS
from tests.conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_recsplit(run_recsplit: Run, shell: str) -> None:
    done = run_recsplit("completion", shell)
    assert done.returncode == 0
    assert f"_RECSPLIT_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_the_script(run_recsplit: Run, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=run_recsplit("completion", shell).stdout, text=True, check=True, timeout=120)


def test_commands_are_completed_from_the_table_alone(run_recsplit: Run) -> None:
    done = run_recsplit(env={"_RECSPLIT_COMPLETE": "bash_complete", "COMP_WORDS": "recsplit ", "COMP_CWORD": "1"})
    assert [line.split(",")[1] for line in done.stdout.split()] == list(COMMANDS)
    script = (
        "import os, sys; os.environ |= {'_RECSPLIT_COMPLETE': 'bash_complete', 'COMP_WORDS': 'recsplit ', 'COMP_CWORD': '1'}\n"
        "import recsplit.cli\n"
        "try: recsplit.cli.main([])\n"
        "finally: print([name for name in sys.modules if name.startswith('recsplit.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.endswith("[]\n")


def test_options_of_a_command_are_completed(run_recsplit: Run) -> None:
    done = run_recsplit(env={"_RECSPLIT_COMPLETE": "bash_complete", "COMP_WORDS": "recsplit completion z", "COMP_CWORD": "2"})
    assert done.stdout == "plain,zsh\n"
