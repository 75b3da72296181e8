"""Whatever a plan holds, its configs parse, agree, and carry its names unchanged."""

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.configs.check import parameter, parse
from recsplit.configs.render import render
from recsplit.plan.files import CLIENT_PARAMETER, LOOKUPS_PARAMETER
from recsplit.plan.plan import UNKNOWN_IDS, Bags, Lookup, Plan, Source, Submodel, Table, Tensor

# ONNX names are any UTF-8 text; quotes, line breaks and template syntax among them.
AWKWARD = [
    'say "hi"',
    "it's",
    "a/b:0",
    "x\\n",
    "two\nlines",
    "{{ plan }}",
    "{% raw %}",
    "# no comment",
    "größe",
    "名前",
    "\x00\x7f",
    "a, b",
]
NAMES = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
MODELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
DTYPES = st.sampled_from("BOOL UINT8 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BF16 BYTES".split())
DIMS = st.lists(st.just(-1) | st.integers(1, 4096), max_size=3).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = iter(draw(st.lists(NAMES.filter(lambda name: name != UNKNOWN_IDS), min_size=20, max_size=20, unique=True)))

    def tensors(least: int, most: int) -> tuple[Tensor, ...]:
        return tuple(Tensor(next(names), draw(DTYPES), draw(DIMS)) for _ in range(draw(st.integers(least, most))))

    only_ids, only_dense, both = tensors(1, 4), tensors(0, 3), tensors(0, 2)
    boundary, shown, outputs = tensors(1, 3), tensors(0, 2), tensors(1, 3)
    unknown = (Tensor(UNKNOWN_IDS, "INT64", (2,)),) if draw(st.booleans()) else ()
    name, threads, instances = draw(MODELS), draw(st.integers(1, 64)), draw(st.integers(1, 64))
    return Plan(
        name=name,
        version=1,
        build=draw(st.text("0123456789abcdef", min_size=1, max_size=16)),
        source=Source("onnx", "x.onnx", None),
        max_batch_size=draw(st.integers(1, 1 << 16)),
        queue_delay_us=draw(st.integers(0, 10_000)),
        queue_timeout_us=draw(st.integers(0, 10_000_000)),
        unknown_ids="error" if unknown else "zero",
        inputs=(*only_ids, *both, *only_dense),
        # Embeddings may be answers too (a two-tower model), made by the first step.
        outputs=(*outputs, *shown, *unknown),
        boundary=boundary,
        tables=(Table("t", 10, 4, "FP32", "FP32", 160),),
        lookups=tuple(Lookup(tensor.name, "t", "sum", (tensor.name,), (0, 3), 0, True, 10, 3) for tensor in only_ids),
        bags=tuple(Bags(tensor.name, tensor.name, None, (tensor.name,), "v", "o", None, None, None, False) for tensor in only_ids[:1]),
        embedding=Submodel(
            f"{name}_embedding", "embedding", (*only_ids, *both), (*boundary, *shown, *unknown), "onnxruntime", "cpu", instances, threads
        ),
        shards=(),
        losses=(),
        ordered_by="",
        resident=(),
        readings=(),
        dense=Submodel(
            f"{name}_dense",
            "dense",
            (*only_dense, *both, *boundary),
            outputs,
            "onnxruntime",
            draw(st.sampled_from(["cpu", "gpu"])),
            instances,
            threads,
        ),
        form="ensemble",
        tolerance=1e-5,
    )


@settings(max_examples=30)
@given(plans())
def test_any_plan_renders_to_configs_that_agree(plan: Plan) -> None:
    texts = render(plan)  # checks them too
    ensemble, embedding, dense = (
        parse(texts[f"{name}/config.pbtxt"], origin="") for name in (plan.name, plan.embedding.name, plan.dense.name)
    )
    assert [item.name for item in ensemble.input] == [tensor.name for tensor in plan.inputs]
    assert [item.name for item in ensemble.output] == [tensor.name for tensor in plan.outputs]
    assert [item.name for item in dense.input] == [tensor.name for tensor in plan.dense.inputs]
    assert [lookup["input"] for lookup in json.loads(parameter(embedding, LOOKUPS_PARAMETER) or "")] == [
        ", ".join(lookup.inputs) for lookup in plan.lookups
    ]
    client = json.loads(parameter(ensemble, CLIENT_PARAMETER) or "")
    assert client == {
        "bags": [json.loads(json.dumps(dataclasses.asdict(bags))) for bags in plan.bags],
        "max_batch_size": plan.max_batch_size,
        "flat": [tensor.name for tensor in plan.outputs if tensor.dims == ()],
    }
    assert all(text.isascii() for text in texts.values())
