"""Files that are no torch.export program, or one that can't be used, and other kinds of file: refused, and nothing of theirs is run."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, nothing
from tests.bad_input.models.models import from_file


def good(path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Embedding(9, 2), torch.nn.Linear(2, 1))
    program = torch.export.export(module, (torch.tensor([1, 2, 3]),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, path)
    return path


def cut_short(path: Path) -> None:
    data = good(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def damaged(path: Path) -> None:
    data = good(path).read_bytes()
    path.write_bytes(data.replace(b'"graph_module"', b'"graph-module"'))


def fixed_batch(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Embedding(9, 2), (torch.tensor([1, 2, 3]),)), path)


def scripted(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def zipped(path: Path) -> None:
    inside = path.with_name("inside")
    inside.mkdir()
    (inside / "weights.txt").write_text("1.0")
    shutil.move(shutil.make_archive(str(path), "zip", inside), path)


def pickled(path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, path)


NO_PROGRAM = "bad.pt2 is not a torch.export program"
KINDS = [
    from_file("pt2 missing", nothing, "bad.pt2 is not a file", "check the path", suffix="pt2"),
    from_file("pt2 empty", b"", f"{NO_PROGRAM}, or is cut short", "torch.export.save", suffix="pt2"),
    from_file("pt2 cut short", cut_short, f"{NO_PROGRAM}, or is cut short", "torch.export.save", suffix="pt2"),
    from_file("pt2 damaged", damaged, "bad.pt2 can't be read by torch", "torch.export.save", suffix="pt2"),
    from_file("pt2 of random bytes", np.random.default_rng(0).bytes(5000), NO_PROGRAM, "torch.export.save", suffix="pt2"),
    from_file("pt2 that is a zip", zipped, f"{NO_PROGRAM}, or is damaged", "torch.export.save", suffix="pt2"),
    from_file(
        "pt2 that is TorchScript", scripted, "bad.pt2 is a TorchScript file, which recsplit does not open", "save it again", suffix="pt2"
    ),
    from_file("pt2 that is a pickle", pickled, "bad.pt2 is a pickle file, which recsplit does not open", "save it again", suffix="pt2"),
    from_file(
        "pt2 with a fixed batch", fixed_batch, "the batch dimension of input 'input' came out fixed at 3", "torch.export.Dim", suffix="pt2"
    ),
    from_file("pickle", pickled, "bad.pt is a pickle or TorchScript file, which recsplit does not open", "--weights", suffix="pt"),
    from_file("checkpoint", pickled, "bad.ckpt is a pickle or TorchScript file", "package.module:factory", suffix="ckpt"),
    from_file("weights as a model", b"", "bad.safetensors holds weights, not a model", "--weights bad.safetensors", suffix="safetensors"),
    from_file("python file", b"", "'bad.py' is not a model", "name the callable in it, as a module: bad:factory", suffix="py"),
    from_file("keras file", b"", "'bad.h5' is not a model", "a model is x.onnx, x.pt2", suffix="h5"),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_file_that_is_no_program_is_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)
