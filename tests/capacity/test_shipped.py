"""Workloads and a trace that come with recsplit go by their names, from any folder."""

from pathlib import Path

import pytest

from recsplit.capacity import workload
from recsplit.capacity.shipped import names, shipped
from recsplit.errors import InputError
from recsplit_controller.forecast import trace


@pytest.mark.parametrize("name", names(".toml"))
def test_every_workload_that_is_shipped_can_be_read_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert workload.read(Path(name)).name
    assert workload.read(Path(f"{name}.toml")).name


def test_a_trace_is_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names(".txt") == ["half-hourly-bursts"]
    assert len(trace.read(shipped(Path("half-hourly-bursts"), ".txt"))) > 1000


def test_a_file_of_that_name_comes_first_and_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elasticrec").write_text("")
    assert shipped(Path("elasticrec"), ".toml") == Path("elasticrec")
    assert shipped(Path("here/elasticrec"), ".toml") == Path("here/elasticrec")
    Path("kairos").mkdir()
    assert shipped(Path("kairos"), ".toml").is_file(), "a folder is no workload"
    assert shipped(Path("half-hourly-bursts"), ".toml") == Path("half-hourly-bursts"), "a trace is none either"
    assert shipped(Path(300 * "x"), ".toml") == Path(300 * "x")
    with pytest.raises(InputError) as refused:
        workload.read(Path("elasticrek"))
    assert "elasticrec, kairos" in refused.value.hint
