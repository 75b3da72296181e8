"""`recsplit route`: writing a router, changing a running one, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import recsplit
from recsplit.cli import cli
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.serving import serve
from tests.routing.test_served import queries

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routes") / "models"
    recsplit.build("recsplit.zoo.tiny:dlrm", out=folder, name="exact", search_s=0, max_batch_size=64)
    recsplit.build("recsplit.zoo.tiny:dlrm", out=folder, name="small", search_s=0, table_dtype=("int8",))
    return folder


def run(repository: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["route", str(repository), *arguments])


def test_it_is_written_shown_served_and_changed_while_it_runs(repository: Path) -> None:
    made = run(repository, "--name", "shop", "--to", "exact", "--to", "small", "--share", "exact=3", "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["version"] == 1 and [variant["split_rows"] for variant in told["routing"]["variants"]] == [64, 2048]
    shown = run(repository)
    assert shown.exit_code == 0 and "75 %" in shown.stdout and "exact" in shown.stdout
    again = run(repository, "--large", "100=small", "--deadline-ms", "500")
    assert again.exit_code == 0 and "shop version 2 is in" in again.stdout and "from 100 rows" in again.stdout
    with serve(repository, models=["shop"]) as server, Client(server.grpc_url, "shop") as shop:
        for number in range(8):
            shop.infer(queries(3, number))
        shop.infer(queries(150))
        counts = json.loads(run(repository, "--running", "--json").stdout)["variants"]
        assert [one["queries"] for one in counts] == [6, 3] and counts[1]["parts"] == 3
        changed = run(repository, "--running", "--share", "exact=0")
        assert changed.exit_code == 0 and "Refused: 0 too late" in changed.stdout
        for number in range(4):
            shop.infer(queries(3, number))
        running = json.loads(run(repository, "--running", "--json").stdout)
        assert [one["queries"] for one in running["variants"]] == [6, 7]
        # What was said before stays, and nothing of it is on the disk.
        assert running["settings"]["large_rows"] == 100
        assert json.loads(run(repository, "--json").stdout)["routing"]["variants"][0]["weight"] == 3.0
    assert sorted(path.name for path in (repository / "shop").iterdir()) == ["2", "config.pbtxt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "none"), "holds no ensemble 'none'"),
        (("--to", "a=b=c"), "can't be read"),
        (("--to", "exact@nowhere"), "can't be read"),
        (("--to", "exact", "--share", "small=1"), "no such variant"),
        (("--to", "exact", "--share", "exact=0"), "no variant has a weight above 0"),
        (("--to", "exact", "--share", "exact=-1"), "that is no number"),
        (("--to", "exact", "--share", "exact"), "--share 'exact' can't be read"),
        (("--to", "exact", "--large", "many=exact"), "can't be read"),
        (("--to", "exact", "--large", "10=small"), "is no variant"),
        (("--to", "exact", "--to", "exact"), "twice"),
        (("--grpc-url", "127.0.0.1:1"), "--grpc-url goes with --running"),
        (("--running", "--grpc-url", "127.0.0.1:1"), "no server of yours on this machine is at"),
    ],
)
def test_what_cant_be_is_refused(repository: Path, arguments: tuple[str, ...], message: str) -> None:
    run(repository, "--name", "other", "--to", "exact")
    result = run(repository, "--name", "other", *arguments)
    assert isinstance(result.exception, InputError) and message in str(result.exception), result.exception


def test_names_of_others_stay_theirs(repository: Path, tmp_path: Path) -> None:
    taken = run(repository, "--name", "small", "--to", "exact")
    assert isinstance(taken.exception, InputError) and "is another ensemble" in str(taken.exception)
    nothing = run(tmp_path)
    assert isinstance(nothing.exception, InputError) and "holds no router" in str(nothing.exception)
    assert isinstance(run(repository, "--name", "shoes").exception, InputError)
