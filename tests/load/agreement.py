"""Loading a factory of this checkout, and comparing the IR with the source on other batches than the example's."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsplit.load import Loaded, load
from recsplit.load.arrays import Array
from recsplit.load.flat import Flat
from tests.load.reference import evaluate

CONTROL = {"Loop", "If", "Scan", "SequenceConstruct", "SequenceEmpty", "SplitToSequence", "SequenceInsert"}


def inputs_of(spec: str, **settings: Any) -> dict[str, Array]:
    """The factory's example inputs for these settings, by graph input name."""
    module, _, name = spec.partition(":")
    model_and_inputs = getattr(importlib.import_module(module), name)(**settings)
    args, kwargs = ((), model_and_inputs[1]) if isinstance(model_and_inputs[1], dict) else (model_and_inputs[1], {})
    flat = Flat(model_and_inputs[0], args, kwargs, None)
    return {name: tensor.numpy() for name, tensor in zip(flat.names, flat.tensors, strict=True)}


def load_and_compare(spec: str, *, batches: Sequence[int] = (1, 2, 5)) -> Loaded:
    """Load `spec`; its IR, by the reference evaluator, must answer as the source does at every batch size. No loops."""
    loaded = load(spec)
    compare(loaded, *(inputs_of(spec, batch=batch, seed=batch) for batch in batches))
    assert not CONTROL & set(ops(loaded))
    return loaded


def compare(loaded: Loaded, *cases: dict[str, Array]) -> None:
    """The IR answers as `loaded.run` does, in every output, up to the rounding of fp32 sums."""
    for inputs in cases:
        source_answers, ir_answers = loaded.run(inputs), evaluate(loaded.model, inputs)
        assert list(source_answers) == list(ir_answers)
        for name, array in source_answers.items():
            assert array.shape == ir_answers[name].shape
            assert array.dtype == ir_answers[name].dtype
            np.testing.assert_allclose(ir_answers[name].astype(np.float64), array.astype(np.float64), rtol=1e-4, atol=1e-5, err_msg=name)


def ops(loaded: Loaded) -> list[str]:
    """The operators of the main graph in order; the contract's own with their domain."""
    return [f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in loaded.model.graph]


def names(values: Sequence[Any]) -> list[str]:
    """The names of graph inputs or outputs."""
    return [value.name for value in values]
