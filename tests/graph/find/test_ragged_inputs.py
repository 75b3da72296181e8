"""Ragged inputs of every kind become rows: ids and offsets made on the way, sharing, jagged tensors; refusals say why."""

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.plan import ragged
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.ragged_models import ARRAYS, FORMS, ROWS, Bag, bag_of, jagged, rows_of, torch_answer
from tests.graph.small import Array, small, source_of, table

OF = np.random.default_rng(0).integers(1, ROWS, 90)
BEFORE = {
    "ids shifted": (Bag(before="v5=Add(values,five)", ids="v5"), 45, (True, 5, 45)),
    "ids hashed": (Bag(before="v5=Mod(values,k)", ids="v5"), 10**6, (False, 0, None)),
    "ids through BOOL": (Bag(before="v4=Cast<to=9>(values) v5=Cast<to=7>(v4)", ids="v5"), 5, (False, 0, None)),
    "ids // 4, as torch.onnx writes it": (
        Bag(
            before="b=Less(values,none) h=Equal(b,yes) m=Mod(values,four) c=Cast<to=9>(m) d=And(h,c) f=Cast<to=7>(d) g=Div(values,four) "
            "v5=Sub(g,f)",
            ids="v5",
        ),
        4 * ROWS,
        (False, 0, None),
    ),
    "quotient and remainder of one id": (
        Bag(before="g=Div(values,four) m=Mod(values,four) a=Add(g,m) v5=Mod(a,k)", ids="v5"),
        10**6,
        (False, 0, None),
    ),
    "ids above a limit as 0, by zeros_like": (
        Bag(before="b=Less(values,k) l=Shape(values) h=Expand(none,l) v5=Where(b,values,h)", ids="v5"),
        10**6,
        (False, 0, None),
    ),
    "ids above a limit as 0, by ConstantOfShape": (
        Bag(before="b=Less(values,k) l=Shape(values) h=ConstantOfShape<value=int64[1] {0}>(l) v5=Where(b,values,h)", ids="v5"),
        10**6,
        (False, 0, None),
    ),
    "ids out of a buffer": (Bag(before="v5=Gather(of,values)", ids="v5"), 90, (False, 0, None)),
    "ids out of a buffer of a buffer, hashed": (
        Bag(before="c=Gather(of,values) d=Gather(of,c) m=Mul(d,four) v5=Mod(m,k)", ids="v5"),
        90,
        (False, 0, None),
    ),
    "ids of a vocabulary": (
        Bag(
            before="v5=ai.onnx.ml.LabelEncoder<keys_int64s=[3,1000001,7],values_int64s=[40,41,42],default_int64=2>(values)",
            ids="v5",
        ),
        9,
        (False, 0, None),
    ),
    "offsets without their last": (Bag(before="o=Slice(offsets,zero,minus)", offsets="o"), ROWS, (True, 0, ROWS)),
    "offsets from lengths": (Bag(before="o=CumSum<exclusive=1>(offsets,axis)", offsets="o"), ROWS, (True, 0, ROWS)),
    "offsets from lengths, with the last": (
        Bag(before="c=CumSum(offsets,axis) o=Concat<axis=0>(zero,c)", offsets="o", last=1),
        ROWS,
        (True, 0, ROWS),
    ),
}


@pytest.mark.parametrize(("bag", "limit", "told"), BEFORE.values(), ids=BEFORE)
def test_what_a_model_does_to_ids_and_offsets_is_understood(bag: Bag, limit: int, told: tuple[bool, int, int | None]) -> None:
    arrays = {**ARRAYS, "minus": np.array([-1]), "none": np.array(0), "four": np.array(4), "yes": np.array(True), "of": OF}
    parts = small(bag.text, arrays)
    (bags,), (lookup,) = parts.cut.bags, parts.cut.lookups
    assert (lookup.direct, lookup.shift, lookup.limit) == told
    rows = rows_of([3, 0, 2, 1], limit=limit)
    rows[bags.lengths] = rows["lengths"]
    source = {**ragged.from_rows(bags, rows), "x": rows["x"]}
    np.testing.assert_allclose(parts(rows)["y"], source_of(bag.text, arrays)(source)["y"], rtol=1e-5, atol=1e-6)


def test_shifted_ids_are_told_as_the_client_sent_them() -> None:
    parts = Bag(before="v5=Add(values,five)", ids="v5").cut("padded")
    rows = rows_of([2, 1], limit=45)
    rows["values"][1, 0] = 45
    assert parts(rows)[UNKNOWN_IDS].tolist() == [[-1, 0], [0, 45]]


@pytest.mark.parametrize("form", FORMS)
def test_an_id_outside_a_buffer_is_unknown_to_its_own_row_alone(form: str) -> None:
    bag = Bag(before="c=Gather(of,values) m=Mul(c,five) v5=Mod(m,k)", ids="v5")
    parts = small(bag.text, {**ARRAYS, "of": OF}, bag_form=form)
    rows = rows_of([2, 1, 3], limit=90, extra=2, fill=10**6)
    fine = parts(rows)
    assert (fine[UNKNOWN_IDS][:, 0] == -1).all()
    rows["values"][1, 0] = 90
    marked = parts(rows)
    assert marked[UNKNOWN_IDS].tolist() == [[-1, 0], [0, -1], [-1, 0]] and np.isnan(marked["y"][1]).all()
    assert np.array_equal(marked["y"][[0, 2]], fine["y"][[0, 2]])


ONE_INPUT = "(int64[K] a, int64[M] offsets) => (float[N,8] y)"
TWO_INPUTS = "(int64[K] a, int64[K] b, int64[M] offsets) => (float[N,8] y)"
TWO_BAGS = "(int64[K] a, int64[M] oa, int64[L] b, int64[M] ob) => (float[N,8] y)"
SHARING = {
    "two inputs, one set of offsets": (
        f"{TWO_INPUTS} {{ p={bag_of('t', 'a', 'offsets')} q={bag_of('u', 'b', 'offsets', 'mean')} y=Mul(p,q) }}",
        ["a", "lengths", "b"],
    ),
    "one input, two tables": (
        f"{ONE_INPUT} {{ p={bag_of('t', 'a', 'offsets')} q={bag_of('u', 'a', 'offsets', 'max')} y=Mul(p,q) }}",
        ["a", "lengths"],
    ),
    "one input, a deep and a wide table": (
        f"{ONE_INPUT} {{ p={bag_of('t', 'a', 'offsets')} q={bag_of('wide', 'a', 'offsets')} y=Mul(p,q) }}",
        ["a", "lengths"],
    ),
    "two inputs with offsets of their own": (
        f"{TWO_BAGS} {{ p={bag_of('t', 'a', 'oa')} q={bag_of('t', 'b', 'ob')} y=Mul(p,q) }}",
        ["a", "oa_lengths", "b", "ob_lengths"],
    ),
    "a batch size from the offsets' shape": (
        f"{ONE_INPUT} {{ p={bag_of('t', 'a', 'offsets')} n=Shape(offsets) m=Concat<axis=0>(n,e) q=Expand(half,m) y=Mul(p,q) }}",
        ["a", "lengths"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("text", "inputs"), SHARING.values(), ids=SHARING)
def test_inputs_offsets_and_tables_may_be_shared(text: str, inputs: list[str], form: str) -> None:
    arrays = {**ARRAYS, "wide": table(ROWS, 1), "half": np.full(1, 0.5, dtype=np.float32)}
    parts = small(text, arrays, bag_form=form)
    assert [value.name for value in parts.cut.whole.graph.inputs] == inputs
    rows: dict[str, Array] = {}
    for number, bags in enumerate(parts.cut.bags):
        lengths = [2, 0, 3] if len(parts.cut.bags) == 1 or number == 0 or "offsets" in text else [1, 4, 0]
        bag_rows = rows_of(lengths, extra=number, seed=number)
        rows |= {bags.values: bag_rows["values"], bags.lengths: bag_rows["lengths"]}
    want = source_of(text, arrays)(ragged.source_inputs(parts.cut.bags, rows))
    np.testing.assert_allclose(parts(rows)["y"], want["y"], rtol=1e-5, atol=1e-6)


def test_a_dense_input_may_be_called_lengths() -> None:
    signature = "(float[N,8] lengths, int64[K] values, int64[M] offsets) => (float[N,8] y)"
    text = f"{signature} {{ s={bag_of('t', 'values', 'offsets')} y=Mul(s,lengths) }}"
    parts = small(text, ARRAYS)
    assert [value.name for value in parts.cut.whole.graph.inputs] == ["lengths", "values", "offsets_lengths"]
    rows = rows_of([2, 1])
    rows |= {"offsets_lengths": rows["lengths"], "lengths": np.ones((2, 8), np.float32)}
    assert not np.isnan(parts(rows)["y"]).any()


def test_int32_ids_narrow_ragged_values_too() -> None:
    bag = Bag(before="v5=Add(values,five)", ids="v5")
    parts = bag.cut("padded", int32_ids=True)
    rows = rows_of([3, 0, 2], limit=45)
    narrow = {**rows, "values": rows["values"].astype(np.int32)}
    shifted = {**rows, "values": rows["values"] + 5}
    np.testing.assert_allclose(parts(narrow)["y"], torch_answer(Bag(), parts, shifted), rtol=1e-5, atol=1e-6)
    assert str(next(value for value in parts.cut.whole.graph.inputs if value.name == "values").dtype) == "INT32"


REFUSED = {
    "values that another layer reads": (
        f"{ONE_INPUT} {{ p={bag_of('t', 'a', 'offsets')} f=Cast<to=1>(a) m=ReduceMax<keepdims=0>(f) y=Mul(p,m) }}",
        "is ragged and also read by Cast",
    ),
    "ids that depend on their neighbours": (
        f"{ONE_INPUT} {{ r=CumSum(a,axis) h=Mod(r,k) y={bag_of('t', 'h', 'offsets')} }}",
        "aren't one input's values taken one by one",
    ),
    "ids out of a buffer that is read where their neighbours say": (
        f"{ONE_INPUT} {{ r=CumSum(a,axis) m=Mod(r,k) h=Gather(of,m) y={bag_of('t', 'h', 'offsets')} }}",
        "aren't one input's values taken one by one",
    ),
    "ids stretched to the shape of others": (
        f"{ONE_INPUT} {{ r=CumSum(a,axis) l=Shape(r) h=Expand(a,l) y={bag_of('t', 'h', 'offsets')} }}",
        "aren't one input's values taken one by one",
    ),
    "offsets that aren't understood": (
        f"{ONE_INPUT} {{ o=Mul(offsets,five) y={bag_of('t', 'a', 'o')} }}",
        "isn't understood",
    ),
    "one input in two sets of bags": (
        f"(int64[K] a, int64[M] o, int64[M] q) => (float[N,8] y) {{ p={bag_of('t', 'a', 'o')} r={bag_of('t', 'a', 'q')} y=Mul(p,r) }}",
        "two different sets of bags",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_bags_that_cannot_become_rows_are_refused_and_it_is_told_why(text: str, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        small(text, {**ARRAYS, "of": OF})
    assert reason in f"{refused.value} {refused.value.detail}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("features", [1, 3, 26])
@pytest.mark.parametrize("weighted", [False, True])
def test_jagged_bags_of_many_features_are_one_group(features: int, weighted: bool, form: str) -> None:
    text, arrays = jagged(features, weighted=weighted)
    parts = small(text, arrays, bag_form=form)
    (bags,) = parts.cut.bags
    assert len(bags.features) == features == len(parts.cut.lookups)
    random = np.random.default_rng(features)
    for lengths in (random.integers(0, 4, (5, features)), np.zeros((2, features), dtype=int), random.integers(0, 2, (1, features))):
        rows = rows_of(lengths.tolist(), extra=2, fill=10**12, limit=20)
        want = source_of(text, arrays)(ragged.from_rows(bags, rows))["y"]
        got = parts(rows)
        np.testing.assert_allclose(got["y"], want, rtol=1e-5, atol=3e-6)
        assert (got[UNKNOWN_IDS][:, 0] == -1).all()
    assert len(parts.operators("embedding")) < 120


def test_an_unknown_id_names_its_feature() -> None:
    text, arrays = jagged(4)
    parts = small(text, arrays)
    rows = rows_of([[2, 1, 0, 2], [1, 1, 1, 1]], limit=20)
    rows["values"][0, 3], rows["values"][1, 1] = 21, 20  # feature 3 reads t1, which has 21 rows; feature 1 reads t0, which has 20
    assert parts(rows)[UNKNOWN_IDS].tolist() == [[3, 21], [1, 20]]
    assert [(lookup.table, lookup.columns) for lookup in parts.cut.lookups] == [
        ("t0", (0, 1)),
        ("t0", (1, 2)),
        ("t1", (2, 3)),
        ("t1", (3, 4)),
    ]
