import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from recsplit.capacity.ids import Zipf
from recsplit.errors import InputError
from recsplit.partition.access import frequencies, traces
from recsplit.partition.access.counting import Counter, drawable
from recsplit.partition.access.frequencies import About, AccessProfile, Counts
from recsplit.plan.plan import Lookup, Plan, Table, Tensor
from recsplit.proof import samples
from tests.configs.plans import shop

COUNTS = arrays.arrays(np.uint32, st.integers(1, 60), elements=st.integers(0, 5) | st.integers(2**32 - 3, 2**32 - 1))


def plain(plan: Plan | None = None, **changes: object) -> Plan:
    """The shop without the lookup whose ids are computed."""
    plan = plan or shop()
    return dataclasses.replace(plan, lookups=plan.lookups[:3], **changes)  # type: ignore[arg-type]


def sent(rows: int = 3) -> dict[str, NDArray[Any]]:
    """What clients of the shop send: two items viewed and one bought in every row, the last slot padding."""
    ids = np.arange(rows)
    return {
        "user": ids.astype(np.int64),
        "items": np.stack([ids, ids + 10, ids + 20, np.full(rows, 4999)], axis=1),
        "items_lengths": np.tile(np.array([[2, 1]]), (rows, 1)),
    }


def counted(path: Path, plan: Plan) -> Counter:
    counter = Counter(plan)
    for chunk in traces.chunks(path, plan):
        counter.add(chunk)
    return counter


def written(path: Path, about: About, tables: dict[str, Counts]) -> Path:
    with path.open("wb") as file:
        frequencies.write(file, about, tables.items())
    return path


ABOUT = About("shop", 4, 8, 0, ("by hand",))


@given(COUNTS)
def test_rows_are_ordered_by_heat_and_ties_by_row(counts: Counts) -> None:
    expected = sorted(range(len(counts)), key=lambda row: (-int(counts[row]), row))
    by_heat = frequencies.order(counts)
    assert by_heat.tolist() == expected and by_heat.dtype == np.int32
    assert frequencies.ranks(by_heat)[by_heat].tolist() == list(range(len(counts)))


def test_a_profile_reads_as_it_was_written_and_the_same_counts_give_the_same_digest(tmp_path: Path) -> None:
    tables: dict[str, Counts] = {"a/b": np.array([3, 0, 7], np.uint32), "c": np.array([2**40], np.uint64)}
    path = written(tmp_path / "a.npz", ABOUT, tables)
    profile = frequencies.read(path)
    assert profile.about == ABOUT and profile.queries == 4 and list(profile.tables) == ["a/b", "c"]
    for name, counts in tables.items():
        assert profile.tables[name].dtype == counts.dtype and profile.tables[name].tolist() == counts.tolist()
    assert frequencies.digest(path) == frequencies.digest(written(tmp_path / "b.npz", ABOUT, tables))
    assert np.load(path)["counts/c"].tolist() == [2**40]


@given(st.lists(arrays.arrays(np.uint32, 5, elements=st.integers(0, 2**32 - 1)), min_size=1, max_size=4))
def test_profiles_add_up_exactly_and_are_widened_only_where_they_must_be(several: list[Counts]) -> None:
    profiles = [AccessProfile(ABOUT, {"users": counts.copy()}) for counts in several]
    about, tables = frequencies.merged(profiles)
    total = dict(tables)["users"]
    exact = [sum(int(counts[row]) for counts in several) for row in range(5)]
    assert total.tolist() == exact and about.queries == 4 * len(several) and about.rows == 8 * len(several)
    assert total.dtype == (np.uint32 if max(exact) <= frequencies.WIDEST else np.uint64)


def test_a_count_that_no_longer_fits_is_widened() -> None:
    counter = Counter(plain())
    counter._tables["users"][1] = counter._most["users"] = 2**32 - 5
    kinds = []
    for added in range(1, 7):
        counter.add(sent())
        users = counter.profile(1, ()).tables["users"]
        assert int(users[1]) == 2**32 - 5 + added
        kinds.append(users.dtype)
    assert kinds[0] == np.uint32 and kinds[-1] == np.uint64


def test_ragged_bags_columns_shifts_and_padding_are_counted_as_the_model_reads_them() -> None:
    plan = plain()
    split = (dataclasses.replace(plan.lookups[1], columns=(0, 1)), dataclasses.replace(plan.lookups[2], columns=(1, 2)))
    counter = Counter(dataclasses.replace(plan, lookups=(plan.lookups[0], *split)))
    counter.add(sent())
    tables = counter.profile(1, ()).tables
    assert np.flatnonzero(tables["users"]).tolist() == [0, 1, 2]
    assert np.flatnonzero(tables["items"]).tolist() == [0, 1, 2, 10, 11, 12, 2520, 2521, 2522]
    assert counter.unknown == 0 and tables["bias"].sum() == 0


def test_fixed_columns_of_an_input_are_counted_for_their_own_table() -> None:
    plan = dataclasses.replace(shop(), bags=(), lookups=(
        Lookup("users.0", "users", "none", ("ids",), (0, 1), 0, True, 1000, 1),
        Lookup("items.0", "items", "sum", ("ids",), (1, 3), -1, True, 5001, 2),
    ))  # fmt: skip
    counter = Counter(plan)
    counter.add({"ids": np.array([[0, 1, 2], [1, 2, 0]], np.int32)})
    profile = counter.profile(2, ())
    assert profile.tables["users"][:3].tolist() == [1, 1, 0] and profile.tables["items"][:3].tolist() == [1, 2, 0]
    assert counter.unknown == 1 and profile.queries == 1  # id 0 has no row: ids count from 1


@pytest.mark.parametrize(("policy", "read"), [("error", 0), ("zero", 0), ("row=7", 2)])
def test_ids_outside_their_table_read_what_the_build_says(policy: str, read: int) -> None:
    counter = Counter(plain(unknown_ids=policy))
    inputs = sent()
    inputs["user"][:2] = [-1, 1000]
    counter.add(inputs)
    users = counter.profile(1, ()).tables["users"]
    assert counter.unknown == 2 and users[7] == read and users.sum() == 1 + read


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_a_trace_counts_the_same_whole_and_in_chunks(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "CHUNK", step)
    plan, rng = plain(), np.random.default_rng(0)
    inputs = sent(50)
    inputs["user"] = rng.integers(0, 1000, (50, 1))
    np.savez_compressed(tmp_path / "trace.npz", **inputs, other=np.zeros(3))
    counter, whole = counted(tmp_path / "trace.npz", plan), Counter(plan)
    whole.add(inputs)
    assert counter.rows == 50
    for name, counts in whole.profile(1, ()).tables.items():
        assert np.array_equal(counter.profile(1, ()).tables[name], counts)


def test_a_parquet_trace_counts_as_the_same_npz_does(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    plan, inputs = plain(), sent(9)
    np.savez(tmp_path / "trace.npz", **inputs)
    ragged = [row[:3].tolist() for row in inputs["items"]]
    columns = {"user": inputs["user"], "items": ragged, "items_lengths": inputs["items_lengths"].tolist()}
    parquet.write_table(arrow.table(columns), tmp_path / "trace.parquet")
    npz, other = (counted(tmp_path / name, plan).profile(1, ()).tables for name in ("trace.npz", "trace.parquet"))
    for table, counts in npz.items():
        assert np.array_equal(counts, other[table])


def test_rows_can_be_given_where_ids_are_computed(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **sent(), **{"rows/bias": np.array([[5, 5], [6, 1000], [1, 2]])})
    counter = counted(tmp_path / "t.npz", shop())
    bias = counter.profile(1, ()).tables["bias"]
    assert bias[[5, 6, 1, 2]].tolist() == [2, 1, 1, 1] and bias.sum() == 5 and counter.unknown == 1


def mistake(change: str) -> dict[str, NDArray[Any]]:
    inputs = sent()
    match change:
        case "missing":
            del inputs["user"]
        case "rows":
            inputs["user"] = inputs["user"][:2]
        case "text":
            inputs["user"] = np.array(["a", "b", "c"])
        case "fractions":
            inputs["user"] = np.array([0.5, 1, 2])
        case "lengths":
            inputs["items_lengths"] = inputs["items_lengths"] + 5
        case "table":
            inputs["rows/other"] = inputs["user"]
        case "empty":
            inputs = {name: array[:0] for name, array in inputs.items()}
        case "object":
            inputs["user"] = np.array([{}, {}, {}])
        case "fortran":
            inputs["items"] = np.asfortranarray(inputs["items"])
        case _:
            raise AssertionError(change)
    return inputs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "no input 'user'"),
        ("rows", "differ in their rows"),
        ("text", "expected ids"),
        ("fractions", "aren't whole"),
        ("lengths", "more ids than"),
        ("table", "no such table"),
        ("empty", "holds no rows"),
        ("object", "object"),
        ("fortran", "Fortran"),
    ],
)
def test_a_trace_that_cannot_be_counted_is_told(change: str, said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", allow_pickle=True, **mistake(change))
    with pytest.raises(InputError, match=said):
        counted(tmp_path / "t.npz", plain())


def test_computed_ids_are_refused_with_a_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **sent())
    with pytest.raises(InputError, match="computed ids") as error:
        list(traces.chunks(tmp_path / "t.npz", shop()))
    assert "rows/bias" in error.value.hint


@pytest.mark.parametrize("kind", ["absent", "text", "other zip", "cut off", "wrong dtype", "two dimensions", "no queries"])
def test_what_is_no_access_profile_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    tables: dict[str, Counts] = {"users": np.arange(1000, dtype=np.uint32)}
    match kind:
        case "text":
            path.write_text("hello")
        case "other zip":
            np.savez(path, users=np.zeros(3))
        case "cut off":
            whole = written(path, ABOUT, tables).read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
        case "wrong dtype":
            written(path, ABOUT, {"users": np.zeros(3, np.float32)})  # type: ignore[dict-item]
        case "two dimensions":
            written(path, ABOUT, {"users": np.zeros((3, 1), np.uint32)})
        case "no queries":
            written(path, dataclasses.replace(ABOUT, queries=0), tables)
        case _:
            pass
    with pytest.raises(InputError):
        frequencies.read(path)


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", ABOUT, {"users": np.zeros(1000, np.uint32)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="users"):
        _ = frequencies.read(path).tables["users"]


def test_a_profile_of_another_model_or_other_tables_is_refused(tmp_path: Path) -> None:
    profile = frequencies.read(written(tmp_path / "a.npz", ABOUT, {"users": np.zeros(10, np.uint32)}))
    frequencies.check(profile, "shop", {"users": 10}, origin="a.npz")
    for model, rows, said in (("other", {"users": 10}, "'other'"), ("shop", {"items": 10}, "tables"), ("shop", {"users": 11}, "rows")):
        with pytest.raises(InputError, match=said):
            frequencies.check(profile, model, rows, origin="a.npz")


def tiny() -> Plan:
    """Two columns of one input, the second read by two tables, ids from 1 on in one of them."""

    def lookup(name: str, table: str, columns: tuple[int, int], shift: int, limit: int) -> Lookup:
        return Lookup(name, table, "sum", ("items",), columns, shift, True, limit, columns[1] - columns[0])

    base = shop()
    tables = tuple(Table(name, rows, 4, "FP32", "FP32", rows * 16) for name, rows in (("one", 50), ("two", 40), ("three", 39)))
    lookups = (lookup("a", "one", (0, 3), 0, 50), lookup("b", "two", (3, 4), 0, 40), lookup("c", "three", (3, 4), -1, 40))
    inputs = (Tensor("items", "INT64", (4,)),)
    return dataclasses.replace(base, tables=tables, lookups=lookups, inputs=inputs, bags=())


def test_counts_of_a_law_are_drawn_as_ids_would_be() -> None:
    plan, law, rows = tiny(), Zipf(1.0), 50_000
    assert drawable(plan, rows) and not drawable(plan, 20) and not drawable(shop(), rows)
    quick, slow = Counter(plan), Counter(plan)
    quick.add_drawn(law, rows, np.random.default_rng(1), lambda _: None)
    rng = np.random.default_rng(2)
    slow.add(samples.rows(plan, rows, rng, draw=samples.by_law(law, rng)))
    first, second = quick.profile(10, ("law",)), slow.profile(10, ("ids",))
    assert first.about.queries == second.about.queries and first.about.rows == second.about.rows
    for table in ("one", "two", "three"):
        total = second.tables[table].sum()
        assert first.tables[table].sum() == total
        assert first.tables[table] / total == pytest.approx(second.tables[table] / total, abs=0.01)
    assert (first.tables["two"][1:] == first.tables["three"]).all()  # the same ids, counted from 1 in the other


def test_counts_of_a_law_need_columns_that_are_apart() -> None:
    plan = tiny()
    wide = dataclasses.replace(plan.lookups[0], columns=(0, 4), width=4)
    assert not drawable(dataclasses.replace(plan, lookups=(wide, *plan.lookups[1:])), 50_000)
    hashed = dataclasses.replace(plan.lookups[0], direct=False)
    assert not drawable(dataclasses.replace(plan, lookups=(hashed, *plan.lookups[1:])), 50_000)


def test_columns_of_an_input_of_rank_3_are_those_of_the_flattened_one() -> None:
    plan = plain(
        inputs=(Tensor("ids", "INT64", (2, 3)),),
        tables=(Table("a", 50, 4, "FP32", "FP32", 800), Table("b", 60, 4, "FP32", "FP32", 960)),
        bags=(),
    )
    lookups = (Lookup("a", "a", "sum", ("ids",), (0, 3), 0, True, 50, 3), Lookup("b", "b", "sum", ("ids",), (3, 6), 0, True, 60, 3))
    counter = Counter(dataclasses.replace(plan, lookups=lookups))
    counter.add({"ids": np.array([[[1, 1, 2], [59, 58, 57]], [[0, 3, 4], [59, 0, 0]]])})
    counts = counter.profile(1.0, ()).tables
    assert counts["a"][:5].tolist() == [1, 2, 1, 1, 1] and counts["a"].sum() == 6
    assert counts["b"][[0, 57, 58, 59]].tolist() == [2, 1, 1, 2] and counter.unknown == 0
