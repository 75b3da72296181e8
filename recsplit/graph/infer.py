"""Shape inference by onnx, best effort: what a file doesn't tell, as far as it follows from the rest."""

import contextlib
import logging
from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes import common

#: Key of a graph's `meta`: the values whose shape couldn't be inferred.
SHAPELESS = "recsplit.shapeless"


def infer_shapes(model: ir.Model) -> None:
    """Fill in ranks and dims in place; large tensors are neither read nor handed to the inference.

    The values that stay without a shape are remembered (SHAPELESS), so that a pass which adds more of them is noticed.
    """
    with quiet():
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    model.graph.meta[SHAPELESS] = frozenset(value for node in model.graph for value in node.outputs if value.shape is None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep onnx_ir's warnings back: of bodies that loading has changed, of a file that can't be inferred as a whole, of values that nothing
    makes. None is a concern of the user's: what isn't known makes a node stay, with that as the reason, and a broken file is refused."""
    log = logging.getLogger("onnx_ir")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
