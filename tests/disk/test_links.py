"""Files that hold the same bytes, stored once."""

from pathlib import Path

from recsplit.disk.links import link_file, store_once


def test_the_same_bytes_are_stored_once_and_others_stay_as_they_are(tmp_path: Path) -> None:
    one, same, other, shorter = (tmp_path / name for name in ("one", "same", "other", "shorter"))
    one.write_bytes(b"rows" * 1000)
    same.write_bytes(b"rows" * 1000)
    other.write_bytes(b"cols" * 1000)
    shorter.write_bytes(b"rows")
    with same.open("rb") as reader:
        assert store_once(one, same)
        assert reader.read() == b"rows" * 1000, "who has it open reads on"
    assert one.samefile(same)
    assert not store_once(one, same), "they are one file already"
    for each in (other, shorter):
        before = each.read_bytes()
        assert not store_once(one, each)
        assert each.read_bytes() == before and not each.samefile(one)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "same", "shorter"]


def test_a_link_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link_file(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a").samefile(tmp_path / "b")
