"""--weights that don't fit, or are no weights: each says what is wrong, and nothing is changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, nothing
from tests.bad_input.models import factories
from tests.bad_input.models.models import Make


def weights(name: str, error: str, hint: str, make: Make, *, file: str = "w.safetensors", factory: str = "good") -> Kind:
    """The kind of a bad weights file; `make` writes it at the path that it is given."""
    arguments = f"build tests.bad_input.models.factories:{factory} --weights {file} -o models --name shop"
    return Kind(name, arguments, error, hint, 2, lambda folder: make(folder / file))


def state(**changes: torch.Tensor | None) -> Make:
    """Writes the good module's own weights, with changes; None leaves one out. Dots are __ here."""

    def make(path: Path) -> None:
        named = dict(factories.Ranker().state_dict()) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
        save_file({name: tensor for name, tensor in named.items() if tensor is not None}, path)

    return make


def cut_short(path: Path) -> None:
    state()(path)
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path: Path) -> None:
    torch.save(factories.Ranker().state_dict(), path)


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


KINDS = [
    weights("missing", "the weights file w.safetensors does not exist", "one .safetensors file", nothing),
    weights("a folder", "the weights file w.safetensors does not exist", "one .safetensors file", Path.mkdir),
    weights("empty", "w.safetensors is not a safetensors file, or is cut short", "copy or convert it again", Path.touch),
    weights("cut short", "w.safetensors is not a safetensors file, or is cut short", "copy or convert it again", cut_short),
    weights("random bytes", "is not a safetensors file", "again", lambda path: path.write_bytes(np.random.default_rng(0).bytes(999))),
    weights("git-lfs pointer", "w.safetensors is a git-lfs pointer", "git lfs pull", pointer),
    weights("a pickle", "w.pt is not a .safetensors file", "safetensors.torch.save_file", pickled, file="w.pt"),
    weights("a pickle under a good name", "w.safetensors is not a safetensors file", "convert it again", pickled),
    weights("a key is missing", "top.bias is missing in the file", "module.state_dict()", state(top__bias=None)),
    weights("a key too many", "more is in the file and not in the module", "module.state_dict()", state(more=torch.ones(2))),
    weights(
        "another shape",
        "user.weight is [9, 4] in the file and [50, 4] in the module",
        "names, shapes and dtypes are those of module.state_dict()",
        state(user__weight=torch.ones(9, 4)),
    ),
    weights(
        "another dtype",
        "user.weight is torch.float16 in the file and torch.float32 in the module",
        "module.state_dict()",
        state(user__weight=torch.ones(50, 4, dtype=torch.float16)),
    ),
    weights("everything wrong", "and 5 more", "module.state_dict()", lambda path: save_file({n: torch.ones(1) for n in "abc"}, path)),
    weights("full of NaN", "NaN or infinity in output 'output'", "trained weights", state(top__weight=torch.full((1, 4), torch.nan))),
    weights(
        "a key is missing for a module on meta", "top.bias is missing in the file", "state_dict()", state(top__bias=None), factory="on_meta"
    ),
    Kind(
        "for a file that has its own", "build shop.onnx --weights w.safetensors -o models", "shop.onnx holds its weights itself", "factory"
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_weights_that_do_not_fit_are_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)
