"""Every factory of the zoo, by what recsplit and the coverage table rely on."""

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from recsplit.load.export import quiet
from recsplit.load.flat import Flat
from recsplit.zoo.layers import Model
from recsplit_perf.benchmarks.coverage import MODELS

NEEDED = {"deepctr": "deepctr_torch", "torchrec": "torchrec"}
FAILS_ON_ONE_ROW = {"recsplit.zoo.deepctr:dcnmix"}  # deepctr-torch 0.3.0 squeezes the batch away


def factory_of(spec: str) -> Callable[..., Model]:
    module, _, name = spec.partition(":")
    package = NEEDED.get(module.rpartition(".")[2])
    if package is not None:
        with quiet():
            pytest.importorskip(package)
    factory: Callable[..., Model] = getattr(importlib.import_module(module), name)
    return factory


def flat(model: Model) -> Flat:
    flat_model = Flat(model[0], model[1], {}, model[2] if len(model) == 3 else None)
    with torch.no_grad(), quiet():
        flat_model(*flat_model.tensors)
    return flat_model


def answers(model: Model) -> list[torch.Tensor]:
    flat_model = flat(model)
    with torch.no_grad():
        return list(flat_model(*flat_model.tensors))


@pytest.mark.parametrize("spec", MODELS)
def test_a_factory_gives_any_batch_and_answers_one_row_each(spec: str) -> None:
    factory = factory_of(spec)
    for batch in (5,) if spec in FAILS_ON_ONE_ROW else (1, 5):
        for answer in answers(factory(batch=batch, seed=3)):
            assert answer.shape[0] == batch
            assert torch.isfinite(answer).all()


@pytest.mark.parametrize("spec", MODELS)
def test_seeds_change_the_inputs_and_never_the_weights(spec: str) -> None:
    factory = factory_of(spec)
    first, other = factory(batch=4, seed=1), factory(batch=4, seed=2)
    weights = other[0].state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first[0].state_dict().items())
    pairs = zip(flat(first).tensors, flat(other).tensors, strict=True)
    assert any(one.shape != two.shape or not torch.equal(one, two) for one, two in pairs)
    assert not torch.allclose(answers(first)[0], answers(other)[0])


@pytest.mark.parametrize("spec", [spec for spec in MODELS if "deepctr" not in spec and "torchrec" not in spec])
def test_torch_exports_it_with_a_dynamic_batch(spec: str) -> None:
    model, other = factory_of(spec)(batch=4, seed=1), factory_of(spec)(batch=7, seed=2)
    flat_model = flat(model)
    with torch.no_grad(), quiet():
        program = torch.export.export(flat_model, tuple(flat_model.tensors), dynamic_shapes=(tuple(flat_model.shapes),))
        got = program.module()(*flat(other).tensors)
    for one, two in zip(got, answers(other), strict=True):
        torch.testing.assert_close(one, two)


def test_the_coverage_table_knows_every_factory() -> None:
    factory_specs = set()
    for name in ("tiny", "dlrm", "dcn", "two_tower", "ncf", "bags", "lookups", "deepctr", "torchrec"):
        spec = f"recsplit.zoo.{name}"
        factory_of(f"{spec}:__name__")
        module = importlib.import_module(spec)
        for attribute, value in vars(module).items():
            defined_here = inspect.isfunction(value) and value.__module__ == spec
            if not attribute.startswith("_") and (defined_here or isinstance(value, partial)):
                factory_specs.add(f"{spec}:{attribute}")
    assert factory_specs == set(MODELS)


def edge_cases(inputs: tuple[Any, ...]) -> tuple[int, int]:
    values, offsets = inputs[1], inputs[2]
    lengths = torch.diff(offsets, append=torch.tensor([len(values)]))
    return int(lengths.min()), int(lengths.max())


def test_bags_in_examples_are_empty_and_full() -> None:
    for seed in range(5):
        assert edge_cases(factory_of("recsplit.zoo.bags:sum_offsets")(batch=6, seed=seed)[1]) == (0, 6)


def test_ids_in_examples_reach_both_ends_of_a_table() -> None:
    for seed in range(5):
        ids = factory_of("recsplit.zoo.lookups:one_hot")(batch=2, seed=seed)[1][1]
        assert ids.tolist() == [0, 499]
