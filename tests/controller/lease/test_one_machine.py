"""The lease of a server: one holder at a time, told by name, and free again however the holder ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit_controller.lease.one_machine import FileLease

HOLD = """
import sys
from pathlib import Path
from recsplit_controller.lease.one_machine import FileLease
with FileLease("127.0.0.1:8001", "recsplit control shop/", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lease until its input closes."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "localhost:8001", "http://0.0.0.0:8001"])
def test_a_second_controller_is_refused_and_told_by_whom(tmp_path: Path, address: str) -> None:
    with hold(tmp_path) as other:
        with pytest.raises(RecsplitError, match=rf"recsplit control shop/, process {other.pid}"), FileLease(address, "me", tmp_path):
            pass
        other.communicate("")
    with FileLease(address, "me", tmp_path):
        pass


def test_the_lease_of_a_killed_controller_is_free(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        other.kill()
        other.wait()
        with FileLease("127.0.0.1:8001", "me", tmp_path) as lease:
            with pytest.raises(RecsplitError, match="me, process"):
                FileLease("127.0.0.1:8001", "and me", tmp_path).take()
            lease.release()
            lease.release()


def test_servers_have_leases_of_their_own(tmp_path: Path) -> None:
    with FileLease("127.0.0.1:8001", "a", tmp_path), FileLease("127.0.0.1:9001", "b", tmp_path):
        pass


def test_a_note_that_says_nothing_is_no_trouble(tmp_path: Path) -> None:
    with FileLease("127.0.0.1:8001", "me", tmp_path) as lease:
        lease.path.with_suffix(".json").write_text('["torn')
        with pytest.raises(RecsplitError, match="has not said who it is"):
            FileLease("127.0.0.1:8001", "and me", tmp_path).take()


def test_a_link_in_the_place_of_the_note_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    lease = FileLease("127.0.0.1:8001", "me", tmp_path)
    lease.path.with_suffix(".json").symlink_to(precious)
    with lease:
        assert precious.read_text() == "mine"


def test_a_folder_that_is_none_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be locked"):
        FileLease("127.0.0.1:8001", "me", tmp_path / "file").take()
