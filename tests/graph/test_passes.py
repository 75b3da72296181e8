"""Passes: each condition, broken on purpose, is told with the name of the pass; and the order of the passes is what they need."""

import re
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from recsplit.errors import RecsplitError
from recsplit.graph import conditions, cut, passes
from recsplit.graph.infer import infer_shapes
from recsplit.graph.loops.prepare import PREPARE
from recsplit.graph.names import Names
from recsplit.graph.shards.shards import SHARD
from recsplit.load import normalize
from recsplit.load.normalize import NORMALIZE
from tests.graph.small import loaded, proto, table

TEXT = "(int64[N,3] ids) => (float[N,24] y) { x = Gather(t, ids) y = Reshape(x, k) }"


def model() -> ir.Model:
    return loaded(proto(TEXT, {"t": table(50, 8), "k": np.array([-1, 24])}))


def add_function(model: ir.Model) -> None:
    function = ir.Function("own", "f", graph=ir.Graph([], [], nodes=[], name="f"), attributes=[])
    model.functions[function.identifier()] = function


def add_constant(model: ir.Model) -> None:
    model.graph.append(ir.node("Constant", [], {"value": ir.tensor([1.0])}, name="left"))


def add_identity(model: ir.Model) -> None:
    copied = ir.node("Identity", [model.graph.inputs[0]], name="idle")
    copied.outputs[0].shape, copied.outputs[0].name = ir.Shape([2]), "copy"
    model.graph.append(copied)


def forget_shape(model: ir.Model) -> None:
    added = ir.node("Neg", [model.graph.inputs[0]], name="added")
    added.outputs[0].name = "untold"
    model.graph.append(added)


def repeat_name(model: ir.Model) -> None:
    added = ir.node("Neg", [model.graph.inputs[0]], name="added")
    added.outputs[0].name, added.outputs[0].shape = "ids", ir.Shape([2])
    model.graph.append(added)


def misplace(model: ir.Model) -> None:
    first, last = model.graph[0], model.graph[-1]
    model.graph.remove(first)
    model.graph.insert_after(last, first)


def add_bag(model: ir.Model) -> None:
    model.graph.append(ir.node("EmbeddingBag", [model.graph.inputs[0]], domain="recsplit", name="bag"))


def add_sequence(model: ir.Model) -> None:
    model.graph.append(ir.node("SequenceEmpty", [], name="sequence"))


def fix_batch(model: ir.Model) -> None:
    model.graph.inputs[0].shape = ir.Shape([4, 3])


def fix_answers(model: ir.Model) -> None:
    model.graph.outputs[0].shape = ir.Shape([4, 24])


BROKEN: dict[str, tuple[passes.Condition, Callable[[ir.Model], None], str]] = {
    "functions": (conditions.NO_FUNCTIONS, add_function, "function ('own', 'f', '')"),
    "constants": (conditions.NO_CONSTANTS, add_constant, "Constant 'left'"),
    "idle": (conditions.NOTHING_IDLE, add_identity, "Identity 'idle'"),
    "shapes": (conditions.SHAPES_INFERRED, forget_shape, "'untold' has no shape"),
    "names": (conditions.UNIQUE_NAMES, repeat_name, "2 values are called 'ids'"),
    "order": (conditions.SORTED, misplace, "reads 'x' before it is made"),
    "bags": (conditions.NO_BAGS, add_bag, "EmbeddingBag 'bag'"),
    "sequences": (conditions.SERVED, add_sequence, "SequenceEmpty 'sequence'"),
    "inputs": (conditions.BATCHED_INPUTS, fix_batch, "input 'ids' has 4 rows"),
    "outputs": (conditions.BATCHED_OUTPUTS, fix_answers, "output 'y' has the shape"),
}


@pytest.mark.parametrize(("condition", "breaks", "breach"), BROKEN.values(), ids=BROKEN)
def test_a_pass_that_breaks_a_condition_is_named(condition: passes.Condition, breaks: Callable[[ir.Model], None], breach: str) -> None:
    whole = model()
    assert condition.breach(whole) is None, "a model that was normalized has it"
    steps = [passes.Pass[ir.Model]("first", lambda model: None), passes.Pass("the culprit", breaks, ensures=(condition,))]
    with pytest.raises(passes.BrokenConditionError, match=re.escape(breach)) as caught:
        passes.run(steps, whole, lambda model: [model])
    assert str(caught.value).startswith(f"pass 'the culprit': {condition.name!r} doesn't hold after it: ")
    assert caught.value.detail == "passes before: first"
    assert "fault in recsplit" in caught.value.hint


def test_a_pass_that_comes_too_early_is_named() -> None:
    whole = model()
    add_bag(whole)
    steps = [passes.Pass[ir.Model]("too early", lambda model: None, requires=(conditions.NO_BAGS,))]
    with pytest.raises(passes.BrokenConditionError, match=r"pass 'too early': .* doesn't hold before it: EmbeddingBag 'bag'"):
        passes.run(steps, whole, lambda model: [model])


def test_every_condition_is_asked_for_by_some_pass() -> None:
    pairs = [(step.requires, step.ensures) for step in NORMALIZE] + [(step.requires, step.ensures) for step in cut.CUT]
    pairs += [(step.requires, step.ensures) for step in PREPARE] + [(step.requires, step.ensures) for step in SHARD]
    asked = {condition.name for pair in pairs for several in pair for condition in several}
    assert asked == {condition.name for condition, _, _ in BROKEN.values()}


@pytest.mark.parametrize("name", [step.name for step in NORMALIZE if step.requires])
def test_a_pass_of_normalize_that_is_moved_to_the_front_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw model with a function, constants and an idle node: whatever a pass needs isn't there before the others ran."""
    moved = next(step for step in NORMALIZE if step.name == name)
    monkeypatch.setattr(normalize, "NORMALIZE", (moved, *(step for step in NORMALIZE if step is not moved)))
    raw = ir.from_proto(proto(TEXT, {"t": table(50, 8), "k": np.array([-1, 24])}))
    add_function(raw)
    with pytest.raises(RecsplitError, match=f"pass '{name}': .* doesn't hold before it"):
        normalize.normalize(raw, origin="moved")


def test_values_whose_shape_no_inference_tells_are_no_fault_of_a_pass() -> None:
    whole = model()
    forget_shape(whole)
    infer_shapes(whole)
    assert conditions.SHAPES_INFERRED.breach(whole) is None


def test_names_are_fresh_in_bodies_too() -> None:
    text = "(bool go, float[N] x) => (float[N] y) { y = If(go) <then_branch = a () => (float[N] inner) { inner = Neg(x) }, "
    text += "else_branch = b () => (float[N] other) { other = Abs(x) }> }"
    graph = ir.from_proto(proto(text, {})).graph
    names = Names(graph)
    assert [names.fresh("inner"), names.fresh("inner"), names.fresh("free")] == ["inner_2", "inner_3", "free"]
