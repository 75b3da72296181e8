"""What a store of several Prometheis says of its own answer is told."""

import json

import pytest

from recsplit_controller.observe.prometheus import PrometheusObserver
from tests.controller.observe.test_guarded import Guarded, guarded


@pytest.mark.parametrize(
    ("warnings", "problems"), [(["store-2 is away"], ("the answer is partial: store-2 is away",)), ([], ()), ("odd", ())]
)
def test_a_partial_answer_is_told(monkeypatch: pytest.MonkeyPatch, warnings: object, problems: tuple[str, ...]) -> None:
    series = [{"metric": {"__name__": f"recsplit:{what}", "model": "shop"}, "value": [9.0, "8"]} for what in ("data_s", "requests")]
    monkeypatch.setattr(Guarded, "answer", json.dumps({"data": {"result": series}, "warnings": warnings}).encode())
    with guarded() as (url, handler):
        observer = PrometheusObserver(url, "shop", [])
        assert observer.observe(0.0).problems == problems
        monkeypatch.setattr(handler, "answer", json.dumps({"data": {"result": series}}).encode(), raising=False)
        assert observer.observe(1.0).problems == ()
