"""Finding builds: the only one, a named one, and the ones that can't be trusted."""

import shutil
from pathlib import Path

import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.repository.find import find
from tests.repository.builds import build


def test_the_version_that_the_config_names_is_found(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b")
    shutil.copytree(tmp_path / "shop" / "2", tmp_path / "shop" / "10")
    (tmp_path / "shop" / "notes").mkdir()
    assert find(tmp_path).folder == tmp_path / "shop" / "2"


def test_one_of_several_is_found_by_name(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b", name="books")
    assert find(tmp_path, "books").plan.build == "b"
    with pytest.raises(InputError, match="holds several ensembles: books, shop") as error:
        find(tmp_path)
    assert "--model" in error.value.hint
    with pytest.raises(InputError, match="holds no ensemble 'cars'") as error:
        find(tmp_path, "cars")
    assert "books, shop" in error.value.hint


def test_a_folder_without_a_build_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "hers" / "1").mkdir(parents=True)
    (tmp_path / "hers" / "config.pbtxt").write_text('name: "hers"')
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="holds no ensemble that recsplit built") as error:
        find(tmp_path)
    assert "recsplit build" in error.value.hint
    with pytest.raises(InputError, match="is not a folder"):
        find(tmp_path / "file")


def test_a_model_given_for_the_repository_points_to_the_repository(tmp_path: Path) -> None:
    build(tmp_path, "a")
    with pytest.raises(InputError) as error:
        find(tmp_path / "shop")
    assert error.value.hint == f"it is one model of a repository: give {tmp_path}"


def test_parts_of_two_builds_are_refused(tmp_path: Path) -> None:
    build(tmp_path / "one", "a")
    build(tmp_path / "two", "b")
    shutil.rmtree(tmp_path / "one" / "shop_dense")
    with pytest.raises(RecsplitError, match=r"there is no file .*shop_dense/config\.pbtxt"):
        find(tmp_path / "one")
    shutil.copytree(tmp_path / "two" / "shop_dense", tmp_path / "one" / "shop_dense")
    with pytest.raises(RecsplitError, match="shop_dense: b; plan: a") as error:
        find(tmp_path / "one")
    assert "build again" in error.value.hint


def test_a_renamed_ensemble_is_refused(tmp_path: Path) -> None:
    build(tmp_path, "a")
    (tmp_path / "shop").rename(tmp_path / "store")
    with pytest.raises(RecsplitError, match="was built as 'shop', and its folder is 'store'"):
        find(tmp_path)


def test_a_broken_plan_or_config_is_named(tmp_path: Path) -> None:
    build(tmp_path, "a")
    config = tmp_path / "shop_dense" / "config.pbtxt"
    whole = config.read_text()
    config.write_text("name: ")
    with pytest.raises(RecsplitError, match=r"shop_dense/config\.pbtxt, line 1, is not a Triton model config"):
        find(tmp_path)
    config.write_text(whole)
    (tmp_path / "shop" / "1" / "plan.json").write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"plan\.json can't be read"):
        find(tmp_path)
