"""The folder comes in whole, and what recsplit didn't write stays as it is."""

import itertools
from pathlib import Path

import pytest

from recsplit.disk import swap
from recsplit.errors import InputError
from recsplit.kubernetes.rendering import FOLDER
from recsplit.rendering import rendered_folder
from recsplit.rendering.rendered_folder import FolderKind, write
from tests.disk.interrupts import interrupted

FIRST = {"base/a.yaml": "a: 1\n", "base/gone/b.yaml": "b: 1\n", "values.yaml": "schema: 1\n"}


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".recsplit.json")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_the_next_render_replaces_what_was_rendered_and_keeps_the_rest(tmp_path: Path) -> None:
    target = tmp_path / "k8s"
    write(target, FIRST, FOLDER)
    (target / "values.yaml").write_text("schema: 1 # mine\n")
    (target / "mine").mkdir()
    (target / "mine" / "patch.yaml").write_text("c: 1\n")
    write(target, {"base/a.yaml": "a: 2\n"}, FOLDER)
    assert contents(target) == {"base/a.yaml": "a: 2\n", "mine/patch.yaml": "c: 1\n", "values.yaml": "schema: 1 # mine\n"}
    assert not (target / "base" / "gone").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["k8s"]


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'notes\.txt', which recsplit didn't write"):
        write(tmp_path, FIRST, FOLDER)
    assert contents(tmp_path) == {"notes.txt": "mine"}


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "k8s", FIRST, FOLDER)
    with pytest.raises(InputError, match="which recsplit didn't write"):
        write(tmp_path / "k8s", {"rules.yml": "groups: []"}, FolderKind(".recsplit-other.json", None, "render it again"))
    assert contents(tmp_path / "k8s") == FIRST


def test_an_edited_file_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "k8s", FIRST, FOLDER)
    edited = tmp_path / "k8s" / "base" / "a.yaml"
    edited.write_text("a: 3\n")
    with pytest.raises(InputError, match=r"a\.yaml was edited since recsplit wrote it") as caught:
        write(tmp_path / "k8s", {"base/a.yaml": "a: 2\n"}, FOLDER)
    assert "values.yaml" in caught.value.hint and edited.read_text() == "a: 3\n"


def test_a_file_of_others_in_the_way_of_a_new_one_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "k8s", FIRST, FOLDER)
    (tmp_path / "k8s" / "base" / "c.yaml").write_text("mine")
    with pytest.raises(InputError, match="is in the way"):
        write(tmp_path / "k8s", FIRST | {"base/c.yaml": "c: 1\n"}, FOLDER)


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"a": 1}}', '{"files": []}'])
def test_a_broken_list_of_what_was_written_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "k8s", FIRST, FOLDER)
    (tmp_path / "k8s" / ".recsplit.json").write_text(text)
    with pytest.raises(InputError, match=r"can't be read|is not JSON"):
        write(tmp_path / "k8s", FIRST, FOLDER)


def test_where_it_fails_the_folder_stays_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "k8s"
    write(target, FIRST, FOLDER)
    with pytest.raises(OSError, match="File name too long"):
        write(target, {"base/a.yaml": "a: 2\n", "x" * 300: "never"}, FOLDER)
    assert contents(target) == FIRST
    assert [path.name for path in tmp_path.iterdir()] == ["k8s"]


@pytest.mark.parametrize("offered", [True, False], ids=["exchange", "rename"])
def test_interrupted_between_any_two_steps_the_folder_is_the_old_or_the_new(
    offered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not offered:
        monkeypatch.setattr("recsplit.disk.swap._RENAME_EXCHANGE", 1 << 20)
    target, second, left = tmp_path / "k8s", FIRST | {"base/a.yaml": "a: 2\n"}, set()
    for step in itertools.count():
        write(target, FIRST, FOLDER)
        if not interrupted(step, lambda: write(target, second, FOLDER), swap, rendered_folder):
            break
        left.add("old" if contents(target) == FIRST else "new")
        assert contents(target) in (FIRST, second)
    assert left == {"old", "new"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "k8s").symlink_to("real")
    write(tmp_path / "k8s", FIRST, FOLDER)
    write(tmp_path / "k8s", FIRST, FOLDER)
    assert (tmp_path / "k8s").is_symlink() and contents(tmp_path / "real") == FIRST


@pytest.mark.parametrize("path", ["file", "absent/k8s"])
def test_a_path_that_can_not_become_a_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        write(tmp_path / path, FIRST, FOLDER)
