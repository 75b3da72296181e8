"""The published models: their numbers against the papers' tables, their modules against their numbers, and every one built."""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from recsplit.errors import InputError
from recsplit.load.factory import call, resolve
from recsplit.zoo import deeprecsys, elasticrec
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit.zoo.catalogue.published import GroupedLinear
from recsplit.zoo.catalogue.shapes import MIN_ROWS, ROWS_SCALE, refuse_memory, scale_of, scaled
from recsplit.zoo.layers import Model, seeded
from tests.build.onnx_models import build_of
from tests.conftest import Run

#: As the papers and their code have it: tables, dim, lookups an item, GB of FP32 tables, MFLOP an item, millions of weights.
PAPERS = {
    "ncf": (4, 64, 4, 0.09, 0.30, 0.15),
    "wide_and_deep": (27, 32, 27, 3.46, 4.13, 2.07),
    "mt_wide_and_deep": (43, 32, 43, 3.90, 5.24, 2.62),
    "mt_wide_and_deep_8": (43, 32, 43, 3.90, 7.54, 3.77),
    "dlrm_rmc1": (8, 32, 640, 4.10, 0.20, 0.10),
    "dlrm_rmc2": (32, 64, 3840, 4.10, 0.64, 0.32),
    "dlrm_rmc3": (10, 32, 200, 2.56, 6.41, 3.21),
    "din": (253, 32, 759, 5.89, 0.15, 0.08),
    "dien": (43, 32, 43, 3.90, 3.54, 0.094),  # the artefact's two tanh recurrences have 1.6 MFLOP and 0.07
    "rm1": (10, 32, 1280, 25.6, 0.15, 0.076),
    "rm2": (32, 32, 4096, 81.9, 0.78, 0.39),
    "rm3": (10, 32, 320, 25.6, 2.87, 1.44),
    "light": (10, 32, 1280, 25.6, 0.02, 0.011),
    "medium": (10, 32, 1280, 25.6, 0.15, 0.076),
    "heavy": (10, 32, 1280, 25.6, 0.43, 0.217),
    "criteo_kaggle": (26, 16, 26, 2.16, 0.95, 0.48),
    "criteo_terabyte": (26, 64, 26, 12.6, 1.52, 0.76),
    "random_benchmark": (8, 64, 800, 2.05, 4.99, 2.50),
}
#: Enough for every kind of module; the others, which take over five seconds each, are built in the slow tests.
BUILT_ALWAYS = {"ncf", "dlrm_rmc1", "rm1"}
TINY = 1e-4


def factory(name: str) -> Callable[..., Model]:
    module, _, attribute = CATALOGUE[name].factory.partition(":")
    factory_function: Callable[..., Model] = getattr(importlib.import_module(module), attribute)
    return factory_function


def near(value: float, published: float) -> bool:
    """Equal to the digits that were published, within a hundredth."""
    return math.isclose(value, published, abs_tol=0.0051, rel_tol=0.01)


def test_every_published_model_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_the_catalogue_agrees_with_the_papers(name: str) -> None:
    tables, dim, lookups, size_gb, mflop, parameters = PAPERS[name]
    model = CATALOGUE[name]
    assert (model.table_count, model.dim, model.lookups) == (tables, dim, lookups)
    assert near(model.size_bytes(1) / 1e9, size_gb)
    assert near(model.mflop, mflop)
    assert near(model.parameters / 1e6, parameters)


@pytest.mark.parametrize("name", PAPERS)
def test_the_default_scale_makes_a_model_that_any_machine_holds(name: str) -> None:
    model = CATALOGUE[name]
    assert 80e6 < model.size_bytes(model.rows_scale) < 400e6


@pytest.mark.parametrize("name", PAPERS)
def test_the_module_computes_what_the_catalogue_says(name: str) -> None:
    """Multiply-adds are counted where they happen, as the module runs; tables and weights from its parameters."""
    batch, scale, model = 3, 1e-3, CATALOGUE[name]
    module, inputs = factory(name)(rows_scale=scale, batch=batch)[:2]
    counted, weights = [], 0

    def count(_: nn.Module, layer_inputs: tuple[Tensor, ...], layer_answer: Tensor) -> None:
        counted.append(2 * layer_answer.numel() // batch * layer_inputs[0].shape[-1])

    for part in module.modules():
        if isinstance(part, nn.Linear | GroupedLinear):
            part.register_forward_hook(count)
            weights += sum(parameter.numel() for parameter in part.parameters())
    with torch.no_grad():
        answer = module(*inputs)
    tables = [part.weight for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    assert math.isclose(sum(counted) / 1e6, model.mflop)
    assert weights == model.parameters
    assert len(tables) == model.table_count
    assert sum(table.numel() * 4 for table in tables) == model.size_bytes(scale)
    assert inputs[-1].shape == (batch, model.lookups) and answer.shape[0] == batch
    assert [tensor.shape[1] for tensor in inputs[:-1]] == ([model.dense] if model.dense else [])


@pytest.mark.parametrize("name", ["ncf", "dlrm_rmc3", "din", "dien", "rm1"])
def test_rows_answer_differently_and_none_is_saturated(name: str) -> None:
    """Else a proof would compare ones with ones."""
    module, inputs = factory(name)(rows_scale=TINY, batch=64)[:2]
    with torch.no_grad():
        answer = module(*inputs)[:, -1]
    assert answer.min() > 0.05 and answer.max() < 0.95
    assert answer.std() > 1e-3


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in BUILT_ALWAYS else (pytest.mark.slow, pytest.mark.timeout(600))) for name in PAPERS]
)
def test_a_published_model_is_cut_and_proved(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROWS_SCALE, str(TINY))
    model = CATALOGUE[name]
    plan = build_of(model.factory, tmp_path, max_batch_size=64, threads=1).plan
    assert len(plan.tables) == model.table_count
    assert sum(table.size_bytes for table in plan.tables) == model.size_bytes(TINY)
    assert sum(lookup.width for lookup in plan.lookups) == model.lookups
    assert [tensor.dims for tensor in plan.boundary] == [(model.table_count, model.dim)]


@given(rows=st.integers(1, 10**9), scale=st.floats(1e-9, 1))
def test_a_scaled_table_has_some_rows_and_never_more_than_published(rows: int, scale: float) -> None:
    assert min(rows, MIN_ROWS) <= scaled(rows, scale) <= rows
    assert scaled(rows, 1) == rows
    assert scaled(rows, scale / 2) <= scaled(rows, scale)


def test_the_callers_scale_goes_before_the_environments_and_that_before_the_models() -> None:
    model = CATALOGUE["rm1"]
    assert scale_of(model, None, {}) == scale_of(model, None, {ROWS_SCALE: ""}) == model.rows_scale
    assert scale_of(model, None, {ROWS_SCALE: "0.5"}) == 0.5
    assert scale_of(model, 0.25, {ROWS_SCALE: "0.5"}) == 0.25


@pytest.mark.parametrize("text", ["0", "-1", "1.01", "nan", "inf", "a tenth"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=ROWS_SCALE) as refused:
        scale_of(CATALOGUE["rm1"], None, {ROWS_SCALE: text})
    assert "above 0" in refused.value.hint


def test_tables_larger_than_the_memory_are_refused_with_a_scale_that_fits() -> None:
    model = CATALOGUE["rm2"]
    refuse_memory(model, 0.1, 10 * 10**9)
    with pytest.raises(InputError, match=r"81\.9 GB at a scale of 1, and this machine has 10\.0 GB") as refused:
        refuse_memory(model, 1, 10 * 10**9)
    fitting = float(refused.value.hint.partition("=")[2].split()[0])
    refuse_memory(model, fitting, 10 * 10**9)


def test_what_a_factory_refuses_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROWS_SCALE, "7")
    with pytest.raises(InputError, match=f"^{ROWS_SCALE} is 7$") as refused:
        call(resolve("recsplit.zoo.elasticrec:rm1"), "recsplit.zoo.elasticrec:rm1")
    assert "above 0" in refused.value.hint


def test_the_list_says_what_to_build_and_how_large_it_gets(run_here: Run) -> None:
    done = run_here("zoo", "--rows-scale", "0.001", "--json")
    models = {model["name"]: model for model in json.loads(done.stdout)}
    assert set(models) == set(PAPERS)
    assert models["rm1"]["rows"] == 10 * 20_000 and models["rm1"]["published_rows"] == 200_000_000
    assert models["rm1"]["size_bytes"] == 10 * 20_000 * 32 * 4
    assert models["wide_and_deep"]["p95_bound_ms"] == 25
    assert "recsplit.zoo.elasticrec:rm1" in run_here("zoo").stdout


def test_the_list_refuses_a_scale_that_is_none(run_here: Run) -> None:
    done = run_here("zoo", "--rows-scale", "0")
    assert done.returncode == 2 and "--rows-scale is 0" in done.stderr


def made_gru(steps: int) -> deeprecsys.GRU:
    gru = seeded(deeprecsys.GRU(5, 7, steps))
    assert isinstance(gru, deeprecsys.GRU)
    return gru


def test_the_unrolled_gru_is_torchs() -> None:
    """torch orders its gates reset, update, new, and its update gate is how much of the state stays."""
    ours, sequence = made_gru(6), torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1))
    theirs = nn.GRU(5, 7, batch_first=True)
    parameters = {"weight_ih_l0": ours.inputs.weight, "weight_hh_l0": ours.states.weight, "bias_ih_l0": ours.inputs.bias}
    with torch.no_grad():
        for name, parameter in parameters.items():
            update, reset, new = parameter.chunk(3)
            getattr(theirs, name).copy_(torch.cat([reset, -update, new]))
        theirs.get_parameter("bias_hh_l0").zero_()
        torch.testing.assert_close(ours(sequence), theirs(sequence)[0])


def test_attention_scales_the_update_gate() -> None:
    gru, sequence = made_gru(4), torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(gru(sequence, torch.ones(2, 4)), gru(sequence))
        only_last = gru(sequence, torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 0.5]]))
    assert not only_last[:, :3].any() and not torch.allclose(only_last[0, 3], only_last[1, 3])
    with torch.no_grad():  # the state before it is zero, so half the gate is half the step
        alone = deeprecsys.GRU(5, 7, 1)
        alone.load_state_dict(gru.state_dict())
        torch.testing.assert_close(only_last[1, 3], alone(sequence[1:, 3:])[0, 0] / 2)


def test_grouped_layers_are_as_many_linear_layers() -> None:
    grouped = GroupedLinear(3, 4, 2)
    with torch.no_grad():
        for parameter in grouped.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(2))
        inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
        for group, answer in enumerate(grouped(inputs)):
            want = nn.functional.linear(inputs[group], grouped.weight[group].T, grouped.bias[group, 0])
            torch.testing.assert_close(answer, want)


def test_a_factory_gives_the_same_weights_and_other_inputs() -> None:
    one, two = elasticrec.light(rows_scale=TINY, seed=1), elasticrec.light(rows_scale=TINY, seed=2)
    other = two[0].state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one[0].state_dict().items())
    assert not torch.equal(one[1][1], two[1][1])
