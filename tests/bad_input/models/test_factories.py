"""Mistakes in a factory, its example inputs and its module: each is named, and nothing is changed."""

from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, nothing
from tests.bad_input.models.models import Make


def called(attribute: str, error: str, hint: str, *, code: int = 2) -> Kind:
    """The kind of a factory in tests/bad_input/models/factories.py."""
    source = f"tests.bad_input.models.factories:{attribute}"
    return Kind(attribute.replace("_", " "), f"build {source} -o models --name shop", error, hint, code)


def named(name: str, source: str, error: str, hint: str, make: Make = nothing) -> Kind:
    """The kind of a source that names no factory."""
    return Kind(name, f"build {source} -o models --name shop", error, hint, 2, make)


def module(name: str, text: str) -> Make:
    """Writes a Python module into the working directory."""

    def make(folder: Path) -> None:
        (folder / f"{name}.py").write_text(text)

    return make


A_FACTORY = "a factory returns (module, example_inputs)"
NAMES = [
    named("no such module", "no_such_package.models:ranker", "there is no module 'no_such_package'", "the working directory is importable"),
    named("no such submodule", "tests.bad_input.nowhere:ranker", "there is no module 'tests.bad_input.nowhere'", "working directory"),
    named("no such attribute", "tests.bad_input.models.factories:rnaker", "has no 'rnaker'", "names a callable of that module"),
    named("no attribute", "tests.bad_input.models.factories:", "is not package.module:factory", "shop.models:ranker"),
    named("no module", ":ranker", "':ranker' is not package.module:factory", "shop.models:ranker"),
    named("a file and a name", "shop/models.py:ranker", "shop/models.py is a file", "write shop.models:ranker"),
    named("not callable", "tests.bad_input.models.factories:number", "is a int, not a callable", A_FACTORY),
    named("a word", "ranker", "'ranker' is not a model", "package.module:factory"),
    named(
        "syntax error",
        "bad_syntax:ranker",
        "importing bad_syntax failed: SyntaxError",
        "python -c 'import bad_syntax'",
        module("bad_syntax", "def ranker(:\n"),
    ),
    named(
        "import of what is not installed",
        "bad_import:ranker",
        "importing bad_import failed: No module named 'no_such_dependency'",
        "install what it imports",
        module("bad_import", "import no_such_dependency\n"),
    ),
]

RETURNS = [
    called("raises", "failed: RuntimeError: no such checkpoint", "called without arguments"),
    called("exits", "failed: SystemExit: 3", "called without arguments"),
    called("needs_an_argument", "missing 1 required positional argument: 'size'", "called without arguments"),
    called("nothing", "returned a NoneType", A_FACTORY),
    called("four_things", "returned a tuple of 4", A_FACTORY),
    called("a_function", "returned a function first, not a torch.nn.Module", A_FACTORY),
    called("a_class", "returned a type first, not a torch.nn.Module", A_FACTORY),
    called("scripted", "returned a TorchScript module", "the nn.Module that it was scripted from"),
    called("on_meta", "the factory's module is on the meta device: user.weight, and 2 more", "--weights x.safetensors"),
]

INPUTS = [
    called("no_inputs", "do not fit Ranker.forward: missing a required argument: 'user'", "a tuple of arguments"),
    called("bare_tensor", "returned a Tensor as example_inputs", "(ids,) for one tensor"),
    called("too_many_inputs", "do not fit Ranker.forward: too many positional arguments", "a tuple of arguments"),
    called("text_input", "Ranker fails on its own example inputs", "module(*inputs)"),
    called("an_object", "example input 'user' is a object", "inputs are tensors in lists"),
    called("ids_outside", "Ranker fails on its own example inputs: index out of range", "module(*inputs)"),
    called("ids_as_floats", "Ranker fails on its own example inputs", "module(*inputs)"),
    called("shapes_of_another_model", "dynamic_shapes has 2 entries, and forward takes 1 arguments", "one entry per argument"),
]

MODULES = [
    called("branches_on_values", "torch.export can't trace the module", "if or for on tensor values", code=1),
    called("no_onnx_operator", "torch.onnx can't translate", "replace that operator", code=1),
    called("fixed_batch", "came out fixed at 3", "x.shape[0] or -1"),
    called("answers_a_loss", "output 'output' has no batch dimension", "the first dimension of every input and output"),
    called("answers_text", "output 'model' is a str, not a tensor", "return tensors"),
    called("answers_nothing", "answers_nothing has no outputs", "what it answers"),
    called("answers_bfloat16", "output 'output' is torch.bfloat16, which can't be served", "cast it"),
    called("compares_rows", "a row's answer depends on the other rows of its batch", "a mean along dimension 0"),
    called("draws_numbers", "the source answers differently when it is asked again", "dropout"),
    called("overflows", "the source answers NaN or infinity in output 'output'", "are the trained weights loaded?"),
    called("no_table", "the model reads no embedding table", "nn.Embedding"),
    called("clips", "0 has max_norm=1.0: it changes its rows while they are read", "clip the table once"),
    called("counts_calls", "the model changes 'calls' while it runs", "a served model writes to no weight"),
]


@pytest.mark.parametrize("kind", [*NAMES, *RETURNS, *INPUTS, *MODULES], ids=str)
def test_a_mistake_in_a_factory_is_named(kind: Kind, refused: Refused) -> None:
    refused(kind)
