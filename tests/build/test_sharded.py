"""A build in shards: what lies where, what is proved, what Triton answers, and which partitions are refused before anything is done."""

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.building.build import Built
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.plan.files import MODEL_FILE, RECIPE_FILE
from recsplit.plan.plan import Segment, Shard
from recsplit.proof import published
from recsplit.proof.by_engine import engine_run
from recsplit.proof.parts import joined, session
from recsplit.repository.find import find
from recsplit.serving import serve
from tests.build.onnx_models import build_of, built, onnx_file
from tests.build.partitions import partition, profile_file, write_partition
from tests.conftest import REPOSITORY, Run
from tests.graph.small import Array, table

needs_engine = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

USERS, ITEMS, BIAS = table(300, 8), table(500, 8, seed=1), table(500, 1)
ARRAYS: dict[str, Array] = {"users": USERS, "items": ITEMS, "bias": BIAS, "one": np.array([1]), "two": np.array([2])}
ROWS = {"users": 300, "items": 500, "bias": 500}
#: Users whole, items bought by mean, viewed by maximum, and a bias an item; the order of columns is not that of tables.
RANKER = (
    "(int64[N] user, int64[N,4] bought, int64[N,6] viewed) => (float[N] score) {"
    " u=Gather(users,user) b=Gather(items,bought) m=ReduceMean<axes=[1],keepdims=0>(b)"
    " v=Gather(items,viewed) x=ReduceMax<axes=[1],keepdims=0>(v) w=Gather(bias,bought) s=ReduceSum<keepdims=0>(w,one)"
    " p=Mul(u,m) q=Add(p,x) r=ReduceSum<keepdims=1>(q,one) t=Add(r,s) score=Squeeze(t,one) }"
)
SHARDS = [
    [Segment("items", 0, 40), Segment("bias", 0, 500)],
    [Segment("items", 40, 200)],
    [Segment("items", 200, 500), Segment("users", 0, 300)],
]


@pytest.fixture(scope="module")
def by_heat(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The ranker in three shards, cut by heat."""
    return ranker_by_heat(tmp_path_factory.mktemp("by_heat"), embedding_runtime="onnxruntime")


@pytest.fixture(scope="module")
def by_engine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same for the engine."""
    return ranker_by_heat(tmp_path_factory.mktemp("by_engine"), embedding_runtime="native")


def ranker_by_heat(folder: Path, **settings: Any) -> Built:
    profile = profile_file(folder / "access.npz", ROWS)
    partition_path = write_partition(folder / "partition.json", SHARDS, profile=profile)
    return built(folder, RANKER, ARRAYS, partition=partition_path, access=profile, **settings)


def queries(rows: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "user": random.integers(0, 300, rows),
        "bought": random.integers(0, 500, (rows, 4)),
        "viewed": random.integers(0, 500, (rows, 6)),
    }


def expected(asked: dict[str, Array]) -> Array:
    mixed = USERS[asked["user"]] * ITEMS[asked["bought"]].mean(axis=1) + ITEMS[asked["viewed"]].max(axis=1)
    return mixed.sum(axis=1) + BIAS[asked["bought"]].sum(axis=(1, 2))


def test_the_plan_tells_each_shards_rows_places_and_size(by_heat: Built) -> None:
    plan = by_heat.plan
    assert [shard.model.name for shard in plan.shards] == ["m_embedding_0", "m_embedding_1", "m_embedding_2"]
    assert [model.name for model in plan.submodels] == ["m_embedding", *(shard.model.name for shard in plan.shards), "m_dense"]
    assert [shard.segments for shard in plan.shards] == [tuple(segments) for segments in SHARDS]
    assert [(shard.location, shard.replicas) for shard in plan.shards] == [("front", 1), ("own", 2), ("own", 3)]
    assert [shard.size_bytes for shard in plan.shards] == [40 * 32 + 500 * 4, 160 * 32, 600 * 32]
    wide, narrow = (next(item.places for item in plan.shards[0].ranges if item.dim == dim) for dim in (8, 1))

    def bounds(shard: Shard) -> dict[str, tuple[int, int]]:
        return {item.places: (item.first, item.last) for item in shard.ranges}

    assert [bounds(shard) for shard in plan.shards] == [{wide: (0, 40), narrow: (0, 500)}, {wide: (40, 200)}, {wide: (200, 800)}]
    assert find(by_heat.repository).plan == plan
    assert {tensor.name for tensor in plan.boundary} == {"embeddings_8", "embeddings_1"}
    assert {reading.output for reading in plan.readings} == {"embeddings_8", "embeddings_1"}


def test_rows_lie_in_the_shards_once_and_nowhere_else(by_heat: Built) -> None:
    files = {path.relative_to(by_heat.repository).as_posix(): path for path in by_heat.repository.rglob("*") if path.is_file()}
    assert "m_embedding/1/tables.bin" not in files and "m_embedding/1/whole.onnx" not in files
    assert files["m_embedding/1/places.bin"].stat().st_size == 501 * 4  # items, the only table that is cut, and the row of zeros
    sizes = [files[f"{shard.model.name}/1/tables.bin"].stat().st_size for shard in by_heat.plan.shards]
    padding = 2 * 32  # zeros, and the lowest number for the maximum over items
    page = 4096
    assert sizes[1:] == [160 * 32 + padding, 600 * 32 + padding]
    assert sizes[0] in (page + 500 * 4 + 4, page + 40 * 32 + padding)


def test_the_hottest_rows_lie_in_the_first_shard_in_their_order(by_heat: Built, tmp_path: Path) -> None:
    profile = profile_file(tmp_path / "access.npz", ROWS)
    by_rank = frequencies.order(frequencies.read(profile).tables["items"])
    data = (by_heat.repository / "m_embedding_1" / "1" / "tables.bin").read_bytes()
    rows = np.frombuffer(data, np.float32).reshape(-1, 8)
    np.testing.assert_array_equal(rows[:160], ITEMS[by_rank[40:200]])
    assert not rows[160].any() and (rows[161] == np.finfo(np.float32).min).all()


def test_the_proof_of_a_sharded_build_compares_source_and_parts(by_heat: Built) -> None:
    stages = {"source - parts", "batch - single rows", "source - parts, threaded", "source - parts, search"}
    assert {item.stage for item in by_heat.differences} == stages
    assert all(item.ok for item in by_heat.differences)


def test_a_changed_row_in_a_shard_fails_the_proof(by_heat: Built, tmp_path: Path) -> None:
    again = built(
        tmp_path,
        RANKER,
        ARRAYS,
        partition=write_partition(tmp_path / "p.json", SHARDS),
    )
    path = again.repository / "m_embedding_2" / "1" / "tables.bin"
    data = np.frombuffer(path.read_bytes(), np.float32).copy()
    data[:4800] += 1
    path.write_bytes(data.tobytes())
    differences = published.verify(again.repository, repeats=1)
    assert not all(item.ok for item in differences)


@pytest.mark.parametrize("runtime", ["by_heat", pytest.param("by_engine", marks=needs_engine)])
def test_triton_answers_as_the_source_does_and_refuses_unknown_ids(runtime: str, request: pytest.FixtureRequest) -> None:
    build: Built = request.getfixturevalue(runtime)
    with serve(build.repository) as server, Client(server.grpc_url, "m") as client:
        for rows in (1, 7, 64):
            asked = queries(rows, rows)
            answer = client.infer(asked)
            np.testing.assert_allclose(answer["score"].reshape(-1), expected(asked), rtol=1e-4, atol=1e-5)
        wrong = queries(3)
        wrong["viewed"][1, 2] = 500
        with pytest.raises(RecsplitError, match=r"'viewed' column 2: id 500 is outside table 'items' \(0\.\.499\), row 1"):
            client.infer(wrong)
        (gathered,) = [item for item in published.verify(build.repository, grpc_url=server.grpc_url, repeats=1) if "served" in item.stage]
        assert gathered.ok


@needs_engine
def test_the_engine_reads_a_shards_rows_as_its_graph_does(by_engine: Built) -> None:
    plan = by_engine.plan
    assert "source - engine" in {item.stage for item in by_engine.differences}
    places = session(by_engine.repository / "m_embedding" / "1" / MODEL_FILE)(queries(9))
    for shard in plan.shards:
        folder = by_engine.repository / shard.model.name / "1"
        assert (folder / RECIPE_FILE).is_file()
        by_graph, engine = session(folder / MODEL_FILE)(places), engine_run(folder, shard.model, plan)(places)
        for name, vectors in by_graph.items():
            np.testing.assert_allclose(engine[name].astype(np.float64), vectors.astype(np.float64), rtol=1e-6, atol=1e-6)


def test_the_csr_form_of_a_shard_pools_as_the_shard_does(by_heat: Built) -> None:
    plan = by_heat.plan
    asked = queries(5)
    places = session(by_heat.repository / "m_embedding" / "1" / MODEL_FILE)(asked)
    for shard in plan.shards:
        folder = by_heat.repository / shard.model.name / "1"
        partial = session(folder / MODEL_FILE)(places)
        feeds: dict[str, Array] = {}
        owned = {}
        for number, reading in enumerate(plan.readings):
            for held in shard.ranges:
                if held.places != reading.places:
                    continue
                owned[number] = reading
                rows, ends = [], [0]
                for line in places[reading.places]:
                    for bag in np.split(line, np.cumsum(reading.widths)[:-1]):
                        bag_rows = bag[(bag >= held.first) & (bag < held.last)] - held.first
                        rows.append(bag_rows)
                        ends.append(ends[-1] + len(bag_rows))
                feeds |= {f"rows_{number}": np.concatenate(rows).astype(np.int32), f"offsets_{number}": np.array(ends, np.int32)}
        pooled = session(folder / "bags.onnx")(feeds)
        for number, reading in owned.items():
            widths = [width if pooling == "mean" else 1 for width, pooling in zip(reading.widths, reading.poolings, strict=True)]
            want = partial[next(name for name in partial if name.startswith(reading.output))].astype(np.float64)
            got = pooled[f"pooled_{number}"].astype(np.float64).reshape(want.shape) / np.array(widths, np.float32)[None, :, None]
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_no_csr_form_where_a_maximum_takes_in_the_zeros_of_unknown_ids(tmp_path: Path) -> None:
    """They are no shard's rows, so that in CSR they would be missing from the maximum; the batched form has them."""
    build = built(tmp_path, RANKER, ARRAYS, partition=write_partition(tmp_path / "p.json", SHARDS), unknown_ids="zero")
    assert build.plan.readings == () and not list(build.repository.rglob("bags.onnx"))
    asked = queries(4)
    asked["viewed"][2] = 777  # a maximum of nothing but zeros
    want = expected({**asked, "viewed": asked["viewed"] % 500})
    items = ITEMS[asked["bought"][2]].mean(axis=0)
    want[2] = (USERS[asked["user"][2]] * items).sum() + BIAS[asked["bought"][2]].sum()
    np.testing.assert_allclose(joined(build.repository, build.plan)(asked)["score"].astype(np.float64), want, rtol=1e-4, atol=1e-5)


def test_a_build_with_fewer_shards_takes_the_others_away(tmp_path: Path) -> None:
    first = built(tmp_path, RANKER, ARRAYS, partition=write_partition(tmp_path / "p.json", SHARDS))
    assert (first.repository / "m_embedding_2").is_dir()
    halves = [SHARDS[0], [*SHARDS[1], *SHARDS[2]]]
    again = built(tmp_path, RANKER, ARRAYS, partition=write_partition(tmp_path / "p.json", halves), keep=1)
    assert sorted(path.name for path in again.repository.iterdir()) == ["m", "m_dense", "m_embedding", "m_embedding_0", "m_embedding_1"]
    whole = built(tmp_path, RANKER, ARRAYS)
    assert (whole.repository / "m_embedding_1").is_dir(), "of the build that is kept"
    last = built(tmp_path, RANKER, ARRAYS)
    assert sorted(path.name for path in last.repository.iterdir()) == ["m", "m_dense", "m_embedding"]
    assert last.plan.shards == () and last.plan.version == 4


def test_a_shard_that_somebody_else_wrote_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "models" / "m_embedding_1"
    theirs.mkdir(parents=True)
    (theirs / "config.pbtxt").write_text('name: "m_embedding_1"\n')
    built(tmp_path, RANKER, ARRAYS)
    assert (theirs / "config.pbtxt").is_file()
    with pytest.raises(InputError, match="recsplit didn't write it"):
        built(tmp_path, RANKER, ARRAYS, partition=write_partition(tmp_path / "p.json", SHARDS))


ZOO = {
    "attention over a history": "recsplit.zoo.deeprecsys:din",
    "ragged bags": "recsplit.zoo.bags:sum_offsets",
    "jagged bags": "recsplit.zoo.torchrec:dlrm",
    "wide and deep": "recsplit.zoo.deeprecsys:wide_and_deep",
}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("native", marks=needs_engine)])
@pytest.mark.parametrize("source", ZOO.values(), ids=ZOO)
def test_models_of_the_zoo_are_proved_in_shards(source: str, runtime: str, tmp_path: Path) -> None:
    """Every table in three pieces, by heat; the shards hold mixed pieces."""
    plain = build_of(source, tmp_path / "plain")
    rows = {item.name: item.rows for item in plain.plan.tables}
    shards: list[list[Segment]] = [[], [], []]
    for number, (name, size) in enumerate(rows.items()):
        cuts = sorted({0, min(size, 1 + size // 7), min(size, 1 + size // 2), size})
        for piece, (first, last) in enumerate(itertools.pairwise(cuts)):
            shards[(piece + number) % 3].append(Segment(name, first, last))
    profile = profile_file(tmp_path / "access.npz", rows)
    partition_path = write_partition(tmp_path / "p.json", [segments for segments in shards if segments], profile=profile)
    build = build_of(source, tmp_path / "models", partition=partition_path, access=profile, embedding_runtime=runtime)
    assert all(item.ok for item in build.differences)


WRONG: dict[str, tuple[Callable[[], Sequence[Sequence[Segment]]], str]] = {
    "rows twice": (lambda: [*SHARDS, [Segment("items", 450, 500)]], r"ranks \[450, 500\) twice of table 'items'"),
    "rows left out": (lambda: [[Segment("items", 0, 30), *SHARDS[0][1:]], *SHARDS[1:]], r"leaves out ranks \[30, 40\)"),
    "the end left out": (lambda: [SHARDS[0], SHARDS[1], [Segment("items", 200, 499), SHARDS[2][1]]], "covers 499 rows of table 'items'"),
    "rows beyond the end": (lambda: [SHARDS[0], SHARDS[1], [Segment("items", 200, 501), SHARDS[2][1]]], "covers 501 rows"),
    "below the first row": (lambda: [[Segment("items", -1, 40), SHARDS[0][1]], *SHARDS[1:]], "'items'"),
    "an empty segment": (lambda: [*SHARDS, [Segment("items", 500, 500)]], r"empty ranks \[500, 500\)"),
    "a table of another model": (lambda: [*SHARDS, [Segment("shops", 0, 3)]], "tables that the model doesn't: shops"),
    "tables left out": (lambda: [[Segment("items", 0, 500)]], "leaves out the tables bias, users"),
    "a shard of nothing": (lambda: [*SHARDS, []], "shard 3 of the partition has no rows"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_partition_that_does_not_cover_every_row_once_is_refused(kind: str) -> None:
    shards, says = WRONG[kind]
    with pytest.raises(InputError, match=says):
        partition_file.check(partition(shards()), ROWS)


def test_a_refused_partition_leaves_nothing_behind(tmp_path: Path) -> None:
    partition_path = write_partition(tmp_path / "p.json", WRONG["tables left out"][0]())
    with pytest.raises(InputError, match="leaves out the tables"):
        built(tmp_path, RANKER, ARRAYS, partition=partition_path)
    assert not list((tmp_path / "models").glob("*"))


def test_a_partition_and_an_access_profile_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    profile, other = (profile_file(tmp_path / f"{seed}.npz", ROWS, seed=seed) for seed in (0, 1))
    by_heat = write_partition(tmp_path / "heat.json", SHARDS, profile=profile)
    by_row = write_partition(tmp_path / "row.json", SHARDS)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"partition": by_heat}, "give that profile|order of an access profile"),
        ({"partition": by_heat, "access": other}, "is not the access profile"),
        ({"partition": by_row, "access": profile}, "made without an access profile"),
        ({"access": profile}, "--access is of use with --partition only"),
        ({"partition": by_row, "bag_form": "chunked"}, "chunked"),
        ({"partition": tmp_path / "nothing.json"}, "can't be read"),
    ]
    for settings, says in cases:
        with pytest.raises(InputError, match=says):
            built(tmp_path, RANKER, ARRAYS, **settings)
    short = profile_file(tmp_path / "short.npz", {**ROWS, "items": 499})
    with pytest.raises(InputError, match="'items' has 499 rows"):
        built(tmp_path, RANKER, ARRAYS, partition=write_partition(tmp_path / "p.json", SHARDS, profile=short), access=short)
    assert not list((tmp_path / "models").glob("*"))


def test_the_command_builds_in_shards_and_says_what_lies_where(run_here: Run, tmp_path: Path) -> None:
    source = onnx_file(tmp_path, RANKER, ARRAYS)
    partition_path = write_partition(tmp_path / "p.json", SHARDS)
    done = run_here("build", source, "-o", tmp_path / "models", "--name", "m", "--partition", partition_path)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "m_embedding_2" in line)
    assert "items 200..499, users 0..299" in line and "own" in line
    json_run = run_here("build", source, "-o", tmp_path / "models", "--name", "m", "--partition", partition_path, "--json")
    shards = json.loads(json_run.stdout)["plan"]["shards"]
    assert [shard["replicas"] for shard in shards] == [1, 2, 3]
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    refused = run_here("build", source, "-o", tmp_path / "models", "--name", "m", "--partition", broken)
    assert refused.returncode == 2 and "broken.json is not JSON" in refused.stderr and "Traceback" not in refused.stderr


GOLDEN = REPOSITORY / "tests" / "build" / "golden"


def golden(repository: Path) -> dict[str, str]:
    """Configs and the plan of a repository, by path."""
    return {
        path.relative_to(repository).as_posix(): path.read_text()
        for path in sorted(repository.rglob("*"))
        if path.suffix == ".json" or (path.suffix == ".pbtxt" and not path.parent.name.isdecimal())  # there a copy, for rollbacks
    }


def new_texts(folder: Path) -> dict[str, str]:
    """What a build of the ranker writes now, without this run's paths."""
    source = onnx_file(folder, RANKER, ARRAYS)
    settings = {"partition": write_partition(folder / "p.json", SHARDS), "build_id": "golden", "embedding_runtime": "onnxruntime"}
    build = build_of(source, folder / "models", name="ranker", **settings)
    return {name: text.replace(build.plan.source.spec, "ranker.onnx") for name, text in golden(build.repository).items()}


def test_the_files_of_a_sharded_build_are_as_they_were(tmp_path: Path) -> None:
    assert new_texts(tmp_path) == golden(GOLDEN), "output moved: python -m tests.build.test_sharded rewrites it; commit it with the change"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary_folder:
        for name, text in new_texts(Path(temporary_folder)).items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(text)
