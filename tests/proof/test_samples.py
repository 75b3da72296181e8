"""Samples and limits: what a build finds out about ids, and inputs that the source answers without raising."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.building.build import Built
from recsplit.building.load_and_cut import load_and_cut
from recsplit.errors import RecsplitError
from recsplit.load import load
from recsplit.plan.files import REFERENCES_FILE
from recsplit.proof import samples
from recsplit.proof.cases import by_source, recorded
from recsplit.proof.parts import joined
from recsplit.proof.samples import ANY
from recsplit.write import submodels
from tests.build.onnx_models import build_of, built
from tests.configs.plans import shop
from tests.graph import ragged_models
from tests.graph.ragged_models import bag_of
from tests.graph.small import Array, small, table

LAYER = "v=Gather(t,i) y=MatMul(v,w)"
ARRAYS: dict[str, Array] = {"t": table(50, 8), "w": table(8, 1), "one": np.array([1]), "zero": np.array([0])}


def number(value: int) -> Array:
    return np.array(value)


IDS: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "plain ids": (f"(int64[N,3] i) => (float[N,3,1] y) {{ {LAYER} }}", {}, [50]),
    "ids from 1 on": (f"(int64[N,3] ids) => (float[N,3,1] y) {{ i=Sub(ids,k) {LAYER} }}", {"k": number(1)}, [51]),
    "ids from a million on": (f"(int64[N,3] ids) => (float[N,3,1] y) {{ i=Sub(ids,k) {LAYER} }}", {"k": number(10**6)}, [10**6 + 50]),
    "a field each": (f"(int64[N,3] ids) => (float[N,3,1] y) {{ i=Add(ids,k) {LAYER} }}", {"k": np.array([0, 10, 20])}, [50, 40, 30]),
    "hashed": (f"(int64[N,3] ids) => (float[N,3,1] y) {{ i=Mod(ids,k) {LAYER} }}", {"k": number(50)}, [ANY]),
    "hashed from 1 on": (
        f"(int64[N,3] ids) => (float[N,3,1] y) {{ j=Sub(ids,o) i=Mod(j,k) {LAYER} }}",
        {"k": number(50), "o": number(1)},
        [ANY],
    ),
    "a quotient": (f"(int64[N,3] ids) => (float[N,3,1] y) {{ i=Div(ids,k) {LAYER} }}", {"k": number(20)}, [1000]),
    "quotient and remainder": (
        "(int64[N,3] ids) => (float[N,3,1] y) { i=Div(ids,k) v=Gather(t,i) r=Mod(ids,k) u=Gather(small,r) p=Mul(v,u) y=MatMul(p,w) }",
        {"k": number(20), "small": table(20, 8)},
        [1000, 1000],
    ),
    "under a mask": (
        f"(int64[N,3] ids, bool[N,3] seen) => (float[N,3,1] y) {{ o=Sub(ids,ids) i=Where(seen,ids,o) {LAYER} }}",
        {},
        [50],
    ),
    "floats": (f"(float[N,2] ids) => (float[N,2,1] y) {{ i=Cast<to=7>(ids) {LAYER} }}", {}, [50]),
    "half floats, which count to 2048": (
        f"(float16[N,2] ids) => (float[N,2,1] y) {{ i=Cast<to=7>(ids) {LAYER} }}",
        {"t": table(5000, 8)},
        [5000],
    ),
    "bytes, which count to 127": (f"(int8[N,2] ids) => (float[N,2,1] y) {{ i=Cast<to=7>(ids) {LAYER} }}", {"t": table(500, 8)}, [500]),
    "a hashed byte": (
        f"(int8[N,2] ids) => (float[N,2,1] y) {{ j=Cast<to=7>(ids) h=Mul(j,j) i=Mod(h,k) {LAYER} }}",
        {"k": number(50)},
        [ANY],
    ),
    "buckets of a float": (
        f"(float[N,2] x) => (float[N,2,1] y) {{ a=Abs(x) c=Clip(a,low,high) i=Cast<to=7>(c) {LAYER} }}",
        {"low": np.array(0, dtype=np.float32), "high": np.array(49, dtype=np.float32)},
        [ANY],
    ),
    "traced and computed columns of one input": (
        (
            "(int64[N,4] ids) => (float[N,1] y) { a=Slice(ids,zero,one,one) d=Squeeze(a,one) v=Gather(ten,d) "
            "b=Slice(ids,one,four,one) h=Div(b,k) u=Gather(t,h) s=ReduceSum<keepdims=0>(u,one) p=Mul(v,s) y=MatMul(p,w) }"
        ),
        {"ten": table(10, 8), "four": np.array([4]), "k": number(20)},
        [10, 1000],
    ),
    "computed beside ids from 1 on": (
        (
            "(int64[N] first, int64[N] second) => (float[N,1] y) "
            "{ a=Sub(first,o) v=Gather(t,a) b=Div(second,k) u=Gather(t,b) p=Mul(v,u) y=MatMul(p,w) }"
        ),
        {"o": number(1), "k": number(20)},
        [51, 1000],
    ),
    "two tables of rank 3 and a computed one": (
        (
            "(int64[N,3,2] ids) => (float[N,1] y) { a=Gather<axis=1>(ids,zeroth) v=Gather(ten,a) r=ReduceSum<keepdims=0>(v,one) "
            "b=Gather<axis=1>(ids,first) u=Gather(t,b) s=ReduceSum<keepdims=0>(u,one) c=Gather<axis=1>(ids,second) h=Div(c,k) "
            "x=Gather(t,h) z=ReduceSum<keepdims=0>(x,one) p=Mul(r,s) q=Mul(p,z) y=MatMul(q,w) }"
        ),
        {"ten": table(10, 8), "zeroth": number(0), "first": number(1), "second": number(2), "k": number(20)},
        [10, 50, 1000],
    ),
    "one column, two tables": (
        "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) u=Gather(ten,ids) p=Mul(v,u) y=MatMul(p,w) }",
        {"ten": table(10, 8)},
        [50, 10],
    ),
}


@pytest.mark.parametrize("policy", ["error", "zero"])
@pytest.mark.parametrize(("text", "arrays", "limits"), IDS.values(), ids=IDS)
def test_limits_are_found_and_samples_are_valid_under_every_policy(
    text: str, arrays: dict[str, Any], limits: list[int], policy: str, tmp_path: Path
) -> None:
    build = built(tmp_path, text, {**ARRAYS, **arrays}, unknown_ids=policy)
    assert sorted(lookup.limit or 0 for lookup in build.plan.lookups) == sorted(limits)
    answers(build, tmp_path / "source.onnx")


def test_a_place_outside_a_row_ends_the_search_for_the_largest_id_and_marks_its_row(tmp_path: Path) -> None:
    text = (
        "(int64[N,4] ids, int64[N,1] place) => (float[N,4,1] y) { s=Shape(place) n=Expand(nine,s) "
        f"i=ScatterElements<axis=1>(ids,place,n) {LAYER} }}"
    )
    build = built(tmp_path, text, {**ARRAYS, "nine": number(9)})
    assert {limit for lookup in build.plan.lookups for limit in [lookup.limit]} == {4}
    parts = joined(build.repository, build.plan)
    marks = parts({"ids": np.ones((3, 4), np.int64), "place": np.array([[0], [4], [3]])})["unknown_ids"]
    assert (marks.astype(np.int64)[:, 0] >= 0).tolist() == [False, True, False]


def answers(build: Built, source: Path) -> None:
    """The source itself answers every row of samples."""
    run = load(str(source)).run
    for seed in range(3):
        rows = samples.rows(build.plan, 40, np.random.default_rng(seed))
        assert [len(data) for data in rows.values()] == [40] * len(rows)
        run(rows)


def test_first_and_last_rows_of_every_table_are_among_the_cases(tmp_path: Path) -> None:
    text = (
        "(int64[N,2] ids, int64[N,T] h) => (float[N,1] y) { i=Sub(ids,k) v=Gather(t,i) s=ReduceSum<keepdims=0>(v,one) "
        "u=Gather(t,h) r=ReduceSum<keepdims=0>(u,one) p=Mul(s,r) y=MatMul(p,w) }"
    )
    build = built(tmp_path, text, {**ARRAYS, "k": number(1)})
    cases = {case.name: case.inputs for case in recorded(build.repository / "m" / "1" / REFERENCES_FILE)}
    assert (cases["first rows"]["ids"] == 1).all() and (cases["last rows"]["ids"] == 50).all()
    assert (cases["first rows"]["h"] == 0).all() and (cases["last rows"]["h"] == 49).all()
    assert len(cases["largest batch"]["ids"]) == 64 and len(cases["one row"]["ids"]) == 1
    assert (cases["duplicates"]["ids"] == cases["duplicates"]["ids"][:1]).all()


def test_bags_that_share_offsets_share_lengths_in_samples(tmp_path: Path) -> None:
    signature = "(int64[K] a, int64[K] b, int64[M] offsets) => (float[N,8] y)"
    text = f"{signature} {{ p={bag_of('t', 'a', 'offsets')} q={bag_of('u', 'b', 'offsets')} y=Mul(p,q) }}"
    parts = small(text, ragged_models.ARRAYS)
    inputs, tables = submodels.interface(parts.cut.whole).inputs, submodels.tables(parts.cut)
    plan = replace(shop(), inputs=inputs, tables=tables, lookups=parts.cut.lookups, bags=parts.cut.bags)
    known = parts.cut.known()
    for name, rows in samples.cases(plan, np.random.default_rng(0)):
        assert known(rows).all(), name
        assert rows["a"].shape == rows["b"].shape and rows["lengths"].sum(axis=1).max() <= rows["a"].shape[1]


def test_without_any_valid_row_nothing_is_published(tmp_path: Path) -> None:
    """Ids that are valid only beyond what is tried: nothing to compare is no proof."""
    text = f"(int64[N,3] ids) => (float[N,3,1] y) {{ h=Div(ids,k) g=Mul(h,h) j=Sub(g,o) i=Mod(j,m) {LAYER} }}"
    arrays = {**ARRAYS, "k": number(2**40), "o": number(7), "m": number(10**9)}
    with pytest.raises(RecsplitError, match="nothing could be proved"):
        built(tmp_path, text, arrays)
    assert not list((tmp_path / "models").glob("*"))


LOOKUPS = "one_hot shared_table mod_hash qr_trick one_big_table history_attention masked_mean wide float_ids weight_indexing codebook"
BAGS = (
    "sum_fixed mean_fixed_padding max_fixed_padding sum_fixed_padding_weights "
    "mean_offsets max_offsets_padding sum_last_offset_weights facebook"
)
DEEPCTR = "wdl deepfm xdeepfm dcn autoint fibinet nfm pnn din"  # DCNMix itself fails on a batch of one
ZOO = [
    "tiny:dlrm",
    *(f"lookups:{name}" for name in LOOKUPS.split()),
    *(f"bags:{name}" for name in BAGS.split()),
    *(f"deepctr:{name}" for name in DEEPCTR.split()),
    *("torchrec:dlrm", "torchrec:dlrm_values", "dlrm:dlrm", "dcn:dcnv2", "two_tower:two_tower", "ncf:ncf"),
]


@pytest.mark.slow
@pytest.mark.parametrize("spec", ZOO)
def test_samples_of_the_zoo_are_valid(spec: str, tmp_path: Path) -> None:
    build = build_of(f"recsplit.zoo.{spec}", tmp_path / "models")
    source = load_and_cut(f"recsplit.zoo.{spec}", weights=None, unknown_ids="error", int32_ids=False, bag_form=None)
    run = by_source(build.plan, source.loaded.run, source.dtypes)
    known = source.cut.known()
    for name, inputs in samples.cases(build.plan, np.random.default_rng(5), references=source.example):
        assert known(inputs).all(), name
        run(inputs)
