"""Logs are lines of strict JSON, whatever is put into them."""

import io
import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit_controller.shell.logs import NAME, JsonLines, start_logs, stop_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler = start_logs(stream=text)
    yield text
    stop_logs(handler)


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_a_line_has_its_fields(stream: io.StringIO) -> None:
    logging.getLogger(f"{NAME}.shell.loop").info("scaled", extra={"fields": {"target": "shop_dense", "count": 3, "age_s": math.nan}})
    (line,) = lines(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "recsplit_controller.shell.loop",
        "message": "scaled",
        "target": "shop_dense",
        "count": 3,
        "age_s": None,
    }


def test_a_traceback_stays_in_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger(NAME).exception("a tick failed")
    (line,) = lines(stream.getvalue())
    assert line["level"] == "error" and "ValueError: two\nlines" in line["error"]


def test_of_others_only_warnings_are_heard(stream: io.StringIO) -> None:
    logging.getLogger("httpx").info("a request")
    logging.getLogger("httpx").warning("trouble")
    assert [line["message"] for line in lines(stream.getvalue())] == ["trouble"]


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), st.lists)))
def test_any_fields_are_one_line_of_json_and_hide_nothing(fields: dict[str, Any]) -> None:
    record = logging.LogRecord("name", logging.INFO, __file__, 1, "done", None, None)
    record.fields = fields
    (line,) = JsonLines().format(record).split("\n")
    read = json.loads(line, parse_constant=refuse)
    assert read["message"] == "done" and read["level"] == "info" and read["logger"] == "name"
