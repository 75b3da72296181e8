"""One path takes another's place, is interrupted, and gives it back."""

import errno
import itertools
import shutil
from pathlib import Path

import pytest

from recsplit.disk import swap
from recsplit.disk.swap import Swap, exchange, put_back
from tests.disk.interrupts import interrupted

CASES = list(itertools.product([True, False], [True, False]))
NAMES = [f"{'exchange' if offered else 'rename'}-{'replaced' if replaced else 'first'}" for offered, replaced in CASES]


@pytest.fixture
def offered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel offers the exchange; asked for an operation that it doesn't know, it answers as those that have none."""
    if not request.param:
        monkeypatch.setattr("recsplit.disk.swap._RENAME_EXCHANGE", 1 << 20)
    return bool(request.param)


def ready(folder: Path, *, replaced: bool) -> Swap:
    """A folder to put in, and another one in its place if `replaced`."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("new", "place") if replaced else ("new",):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_text(name)
    return Swap(folder / "new", folder / "place", folder / "aside")


def held(folder: Path) -> dict[str, str]:
    """Which of the two lies where."""
    return {path.name: (path / "1" / "model.onnx").read_text() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("offered", "replaced"), CASES, ids=NAMES, indirect=["offered"])
def test_the_new_one_is_in_the_place_and_the_old_one_is_kept(offered: bool, replaced: bool, tmp_path: Path) -> None:
    ready(tmp_path / "at", replaced=replaced).do()
    kept = {"new" if offered else "aside": "place"} if replaced else {}
    assert held(tmp_path / "at") == {"place": "new", **kept}


@pytest.mark.parametrize(("offered", "replaced"), CASES, ids=NAMES, indirect=["offered"])
def test_undone_it_is_as_it_was_and_may_be_done_again(offered: bool, replaced: bool, tmp_path: Path) -> None:
    change = ready(tmp_path / "at", replaced=replaced)
    before = held(tmp_path / "at")
    for _ in range(2):
        change.do()
        change.undo()
        change.undo()
        assert held(tmp_path / "at") == before
    change.do()
    assert held(tmp_path / "at")["place"] == "new"


@pytest.mark.parametrize(("offered", "replaced"), CASES, ids=NAMES, indirect=["offered"])
def test_interrupted_between_any_two_steps_it_can_be_undone(offered: bool, replaced: bool, tmp_path: Path) -> None:
    folder, states = tmp_path / "at", set()
    for step in itertools.count():
        change = ready(folder, replaced=replaced)
        before = held(folder)
        if not interrupted(step, change.do, swap):
            break
        states.add(tuple(held(folder).items()))
        change.undo()
        assert held(folder) == before
    assert len(states) == (3 if replaced and not offered else 2)  # each state between was seen


@pytest.mark.parametrize(("offered", "replaced"), CASES, ids=NAMES, indirect=["offered"])
def test_an_undoing_that_is_interrupted_is_finished_by_the_next(offered: bool, replaced: bool, tmp_path: Path) -> None:
    folder, states = tmp_path / "at", set()
    for step in itertools.count():
        change = ready(folder, replaced=replaced)
        before = held(folder)
        change.do()
        if not interrupted(step, change.undo, swap):
            break
        states.add(tuple(held(folder).items()))
        change.undo()
        assert held(folder) == before
    assert len(states) == (3 if replaced and not offered else 2)


@pytest.mark.parametrize(("offered", "replaced"), CASES, ids=NAMES, indirect=["offered"])
def test_killed_between_any_two_steps_nothing_is_lost_and_old_or_new_is_in_place(offered: bool, replaced: bool, tmp_path: Path) -> None:
    """All that the next process has are the paths."""
    folder = tmp_path / "at"
    for step in itertools.count():
        change = ready(folder, replaced=replaced)
        before = held(folder)
        if not interrupted(step, change.do, swap):
            break
        assert sorted(held(folder).values()) == sorted(before.values())
        put_back(folder / "aside", folder / "place")
        assert sorted(held(folder).values()) == sorted(before.values())
        assert held(folder).get("place") in ({"place", "new"} if replaced else {None, "new"})


def test_what_was_set_aside_does_not_replace_what_is_there_now(tmp_path: Path) -> None:
    ready(tmp_path / "at", replaced=True)
    put_back(tmp_path / "at" / "new", tmp_path / "at" / "place")
    assert held(tmp_path / "at") == {"new": "new", "place": "place"}


@pytest.mark.parametrize("offered", [True, False], indirect=True)
def test_a_link_that_is_replaced_comes_back_though_it_points_nowhere_from_aside(offered: bool, tmp_path: Path) -> None:
    change = ready(tmp_path / "at", replaced=False)
    (tmp_path / "at" / "elsewhere").mkdir()
    change.aside = tmp_path / "area" / "aside"
    change.aside.parent.mkdir()
    change.place.symlink_to("elsewhere")
    change.do()
    assert change.place.is_dir() and not change.place.is_symlink()
    change.undo()
    assert change.place.readlink() == Path("elsewhere")
    assert change.new.is_dir() and not change.new.is_symlink()


def test_the_new_one_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Swap(tmp_path / "new", tmp_path / "place", tmp_path / "aside")


@pytest.mark.parametrize("offered", [True, False], indirect=True)
def test_where_no_exchange_is_offered_nothing_is_done(offered: bool, tmp_path: Path) -> None:
    ready(tmp_path / "at", replaced=True)
    assert exchange(tmp_path / "at" / "new", tmp_path / "at" / "place") == offered
    assert held(tmp_path / "at") == ({"new": "place", "place": "new"} if offered else {"new": "new", "place": "place"})


def test_an_exchange_that_fails_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as error:
        exchange(tmp_path / "a", tmp_path / "b")
    assert error.value.errno == errno.ENOENT
