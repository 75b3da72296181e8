"""model_repository/ is what recsplit writes for the tiny DLRM: a change of output shows as a change of these files."""

from pathlib import Path

from tests.conftest import REPOSITORY, Run

GOLDEN = REPOSITORY / "model_repository"
BUILD = (
    "build",
    "recsplit.zoo.tiny:dlrm",
    "--name",
    "tiny",
    "--build-id",
    "golden",
    "--threads",
    "1",
    "--embedding-runtime",
    "onnxruntime",
)


def texts(folder: Path) -> dict[str, str]:
    """The files that people read: configs and plans, by path; weights and reference tensors are not committed."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.glob("tiny*/**/*"))
        if path.suffix in {".pbtxt", ".json", ".txt"}
    }


def test_the_golden_repository_is_what_build_writes(run_here: Run, tmp_path: Path) -> None:
    done = run_here(*BUILD, "-o", tmp_path / "built")
    assert done.returncode == 0, done.stderr
    assert texts(tmp_path / "built") == texts(GOLDEN), "output moved: make repository, and commit it with the change that moved it"


def test_the_makefile_builds_what_this_test_builds() -> None:
    words = (REPOSITORY / "Makefile").read_text().split()
    assert set(BUILD) <= set(words)
