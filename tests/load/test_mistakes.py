"""Every mistake in a factory source is an InputError or RecsplitError that says what and what to try."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.load import load

MODELS = "tests.load.models"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("model", "'model' is not a model"),
        ("shop/models.py", "is not a model"),
        ("shop/models.py:ranker", "shop/models.py is a file, and recsplit imports a module"),
        ("model.pt", "is a pickle or TorchScript file"),
        ("model.safetensors", "holds weights, not a model"),
        (":factory", "':factory' is not package.module:factory"),
        ("shop.models:", "is not package.module:factory"),
        ("no_such_package.models:ranker", "there is no module 'no_such_package'"),
        ("tests.load.no_such_module:ranker", "there is no module 'tests.load.no_such_module'"),
        (f"{MODELS}:ranker", "module tests.load.models has no 'ranker'"),
        (f"{MODELS}:not_callable", "is a int, not a callable"),
        (f"{MODELS}:raises", r"raises\(\) failed: RuntimeError: no such checkpoint"),
        (f"{MODELS}:exits", r"exits\(\) failed: SystemExit: 3"),
        (f"{MODELS}:only_a_module", r"only_a_module\(\) returned a Embedding"),
        (f"{MODELS}:a_tensor_as_inputs", "returned a Tensor as example_inputs"),
        (f"{MODELS}:no_module", "returned a str first, not a torch.nn.Module"),
        (f"{MODELS}:on_meta", "is on the meta device: weight"),
        (f"{MODELS}:clipped", "e has max_norm=1.0"),
        (f"{MODELS}:too_many_arguments", "do not fit Model.forward: too many positional arguments"),
        (f"{MODELS}:shapes_that_do_not_fit", "dynamic_shapes has 2 entries, and forward takes 1 arguments"),
        (f"{MODELS}:strange_input", "example input 'thing' is a object"),
        (f"{MODELS}:scalar_input", "input 'scale' has no batch dimension"),
        (f"{MODELS}:fails_on_its_example", "Model fails on its own example inputs"),
        (f"{MODELS}:strange_output", "output 'b' is a str, not a tensor"),
        (f"{MODELS}:loss", "output 'output' has no batch dimension"),
        (f"{MODELS}:bfloat16_output", "output 'output' is torch.bfloat16"),
        (f"{MODELS}:fixed_batch", "the batch dimension of output 'output' came out fixed at 3"),
        (f"{MODELS}:fixed_output", "the batch dimension of output 'output' came out fixed at 1"),
        (f"{MODELS}:counts_calls", "the model changes 'calls' while it runs"),
        (f"{MODELS}:branch_on_values", "torch.export can't trace the module: Data-dependent branching"),
        (f"{MODELS}:no_onnx_operator", "torch.onnx can't translate"),
    ],
)
def test_a_mistake_is_named_with_a_hint(source: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecsplitError, match=words) as caught:
        load(source)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_the_users_last_frame_is_the_detail() -> None:
    with pytest.raises(InputError) as caught:
        load(f"{MODELS}:raises")
    assert 'raise RuntimeError("no such checkpoint")' in caught.value.detail


def test_the_exporters_words_are_the_detail() -> None:
    with pytest.raises(RecsplitError) as caught:
        load(f"{MODELS}:branch_on_values")
    assert "vectors if vectors.sum() > 0 else -vectors" in caught.value.detail


def test_a_module_that_fails_on_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_dependency\n")
    with pytest.raises(InputError, match="importing needs_more failed: No module named 'no_such_dependency'"):
        load("needs_more:factory")
    (tmp_path / "half_written.py").write_text("def factory(:\n")
    with pytest.raises(InputError, match="importing half_written failed: SyntaxError"):
        load("half_written:factory")


def test_the_working_directory_is_importable(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import torch\n\n\ndef ranker():\n    return torch.nn.Sequential(torch.nn.Embedding(9, 2)), (torch.tensor([1, 2]),)\n"
    )
    script = "from recsplit.load import load; import sys; assert 'torch' not in sys.modules; print(load('shop:ranker').source.spec)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("shop:ranker\n", "")
