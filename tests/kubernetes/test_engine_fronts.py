"""Where the image has the engine, the pods of a front serve one model of it, and ask the shards' pods over HTTP."""

import dataclasses
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsplit.engine.compilation import unavailable
from recsplit.kubernetes import queries, rendering
from recsplit.kubernetes.check import objects
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from tests.kubernetes.pods import arrange, ask
from tests.remote import engine_fleet
from tests.waiting import until

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

SHARDS = ("shard-0", "shard-1")


@dataclass(frozen=True)
class Rendered:
    """A build for the engine, its manifests, and the folder that the front's server reads."""

    repository: Path
    manifests: Path
    front: Path


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("kubernetes")
    repository = engine_fleet.write(folder)
    prepared = rendering.prepare(find(repository), folder / "k8s", rendering.Known(p95_bound_ms=50))
    rendering.render(dataclasses.replace(prepared, values=dataclasses.replace(prepared.values, engine=True)))
    front = folder / "front"
    front.mkdir()
    done = arrange(repository, folder / "k8s", "front", front)
    assert done.returncode == 0, done.stderr
    return Rendered(repository, folder / "k8s", front)


@pytest.fixture
def front(rendered: Rendered, tmp_path: Path) -> Iterator[Server]:
    """A front that asks two shards, at their addresses on this machine in place of their Services' names."""
    with ExitStack() as stack:
        recipe = rendered.front / "shop/1/engine.json"
        text = recipe.read_text()
        for number, group in enumerate(SHARDS):
            (tmp_path / group).mkdir()
            assert arrange(rendered.repository, rendered.manifests, group, tmp_path / group).returncode == 0
            shard = stack.enter_context(serve(tmp_path / group, models=[f"shop_embedding_{number}"]))
            (name,) = json.loads(text)["front"]["remote"]["shards"][number]["replicas"]
            assert name.startswith(f"shop-{group}-") and name.endswith(":8000")
            text = text.replace(name, shard.http_url)
        recipe.write_text(text)
        yield stack.enter_context(serve(rendered.front, models=["shop"]))


def test_a_front_of_one_model_answers_and_tells_what_it_offers_its_shards(front: Server) -> None:
    asked, _ = ask(front, 0.5)
    series = f'{queries.REQUESTS}{{model="shop_embedding_1",version="1"}} {asked}\n'

    def page() -> str:
        return str(urllib.request.urlopen(front.metrics_url, timeout=30).read(), "utf-8")

    until(lambda: series in page(), lambda: f"{series} in {page()}")


def test_the_controller_watches_the_one_model_that_there_is(rendered: Rendered, tmp_path: Path) -> None:
    prepared = rendering.prepare(find(rendered.repository), tmp_path / "k8s", rendering.Known())
    for engine, watched in ((True, "shop"), (False, "shop_dense")):
        rendering.render(dataclasses.replace(prepared, values=dataclasses.replace(prepared.values, engine=engine)))
        text = (tmp_path / "k8s/overlays/dev/controller/settings.toml").read_text()
        assert next(line for line in text.splitlines() if line.startswith("model = ")) == f'model = "{watched}"'


def test_nothing_of_python_is_left_in_its_pods(rendered: Rendered) -> None:
    texts = {path.name: path.read_text() for path in (rendered.manifests / "base").glob("*.yaml")}
    (deployment,) = [item for item in objects(texts["front.yaml"]) if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["plan", "source", "models", "tmp", "shm"]
    assert not (rendered.manifests / "base/remote").exists() and "remote" not in texts["kustomization.yaml"]
    assert (rendered.manifests / "base/front/models").read_text() == "shop 1 engine shop_embedding shop_dense\n"
