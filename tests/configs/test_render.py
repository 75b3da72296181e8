"""What is rendered: the golden texts, the choices in them, and users' own templates."""

import dataclasses
import json
from pathlib import Path

import pytest

from recsplit.configs.check import parameter, parse
from recsplit.configs.render import quote, render
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import LOOKUPS_PARAMETER
from recsplit.plan.plan import Plan, Tensor
from tests.configs.plans import shop
from tests.conftest import REPOSITORY

GOLDEN = Path(__file__).parent / "golden"


def config(plan: Plan, model: str, **settings: Path) -> object:
    path = f"{model}/config.pbtxt"
    return parse(render(plan, **settings)[path], origin=path)


@pytest.mark.parametrize("model", ["shop", "shop_embedding", "shop_dense"])
def test_the_texts_are_the_golden_ones(model: str) -> None:
    # To accept a change: python -c "from tests.configs.test_render import accept; accept()"
    assert render(shop())[f"{model}/config.pbtxt"] == (GOLDEN / f"{model}.pbtxt").read_text()


def accept() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for path, text in render(shop()).items():
        (GOLDEN / f"{Path(path).parent}.pbtxt").write_text(text)


def test_the_backend_finds_each_lookup_on_a_line_of_its_own() -> None:
    lookups = json.loads(parameter(config(shop(), "shop_embedding"), LOOKUPS_PARAMETER) or "")
    assert [lookup["rows"] for lookup in lookups] == [1000, 5000, 5000, 1000]
    assert lookups[2] == {"input": "items", "columns": None, "table": "items", "rows": 5000, "shift": 2500, "direct": True, "width": 20}


def test_a_model_on_the_gpu_says_so_and_the_other_stays_on_the_cpu() -> None:
    plan = dataclasses.replace(shop(), dense=dataclasses.replace(shop().dense, kind="gpu"))
    texts = render(plan)
    assert "kind: KIND_GPU" in texts["shop_dense/config.pbtxt"]
    assert "kind: KIND_CPU" in texts["shop_embedding/config.pbtxt"]


def test_a_queue_policy_is_there_only_where_it_is_asked_for() -> None:
    """Any policy costs stalls of 500 ms, allow_timeout_override by itself too (Triton issue 8870)."""
    plan = dataclasses.replace(shop(), queue_timeout_us=200_000, queue_delay_us=50)
    assert not parse(render(shop())["shop_dense/config.pbtxt"], origin="").dynamic_batching.HasField("default_queue_policy")
    batching = parse(render(plan)["shop_dense/config.pbtxt"], origin="").dynamic_batching
    assert batching.max_queue_delay_microseconds == 50
    assert batching.default_queue_policy.default_timeout_microseconds == 200_000
    assert batching.default_queue_policy.allow_timeout_override


def test_a_table_without_row_for_id_0_gets_no_warm_up() -> None:
    plan = shop()
    shifted = dataclasses.replace(plan.lookups[0], shift=-1)
    text = render(dataclasses.replace(plan, lookups=(shifted, *plan.lookups[1:])))["shop_embedding/config.pbtxt"]
    assert "model_warmup [" not in text
    assert "No model_warmup: id 0" in text


def test_warm_up_at_batch_1_happens_once() -> None:
    text = render(dataclasses.replace(shop(), max_batch_size=1))["shop_dense/config.pbtxt"]
    assert text.count("batch_size: 1\n") == 2  # max_batch_size, and the one warm-up


def test_tensorrt_inside_onnxruntime_gets_its_shapes_and_a_cache_outside_the_model() -> None:
    plan = dataclasses.replace(shop(), dense=dataclasses.replace(shop().dense, kind="gpu", runtime="onnxruntime-tensorrt"))
    parsed = parse(render(plan)["shop_dense/config.pbtxt"], origin="")
    (accelerator,) = parsed.optimization.execution_accelerators.gpu_execution_accelerator
    assert parsed.backend == "onnxruntime"
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"/tmp/recsplit-engines-shop_dense-{plan.build}",
        "trt_profile_min_shapes": "dense:1x13,pooled:1x3x16,wide:1",
        "trt_profile_opt_shapes": "dense:512x13,pooled:512x3x16,wide:512",
        "trt_profile_max_shapes": "dense:512x13,pooled:512x3x16,wide:512",
    }


def test_another_build_of_a_model_has_another_engine_cache() -> None:
    """Its graph may be the same and its weights others: the cache would answer with the old ones."""
    plan = dataclasses.replace(shop(), dense=dataclasses.replace(shop().dense, kind="gpu", runtime="onnxruntime-tensorrt"))

    def cache(build: str) -> str:
        text = render(dataclasses.replace(plan, build=build))["shop_dense/config.pbtxt"]
        (accelerator,) = parse(text, origin="").optimization.execution_accelerators.gpu_execution_accelerator
        return str(accelerator.parameters["trt_engine_cache_path"])

    assert cache("one") != cache("two")


def test_tensorrt_inside_onnxruntime_learns_the_shapes_that_vary() -> None:
    text = render(with_history("onnxruntime-tensorrt"))["shop_dense/config.pbtxt"]
    assert "trt_profile_min_shapes" not in text
    assert "No shape profiles" in text


def test_a_tensorrt_plan_has_its_platform_and_no_onnxruntime_threads() -> None:
    plan = dataclasses.replace(shop(), dense=dataclasses.replace(shop().dense, kind="gpu", runtime="tensorrt"))
    parsed = parse(render(plan)["shop_dense/config.pbtxt"], origin="")
    assert (parsed.platform, parsed.backend, parsed.default_model_filename) == ("tensorrt_plan", "tensorrt", "model.plan")
    assert parameter(parsed, "intra_op_thread_count") is None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (dataclasses.replace(shop(), dense=dataclasses.replace(shop().dense, runtime="tensorrt")), "needs a GPU"),
        (dataclasses.replace(shop(), embedding=dataclasses.replace(shop().embedding, runtime="tensorrt")), "the embedding model can't run"),
    ],
)
def test_a_runtime_that_can_not_work_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(plan)


def test_a_tensorrt_plan_without_bounds_is_refused() -> None:
    with pytest.raises(InputError, match="needs bounds for every dimension"):
        render(with_history("tensorrt"))


def with_history(runtime: str) -> Plan:
    history = Tensor("history", "FP32", (-1, 16))
    plan = shop()
    embedding = dataclasses.replace(plan.embedding, outputs=(*plan.embedding.outputs, history))
    dense = dataclasses.replace(plan.dense, inputs=(*plan.dense.inputs, history), kind="gpu", runtime=runtime)  # type: ignore[arg-type]
    return dataclasses.replace(plan, boundary=(*plan.boundary, history), embedding=embedding, dense=dense)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", '"plain"'),
        ('{"a": 1}', "'{\"a\": 1}'"),
        ('it\'s "both"', '"it\'s \\"both\\""'),
        ("back\\slash\nline\ttab", '"back\\\\slash\\nline\\ttab"'),
        ("größe\x00", '"gr\\303\\266\\303\\237e\\000"'),
    ],
)
def test_strings_are_quoted_for_the_text_format(text: str, literal: str) -> None:
    assert quote(text) == literal
    assert parse(f"name: {literal}", origin="").name == text


# --- users' own templates


def test_one_template_may_be_replaced(tmp_path: Path) -> None:
    ours = (REPOSITORY / "templates" / "triton" / "dense.pbtxt.j2").read_text()
    (tmp_path / "dense.pbtxt.j2").write_text(ours + 'response_cache { enable: true }\nmetric_tags { key: "team" value: "ads" }\n')
    texts = render(shop(), templates=tmp_path)
    assert parse(texts["shop_dense/config.pbtxt"], origin="").response_cache.enable
    assert texts["shop/config.pbtxt"] == (GOLDEN / "shop.pbtxt").read_text()


@pytest.mark.parametrize(
    ("template", "where", "message"),
    [
        ("name: 'x'\n{% if %}\n", "dense.pbtxt.j2, line 2", "Expected an expression"),
        ("name: 'x'\n\n{{ plan.nmae }}\n", "dense.pbtxt.j2, line 3", "nmae"),
        ("name: {{ model.threads / 0 }}\n", "dense.pbtxt.j2, line 1", "division by zero"),
        ('{% import "mine.j2" as mine %}', "dense.pbtxt.j2, line 1", "mine.j2"),
        ("{{ 1 | nonsense }}", "dense.pbtxt.j2, line 1", "nonsense"),
    ],
)
def test_a_broken_template_is_named_with_its_line(template: str, where: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dense.pbtxt.j2").write_text(template)
    with pytest.raises(InputError, match=message) as error:
        render(shop(), templates=tmp_path)
    assert f"{tmp_path}/{where}" in str(error.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("name: 'shop_dense'\nbackend: onnxruntime\n", "shop_dense/config.pbtxt, line 2, is not a Triton model config"),
        ("name: 'shop_dense'\ncount: 3\n", 'no field named "count"'),
        ("name: 'other'\n", "name is 'other'"),
    ],
)
def test_a_template_that_renders_something_else_is_refused(template: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dense.pbtxt.j2").write_text(template)
    with pytest.raises(InputError, match=message) as error:
        render(shop(), templates=tmp_path)
    assert str(tmp_path) in error.value.hint


def test_a_folder_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no template to replace ours") as error:
        render(shop(), templates=tmp_path)
    assert "dense.pbtxt.j2" in error.value.hint


def test_a_plan_that_does_not_hold_together_renders_nothing() -> None:
    plan = dataclasses.replace(shop(), boundary=(), dense=dataclasses.replace(shop().dense, inputs=shop().dense.inputs[:2]))
    with pytest.raises(RecsplitError, match="'wide' is produced and nobody uses it"):
        render(plan)
