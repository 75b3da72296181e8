"""Earlier builds that stay, and going back to one."""

import os
from pathlib import Path

import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.repository import kept
from recsplit.repository.find import find, versions
from recsplit.repository.staging import staging
from tests.repository.builds import build, contents, fill


def test_so_many_builds_are_kept_and_take_no_room_twice(tmp_path: Path) -> None:
    for identity in "abcd":
        build(tmp_path / "models", identity, keep=2)
    assert [(each.version, each.build) for each in kept.kept_builds(tmp_path / "models", "shop")] == [(3, "c"), (4, "d")]
    assert all(versions(tmp_path / "models" / model) == [3, 4] for model in ("shop", "shop_embedding", "shop_dense"))
    assert (tmp_path / "models/shop_embedding/3/tables.bin").read_text() == "c" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_file_and_its_times_are_the_ones_that_a_server_has_mapped(tmp_path: Path) -> None:
    """Triton knows a version by the time of its folder: one that changes is loaded again."""
    build(tmp_path, "a")
    before = [path.stat() for path in (tmp_path / "shop_embedding/1", tmp_path / "shop_embedding/1/tables.bin")]
    build(tmp_path, "b", keep=2)
    after = [path.stat() for path in (tmp_path / "shop_embedding/1", tmp_path / "shop_embedding/1/tables.bin")]
    assert [each.st_mtime_ns for each in after] == [each.st_mtime_ns for each in before]
    assert after[1].st_ino == before[1].st_ino


def test_a_file_system_without_hard_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    build(tmp_path, "a")
    monkeypatch.setattr(os, "link", refused)
    build(tmp_path, "b", keep=2)
    assert (tmp_path / "shop_embedding/1/tables.bin").read_text() == "a" * 1000
    assert len(kept.kept_builds(tmp_path, "shop")) == 2


def test_going_back_and_forth_changes_configs_only(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b", keep=2)
    newest = contents(tmp_path)
    kept.restore(tmp_path, kept.earlier(tmp_path, "shop", None))
    assert find(tmp_path).plan.build == "a"
    assert {name for name, content in contents(tmp_path).items() if newest[name] != content} == {
        f"{model}/config.pbtxt" for model in ("shop", "shop_embedding", "shop_dense")
    }
    kept.restore(tmp_path, kept.earlier(tmp_path, "shop", 2))
    assert contents(tmp_path) == newest


def test_a_build_after_going_back_keeps_what_was_served_and_uses_no_number_twice(tmp_path: Path) -> None:
    for identity in "abc":
        build(tmp_path, identity, keep=3)
    kept.restore(tmp_path, kept.earlier(tmp_path, "shop", 1))
    build(tmp_path, "d", keep=2)
    assert find(tmp_path).plan.version == 4
    assert [each.build for each in kept.kept_builds(tmp_path, "shop")] == ["a", "d"]


def test_there_is_nothing_before_the_first_and_nothing_that_is_not_kept(tmp_path: Path) -> None:
    for identity in "abc":
        build(tmp_path, identity, keep=2)
    kept.restore(tmp_path, kept.earlier(tmp_path, "shop", None))
    with pytest.raises(InputError, match="holds no build of 'shop' before version 2") as error:
        kept.earlier(tmp_path, "shop", None)
    assert "2 (served), 3" in error.value.hint
    with pytest.raises(InputError, match="holds no whole build of 'shop' as version 1"):
        kept.earlier(tmp_path, "shop", 1)


@pytest.mark.parametrize("file", ["shop_dense/1/build.txt", "shop_dense/1/config.pbtxt", "shop/1/config.pbtxt"])
def test_a_build_that_is_not_whole_is_none(tmp_path: Path, file: str) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b", keep=2)
    (tmp_path / file).unlink()
    assert [each.build for each in kept.kept_builds(tmp_path, "shop")] == ["b"]
    build(tmp_path, "c", keep=3)
    assert [each.build for each in kept.kept_builds(tmp_path, "shop")] == ["b", "c"]


def test_where_a_config_cant_be_written_none_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b", keep=2)
    before, write = contents(tmp_path), kept._write
    failures = iter([True])

    def failing(path: Path, text: str) -> None:
        if path.parent.name == "shop" and next(failures, False):
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(kept, "_write", failing)
    with pytest.raises(RecsplitError, match="No space left"):
        kept.restore(tmp_path, kept.earlier(tmp_path, "shop", None))
    assert contents(tmp_path) == before


def test_a_shard_of_a_kept_build_stays_and_goes_with_it(tmp_path: Path) -> None:
    build(tmp_path, "a")
    with staging(tmp_path, "shop") as stage:
        fill(stage, "b")
        text = (tmp_path / "shop_dense/config.pbtxt").read_text()
        stage.write({"shop_embedding_0/config.pbtxt": text.replace("shop_dense", "shop_embedding_0")})
        ensemble = stage.path("shop", "config.pbtxt")
        ensemble.write_text(ensemble.read_text().replace("step [", 'step [ { model_name: "shop_embedding_0" model_version: 2 },'))
        stage.publish("b")
    build(tmp_path, "c", keep=2)
    assert versions(tmp_path / "shop_embedding_0") == [2]
    assert kept.kept_builds(tmp_path, "shop")[0].models[0] == "shop_embedding_0"
    build(tmp_path, "d", keep=2)
    assert not (tmp_path / "shop_embedding_0").exists()
