"""What a command says comes next can be typed as it stands, whatever the folder is called."""

import shlex
from pathlib import Path

from tests.conftest import Run


def test_a_folder_with_a_space_is_quoted(run_recsplit: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my models; here"
    arguments = ("--embedding-runtime", "onnxruntime", "--search-s", "0")
    built = run_recsplit("build", "recsplit.zoo.tiny:dlrm", "-o", folder, *arguments)
    assert built.returncode == 0, built.stderr
    line = next(line for line in built.stdout.splitlines() if line.startswith("Next: "))
    assert shlex.split(line.removeprefix("Next: ")) == ["recsplit", "serve", str(folder)]
    rendered = run_recsplit("render", "kubernetes", folder, "-o", tmp_path / "k8s of it")
    assert rendered.returncode == 0, rendered.stderr
    line = next(line for line in rendered.stdout.splitlines() if "kubectl apply -k" in line)
    assert shlex.split(line)[-1] == str(tmp_path / "k8s of it/overlays/dev")
