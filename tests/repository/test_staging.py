"""A build comes in whole or not at all, and alone."""

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from recsplit.configs.render import render
from recsplit.disk import swap
from recsplit.disk.swap import Swap
from recsplit.errors import InputError, RecsplitError
from recsplit.repository import staging as staging_module
from recsplit.repository.find import find
from recsplit.repository.staging import Stage, staging
from tests.configs.plans import shop
from tests.disk.interrupts import interrupted
from tests.repository.builds import build, contents, fill

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


def test_a_first_build_makes_the_folder_and_version_1(tmp_path: Path) -> None:
    build(tmp_path / "models", "a")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["shop", "shop_dense", "shop_embedding"]
    assert find(tmp_path / "models").folder == tmp_path / "models" / "shop" / "1"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_next_build_takes_the_next_version_and_the_place_of_the_last(tmp_path: Path) -> None:
    for version, identity in enumerate(["a", "b", "c"], start=1):
        build(tmp_path, identity)
        published_build = find(tmp_path)
        assert (published_build.plan.version, published_build.plan.build) == (version, identity)
        assert [path.name for path in (tmp_path / "shop_embedding").iterdir() if path.is_dir()] == [str(version)]


def test_other_models_are_left_alone(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path, "b", name="books")
    (tmp_path / "hers").mkdir()
    (tmp_path / "hers" / "config.pbtxt").write_text('name: "hers"')
    before = {name: data for name, data in contents(tmp_path).items() if not name.startswith("shop")}
    build(tmp_path, "c")
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith("shop")} == before


class Interrupted(Exception):
    """Whatever goes wrong in a build."""


def build_and_raise(repository: Path, error: type[BaseException]) -> None:
    with staging(repository, "shop") as stage:
        fill(stage, "b")
        raise error


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, SystemExit])
def test_a_failed_build_changes_nothing(error: type[BaseException], tmp_path: Path) -> None:
    build(tmp_path / "models", "a")
    before = contents(tmp_path)
    with pytest.raises(error):
        build_and_raise(tmp_path / "models", error)
    assert contents(tmp_path) == before


def test_a_failed_first_build_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        build_and_raise(tmp_path / "models", Interrupted)
    assert not list(tmp_path.iterdir())


def build_and_stop(repository: Path, kind: type[Stage] = Stage) -> None:
    with staging(repository, "shop") as stage:
        fill(stage, "b")
        stage.__class__ = kind
        stage.publish("b")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("model", ["shop_dense", "shop_embedding", "shop"])
@pytest.mark.parametrize("first", [True, False])
def test_an_interrupted_move_is_undone(
    first: bool, model: str, after: bool, tmp_path: Path, exchanging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after the move of one model."""
    repository = tmp_path / "models"
    repository.mkdir()
    if not first:
        build(repository, "a")
    before = contents(tmp_path)
    move = Swap.do

    def stopping(change: Swap) -> None:
        if after or change.place.name != model:
            move(change)
        if change.place.name == model:
            raise KeyboardInterrupt

    monkeypatch.setattr(Swap, "do", stopping)
    with pytest.raises(KeyboardInterrupt):
        build_and_stop(repository)
    assert contents(tmp_path) == before


class StoppingLate(Stage):
    """A stage whose publishing is interrupted as it takes a shard away."""

    def _take_away(self, model: str) -> None:
        super()._take_away(model)
        if model == "shop_embedding_1":
            raise KeyboardInterrupt


def with_shards(repository: Path, count: int) -> None:
    """A build of the shop that has shards, as far as the repository is concerned."""
    with staging(repository, "shop") as stage:
        fill(stage, "a")
        text = render(shop(build="a"))["shop_embedding/config.pbtxt"]
        stage.write({f"shop_embedding_{number}/config.pbtxt": text for number in range(count)})
        stage.publish("a")


def test_shards_that_the_new_build_lacks_go_and_come_back_where_it_is_interrupted(tmp_path: Path, exchanging: bool) -> None:
    repository = tmp_path / "models"
    with_shards(repository, 2)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build_and_stop(repository, StoppingLate)
    assert contents(tmp_path) == before
    with_shards(repository, 1)
    assert sorted(path.name for path in repository.iterdir()) == ["shop", "shop_dense", "shop_embedding", "shop_embedding_0"]


def test_a_publishing_that_is_interrupted_between_any_two_steps_leaves_the_old_build_or_the_new(tmp_path: Path, exchanging: bool) -> None:
    """With shards that are replaced and shards that go; the new build only where the interrupt came as it was done."""
    repository, left = tmp_path / "models", []
    with_shards(repository, 2)
    before = contents(repository)
    for step in itertools.count():
        with staging(repository, "shop") as stage:
            fill(stage, "b")
            if not interrupted(step, partial(stage.publish, "b"), swap, staging_module):
                break
            left.append("old" if contents(repository) == before else find(repository).plan.build)
        assert [path.name for path in tmp_path.iterdir()] == ["models"]
        if left[-1] == "b":
            shutil.rmtree(repository)
            with_shards(repository, 2)
    assert set(left[:-1]) == {"old"} and left[-1] in {"old", "b"}
    assert sorted(path.name for path in repository.iterdir()) == ["shop", "shop_dense", "shop_embedding"]


@pytest.fixture(params=[True, False], ids=["exchange", "rename"])
def exchanging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of moving in: the kernel's exchange, and two renames where a file system doesn't offer it."""
    if not request.param:
        monkeypatch.setattr("recsplit.disk.swap._RENAME_EXCHANGE", 1 << 20)
    return bool(request.param)


def test_two_renames_do_where_no_exchange_is_offered(tmp_path: Path, exchanging: bool) -> None:
    for identity in ("a", "b"):
        build(tmp_path / "models", identity)
        assert find(tmp_path / "models").plan.build == identity
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_model_set_aside_by_a_killed_build_comes_back(tmp_path: Path) -> None:
    """Killed between the two renames: the old model's only copy is in the staging area."""
    repository = tmp_path / "models"
    build(repository, "a")
    before = contents(repository)
    aside = tmp_path / ".models.recsplit" / "aside"
    aside.mkdir(parents=True)
    (repository / "shop_dense").rename(aside / "shop_dense")
    with pytest.raises(Interrupted), staging(repository, "shop"):
        raise Interrupted
    assert contents(repository) == before
    assert not aside.exists()


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".models.recsplit" / "models" / "shop_embedding" / "7"
    left.mkdir(parents=True)
    (left / "tables.bin").write_text("half a table")
    build(tmp_path / "models", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert "7" not in {path.name for path in (tmp_path / "models" / "shop_embedding").iterdir()}


def test_a_second_build_into_the_folder_is_refused_while_the_first_works(tmp_path: Path) -> None:
    with staging(tmp_path / "models", "shop") as stage:
        fill(stage, "a")
        with pytest.raises(InputError, match="another build is writing to"), staging(tmp_path / "models", "books"):
            pass
        stage.publish("a")
    build(tmp_path / "models", "b")


def test_many_builds_at_once_take_turns_or_are_refused(tmp_path: Path) -> None:
    results: list[str] = []

    def attempt(number: int) -> None:
        for _ in range(10):
            try:
                build(tmp_path / "models", f"{number:x}")
                results.append("built")
            except InputError as error:
                results.append(str(error).split(" to ", maxsplit=1)[0])

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {"built", "another build is writing"}
    assert find(tmp_path / "models").plan.version == results.count("built")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("case", ["before", "after", "nfs"])
def test_a_lock_that_another_build_removes_as_we_ask_for_it_is_not_ours(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That build ends before we lock the file which we opened, or after it was asked for in vain; NFS keeps such a file by another name."""
    area = tmp_path / ".models.recsplit"
    flock, asked = fcntl.flock, []

    def asking(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            asked.append(descriptor)
        if not operation & fcntl.LOCK_EX or len(asked) > 1:
            flock(descriptor, operation)
        elif case == "nfs":
            (area / "lock").rename(tmp_path / ".nfs0001")
            flock(descriptor, operation)
        elif case == "before":
            shutil.rmtree(area)
            flock(descriptor, operation)
        else:
            with (area / "lock").open() as other:
                flock(other, fcntl.LOCK_EX)
                shutil.rmtree(area)
                flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", asking)
    with staging(tmp_path / "models", "shop"):
        assert len(asked) == 2 and (area / "lock").is_file()
        with pytest.raises(InputError, match="another build is writing to"), staging(tmp_path / "models", "shop"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ([".nfs0001"] if case == "nfs" else [])


def test_builds_of_several_processes_at_once_take_turns_or_are_refused(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from recsplit.errors import InputError
from tests.repository.builds import build
for number in range(15):
    try:
        build(Path({str(tmp_path)!r}) / "models", "a")
        print("built")
    except InputError as error:
        print(str(error).split(" to ")[0])
"""
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    results = [line for child in children for line in child.communicate(timeout=120)[0].splitlines()]
    assert len(results) == 45 and set(results) <= {"built", "another build is writing"}
    assert find(tmp_path / "models").plan.version == results.count("built")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_builds_into_neighbouring_folders_do_not_meet(tmp_path: Path) -> None:
    with staging(tmp_path / "one", "shop") as one, staging(tmp_path / "two", "shop") as two:
        fill(one, "a")
        fill(two, "b")
        one.publish("a")
        two.publish("b")
    assert (find(tmp_path / "one").plan.build, find(tmp_path / "two").plan.build) == ("a", "b")


# --- what is refused


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "ä", "x" * 101, "-x"])
def test_a_name_that_is_no_folder_or_url_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't name a model"), staging(tmp_path / "models", name):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("mine")
    with pytest.raises(InputError, match="is a file"), staging(tmp_path / "models", "shop"):
        pass


def test_a_file_in_the_place_of_the_area_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".models.recsplit").write_text("mine")
    with pytest.raises(InputError, match=r"models\.recsplit is in the way"), staging(tmp_path / "models", "shop"):
        pass


def test_a_missing_parent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist") as error, staging(tmp_path / "a" / "b", "shop"):
        pass
    assert error.value.hint == f"mkdir -p {tmp_path / 'a'}"


@pytest.mark.parametrize("model", ["shop", "shop_embedding", "shop_dense"])
def test_a_model_that_recsplit_did_not_write_is_never_replaced(model: str, tmp_path: Path) -> None:
    (tmp_path / model / "1").mkdir(parents=True)
    (tmp_path / model / "config.pbtxt").write_text(f'name: "{model}"\nbackend: "python"\n')
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"{model} exists, and recsplit didn't write it"), staging(tmp_path, "shop"):
        pass
    assert contents(tmp_path) == before


def test_a_model_that_came_while_we_built_is_not_replaced_either(tmp_path: Path) -> None:
    with staging(tmp_path, "shop") as stage:
        fill(stage, "a")
        (tmp_path / "shop_dense").mkdir()
        with pytest.raises(InputError, match="recsplit didn't write it"):
            stage.publish("a")
    assert list(contents(tmp_path)) == ["shop_dense"]


def test_a_part_of_another_ensemble_is_not_replaced(tmp_path: Path) -> None:
    build(tmp_path, "a")
    with pytest.raises(InputError, match="it is a part of another ensemble"), staging(tmp_path, "shop_dense"):
        pass
    build(tmp_path, "b", name="x_dense")
    with pytest.raises(InputError, match="it is another ensemble"), staging(tmp_path, "x"):
        pass


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Not root, for whom every folder is writable."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    os.chown(tmp_path, 65534, 65534)
    os.seteuid(65534)
    try:
        if not os.access(__file__, os.R_OK, effective_ids=True):
            pytest.skip("this checkout can't be read by another user")
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("as_nobody")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    for repository in (tmp_path / "closed" / "models", tmp_path / "closed"):
        with pytest.raises(InputError, match="closed can't be written: permission denied"), staging(repository, "shop"):
            pass
    assert not list((tmp_path / "closed").iterdir())


@pytest.mark.usefixtures("as_nobody")
def test_a_repository_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(InputError, match="closed can't be read: Permission denied"):
        find(tmp_path / "closed")


@pytest.mark.usefixtures("as_nobody")
def test_the_area_lies_inside_where_the_parent_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tmp_path.chmod(0o555)
    build(tmp_path / "models", "a")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["shop", "shop_dense", "shop_embedding"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine doesn't let us mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def build_and_fill(repository: Path) -> None:
    with staging(repository, "shop") as stage:
        fill(stage, "b")
        stage.path("shop_embedding", "more.bin").write_bytes(bytes(1 << 20))


@ROOT_ONLY
def test_a_full_disk_is_told_and_the_last_build_stays(small_disk: Path) -> None:
    repository = small_disk / "models"
    build(repository, "a")
    before = contents(small_disk)
    with pytest.raises(RecsplitError, match="no space left in") as error:
        build_and_fill(repository)
    assert "free some space" in error.value.hint
    assert contents(small_disk) == before
    assert find(repository).plan.build == "a"


@ROOT_ONLY
def test_a_repository_that_is_a_mount_point_holds_its_own_area(small_disk: Path) -> None:
    for identity in ("a", "b"):
        build(small_disk, identity)
        assert find(small_disk).plan.build == identity
    assert sorted(path.name for path in small_disk.iterdir()) == ["shop", "shop_dense", "shop_embedding"]


def test_a_disk_that_fills_while_a_build_writes_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecsplitError, match="no space left in"), staging(tmp_path / "models", "shop"):
        Path("/dev/full").write_text("x")
    assert not list(tmp_path.iterdir())


def test_other_errors_of_the_system_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staging(tmp_path / "models", "shop"):
        (tmp_path / "nothing").read_text()


def test_a_build_that_is_terminated_by_ctrl_c_cleans_up(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from recsplit.repository.staging import staging
from tests.repository.builds import fill
with staging(Path({str(tmp_path)!r}) / "models", "shop") as stage:
    fill(stage, "a")
    print("staged", flush=True)
    input()
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "staged\n"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode not in {0, None}
    assert not list(tmp_path.iterdir())
