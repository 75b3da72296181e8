"""The stand-in's modules in this process: what a config sets of a session, and which id of which input was outside."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

BACKEND = Path(__file__).parents[2] / "recsplit/backends/onnxruntime"
LEVELS, MODES = ort.GraphOptimizationLevel, ort.ExecutionMode
SPINNING = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")
ON_DEVICE, SHRINKAGE = "session.use_device_allocator_for_initializers", "memory.enable_memory_arena_shrinkage"


def module(name: str) -> ModuleType:
    """A module that Triton's stub finds beside model.py."""
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", BACKEND / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


signature, lookups = module("ort_signature"), module("ort_lookups")


def options(**parameters: str) -> Any:
    return signature.session_options({"parameters": {key: {"string_value": text} for key, text in parameters.items()}})


def test_a_session_that_no_parameter_speaks_of_is_onnxruntimes_own_but_for_spinning() -> None:
    own, asked = ort.SessionOptions(), signature.session_options({})
    for name in ("execution_mode", "intra_op_num_threads", "inter_op_num_threads", "enable_cpu_mem_arena", "enable_mem_pattern"):
        assert getattr(asked, name) == getattr(own, name), name
    assert asked.graph_optimization_level == LEVELS.ORT_ENABLE_ALL
    assert [asked.get_session_config_entry(key) for key in SPINNING] == ["0", "0"]
    with pytest.raises(Exception, match="does not have configuration"):
        asked.get_session_config_entry(ON_DEVICE)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(-1, LEVELS.ORT_ENABLE_BASIC), (0, LEVELS.ORT_ENABLE_ALL), (1, LEVELS.ORT_ENABLE_EXTENDED), (2, LEVELS.ORT_DISABLE_ALL)],
)
def test_a_level_of_optimization_is_named_as_tritons_config_does(level: int, expected: Any) -> None:
    assert signature.session_options({"optimization": {"graph": {"level": level}}}).graph_optimization_level == expected


def test_threads_and_the_mode_are_those_asked_for() -> None:
    asked = options(intra_op_thread_count="3", inter_op_thread_count=" 2 each", execution_mode="1")
    assert (asked.intra_op_num_threads, asked.inter_op_num_threads, asked.execution_mode) == (3, 2, MODES.ORT_PARALLEL)
    fewest = options(intra_op_thread_count="-1", inter_op_thread_count="-5")
    assert (fewest.intra_op_num_threads, fewest.inter_op_num_threads) == (0, 0)
    assert options(execution_mode="0").execution_mode == MODES.ORT_SEQUENTIAL


@pytest.mark.parametrize("parameter", ["enable_mem_arena", "enable_mem_pattern"])
@pytest.mark.parametrize(("text", "expected"), [("ON", True), ("1", True), ("true", True), ("off", False), ("0", False), ("False", False)])
def test_arena_and_pattern_are_told_in_the_words_of_others(parameter: str, text: str, expected: bool) -> None:
    asked = options(**{parameter: text})
    attribute = {"enable_mem_arena": "enable_cpu_mem_arena"}.get(parameter, parameter)
    other = ({"enable_cpu_mem_arena", "enable_mem_pattern"} - {attribute}).pop()
    assert (getattr(asked, attribute), getattr(asked, other)) == (expected, True)


def test_entries_are_handed_on() -> None:
    assert options(**{ON_DEVICE: "1"}).get_session_config_entry(ON_DEVICE) == "1"
    run = signature.run_options({"parameters": {SHRINKAGE: {"string_value": "cpu:0"}}})
    assert run.get_run_config_entry(SHRINKAGE) == "cpu:0"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"execution_mode": "2"}, "are 0 or 1 but got 2"),
        ({"execution_mode": "-1"}, "are 0 or 1 but got -1"),
        ({"intra_op_thread_count": "many"}, "failed to convert 'many' to an integral number, parameter 'intra_op_thread_count'"),
        ({"enable_mem_arena": "maybe"}, "failed to convert 'maybe' to boolean, parameter 'enable_mem_arena'"),
    ],
)
def test_what_is_no_setting_is_refused(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(signature.RefusedError, match=message):
        options(**parameters)


LOOKUPS = [
    {"input": "item", "columns": None, "table": "items", "rows": 50, "shift": 0, "direct": True, "width": 1},
    {"input": "tags", "columns": [2, 5], "table": "tags", "rows": 30, "shift": 10, "direct": True, "width": 3},
    {"input": "hash", "columns": [0, 1], "table": "hashes", "rows": 7, "shift": 3, "direct": False, "width": 1},
]
OUTPUTS = SimpleNamespace(get_outputs=lambda: [SimpleNamespace(name="vectors"), SimpleNamespace(name="unknown_ids")])


def refusal(*marks: tuple[int, int]) -> str | None:
    config = {"parameters": {"recsplit.lookups": {"string_value": json.dumps(LOOKUPS)}}}
    text: str | None = lookups.Lookups.from_config(config, OUTPUTS).refusal(np.array(marks, dtype=np.int64))
    return text


@pytest.mark.parametrize(
    ("position", "number", "message"),
    [
        (0, 50, "input 'item': id 50 is outside table 'items' (0..49), row 1 of the request"),
        (1, 20, "input 'tags' column 2: id 20 is outside table 'tags' (-10..19), row 1 of the request"),
        (3, -11, "input 'tags' column 4: id -11 is outside table 'tags' (-10..19), row 1 of the request"),
        (4, 9, "input 'hash' column 0: row 9, computed from the input, is outside table 'hashes' (0..6), row 1 of the request"),
        (5, 9, "id 9 at position 5 is outside its table, row 1 of the request"),
        (0, -(2**63), "id -9223372036854775808 (NaN, infinity, or lengths that do not fit the values) is outside"),
    ],
)
def test_a_mark_is_told_by_its_input_its_column_and_what_the_table_takes(position: int, number: int, message: str) -> None:
    text = refusal((-1, 0), (position, number), (-1, 0))
    assert text is not None and message in text and "more rows" not in text
    assert json.loads(text[text.index("{") :]) == {"unknown_id": {"row": 1, "position": position, "id": number}}


def test_the_first_of_several_rows_is_told_and_how_many_more_there_are() -> None:
    text = refusal((0, 60), (-1, 0), (1, 70), (0, 80))
    assert text is not None and "id 60 is outside" in text and "row 0 of the request (and 2 more rows with unknown ids)" in text


def test_rows_without_a_mark_are_not_refused() -> None:
    assert refusal((-1, 0), (-1, 7)) is None


def test_a_model_without_marks_or_a_config_without_lookups_refuses_no_row() -> None:
    config = {"parameters": {"recsplit.lookups": {"string_value": json.dumps(LOOKUPS)}}}
    assert lookups.Lookups.from_config({}, OUTPUTS) is None
    assert lookups.Lookups.from_config(config, SimpleNamespace(get_outputs=list)) is None


@pytest.mark.parametrize("text", ["{", '[{"input": "item"}]', "[3]", "7"])
def test_a_parameter_that_lists_no_lookups_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"'recsplit\.lookups' is not a list of lookups"):
        lookups.Lookups(text)
