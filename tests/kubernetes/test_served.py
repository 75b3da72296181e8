"""What the pods are given serves, and every query of an autoscaler gives a number on a real Prometheus."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.kubernetes import queries, rendering
from recsplit.kubernetes.check import objects
from recsplit.repository.find import find
from recsplit.serving import Server, ports, serve, triton
from tests.conftest import Run
from tests.kubernetes import prometheus
from tests.kubernetes.pods import arrange, ask
from tests.remote import sharded

GROUPS = ("front", "shard-0", "shard-1")
NAMESPACE = "shop-dev"


@dataclass(frozen=True)
class Rendered:
    """A build, its manifests, and the folder that each group's server reads."""

    repository: Path
    manifests: Path
    models: dict[str, Path]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("kubernetes")
    sharded.write(folder / "models")
    published_build = find(folder / "models")
    prepared = rendering.prepare(published_build, folder / "k8s", rendering.Known(p95_bound_ms=50))
    values = dataclasses.replace(
        prepared.values, autoscaler="keda", shards=tuple(dataclasses.replace(shard, max_qps=100.0) for shard in prepared.values.shards)
    )
    rendering.render(dataclasses.replace(prepared, values=values))
    models = {group: folder / "pods" / group for group in GROUPS}
    for group, path in models.items():
        path.mkdir(parents=True)
        done = arrange(folder / "models", folder / "k8s", group, path)
        assert done.returncode == 0, done.stderr
    return Rendered(folder / "models", folder / "k8s", models)


@pytest.fixture(scope="module")
def servers(rendered: Rendered) -> Iterator[dict[str, Server]]:
    """One server a group, the front with the shards' addresses on this machine in place of their Services' names."""
    servers_by_group: dict[str, Server] = {}
    try:
        for group in reversed(GROUPS):
            if group == "front":
                for number in range(2):
                    config = rendered.models["front"] / f"shop_embedding_{number}" / "config.pbtxt"
                    text = config.read_text()
                    (name,) = re.findall(r"shop-shard-\d-\w{8}:8001", text)
                    config.write_text(text.replace(name, servers_by_group[f"shard-{number}"].grpc_url))
            servers_by_group[group] = serve(
                rendered.models[group], models=["shop"] if group == "front" else [f"shop_embedding_{group[-1]}"]
            )
        yield servers_by_group
    finally:
        for server in servers_by_group.values():
            server.stop()


def test_a_file_that_changed_keeps_the_pod_from_starting(rendered: Rendered, tmp_path: Path) -> None:
    source = shutil.copytree(rendered.repository, tmp_path / "models")
    with (source / "shop_embedding_1/1/model.onnx").open("r+b") as file:
        file.write(b"\0")
    (tmp_path / "pod").mkdir()
    done = arrange(source, rendered.manifests, "shard-1", tmp_path / "pod")
    assert done.returncode == 1 and "is not the build that these manifests were rendered from" in done.stderr
    assert "shop_embedding_1/1/model.onnx: FAILED" in done.stdout and not list((tmp_path / "pod").iterdir())
    # The others don't need that file.
    for group in ("front", "shard-0"):
        (tmp_path / group).mkdir()
        assert arrange(source, rendered.manifests, group, tmp_path / group).returncode == 0


def test_it_may_be_arranged_again_where_it_was_interrupted(rendered: Rendered, tmp_path: Path) -> None:
    for _ in range(2):
        assert arrange(rendered.repository, rendered.manifests, "front", tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shop",
        "shop_dense",
        "shop_embedding",
        "shop_embedding_0",
        "shop_embedding_1",
    ]


def test_front_and_shards_answer_as_one(servers: dict[str, Server]) -> None:
    assert ask(servers["front"], 0.5)[0] > 0


def test_triton_takes_the_arguments_of_a_pod_and_lets_nobody_unload_a_model(rendered: Rendered, tmp_path: Path) -> None:
    objects_by_kind = {item["kind"]: item for item in objects((rendered.manifests / "base/shard-0.yaml").read_text())}
    (container,) = objects_by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tritonserver"] and "--model-repository=/models" in container["args"]
    chosen = ports.choose("127.0.0.1", {"HTTP": None, "gRPC": None, "metrics": None})
    here: dict[str, object] = {
        "model-repository": rendered.models["shard-0"],
        "backend-directory": triton.prepare_backends(triton.find(), tmp_path, None),
    }
    here |= {f"{kind.lower()}-{key}": value for kind, port in chosen.items() for key, value in (("port", port), ("address", "127.0.0.1"))}
    arguments = [argument for argument in container["args"] if not argument.startswith("--model-repository=")]
    arguments += [f"--{key}={value}" for key, value in here.items()]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [triton.find().binary, *arguments], env=triton.environment(triton.find()), cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{chosen['HTTP']}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            wait_until_it_answers(url + container[probe]["httpGet"]["path"], process)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(urllib.request.Request(f"{url}/v2/repository/models/shop_embedding_0/unload", data=b"{}"), timeout=10)
    finally:
        process.terminate()
        process.wait(60)


def wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # refused, or 400 while models load
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)


def expand(query: str, matchers: dict[str, str], by: str) -> str:
    """The adapter's template filled in, as it does for one request."""
    return query.replace("<<.LabelMatchers>>", queries.matchers(**matchers)).replace("<<.GroupBy>>", by)


def pod_labels(rendered: Rendered, group: str) -> dict[str, str]:
    """The labels that a series of this group's pods has, by its PodMonitor."""
    objects_by_kind = {item["kind"]: item for item in objects((rendered.manifests / "base" / f"{group}.yaml").read_text())}
    labels = objects_by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    kept = {queries.series_label(key): labels[key] for key in objects_by_kind["PodMonitor"]["spec"]["podTargetLabels"]}
    return {"namespace": NAMESPACE, "pod": f"shop-{group}-abc", **kept}


def autoscaler(rendered: Rendered, group: str) -> Any:
    objects_by_kind = {item["kind"]: item for item in objects((rendered.manifests / "base" / f"{group}.yaml").read_text())}
    return objects_by_kind["HorizontalPodAutoscaler"]["spec"]["metrics"][0]


def rule(rendered: Rendered, kind: str) -> dict[str, Any]:
    (adapter_rule,) = yaml.safe_load((rendered.manifests / "prometheus-adapter/config.yaml").read_text())[kind]
    assert isinstance(adapter_rule, dict)
    return adapter_rule


@pytest.mark.slow
@pytest.mark.skipif(prometheus.BINARY is None, reason="prometheus is not installed (Debian's package of that name)")
def test_every_query_gives_the_right_number_on_a_real_prometheus(rendered: Rendered, servers: dict[str, Server], tmp_path: Path) -> None:
    addresses = {address_of(server): group for group, server in servers.items()}
    targets = {address: pod_labels(rendered, group) for address, group in addresses.items()}
    with (
        serve(rendered.models["shard-0"], models=["shop_embedding_0"]) as idle,
        prometheus.running(tmp_path, targets | {address_of(idle): pod_labels(rendered, "shard-0") | {"pod": "idle"}}) as monitor,
    ):
        asked, slowest_ms = ask(servers["front"], 8)
        time.sleep(2)  # the last ones are scraped

        p95, offered = rule(rendered, "rules"), rule(rendered, "externalRules")
        for known in (p95, offered):
            assert monitor.get("series", **{"match[]": known["seriesQuery"]})

        front = autoscaler(rendered, "front")["pods"]
        pods = {"namespace": NAMESPACE, "model": front["metric"]["selector"]["matchLabels"]["model"]}
        p95_query = expand(p95["metricsQuery"], pods, "pod")
        ((labels, p95_ms),) = monitor.query(p95_query)
        assert labels == {"pod": "shop-front-abc"} and 0 < p95_ms <= slowest_ms

        # A pod without requests has a summary of NaN, which is 0 ms.
        chosen = {"namespace": NAMESPACE, "pod": "idle"}
        ((_, raw),) = monitor.query(f'{queries.SUMMARY}{{{queries.matchers(**chosen)},quantile="0.95"}}')
        assert math.isnan(raw) and monitor.query(expand(p95["metricsQuery"], chosen, "pod")) == [({"pod": "idle"}, 0)]

        for group in ("shard-0", "shard-1"):
            external = autoscaler(rendered, group)["external"]
            query = expand(offered["metricsQuery"], {"namespace": NAMESPACE, **external["metric"]["selector"]["matchLabels"]}, "namespace")
            # All of them were sent within the window, and the rate is that over the whole window, but for half a scrape at either end.
            assert monitor.number(query) == pytest.approx(asked / queries.WINDOW_S, rel=0.2)

        for trigger in triggers(rendered):
            assert monitor.number(trigger["query"]) > 0
            assert monitor.number(trigger["query"].replace('namespace="shop-dev"', 'namespace="shop-prod"') + " or vector(-1)") in (-1, 0)

        # A shard that has stopped counts nothing more itself; what is offered to it is still counted, here as successes of the stand-in:
        # Triton 2.51 takes every request for one that is answered by a response sender, errors too.
        servers["shard-1"].stop()
        external = autoscaler(rendered, "shard-1")["external"]["metric"]["selector"]["matchLabels"]
        offers = queries.matchers(namespace=NAMESPACE, app_kubernetes_io_component="front", **external)
        counted = f"sum({queries.SUCCESSES}{{{offers}}}) + sum({queries.FAILURES}{{{offers}}})"
        before = monitor.number(counted)
        with Client(servers["front"].grpc_url, "shop") as client:
            for _ in range(20):
                with pytest.raises(ServerError):
                    client.infer({"ids": np.full((3, 4), sharded.ROWS - 1)})
        time.sleep(2)
        assert monitor.number(counted) >= before + 20


def address_of(server: Server) -> str:
    """Where Prometheus scrapes a server."""
    return server.metrics_url.removeprefix("http://").removesuffix("/metrics")


def triggers(rendered: Rendered) -> list[dict[str, str]]:
    """What KEDA asks, in the overlay for development."""
    text = (rendered.manifests / "overlays/dev/keda/scaledobjects.yaml").read_text()
    return [item["spec"]["triggers"][0]["metadata"] for item in objects(text)]


def test_the_command_renders_a_build_and_renders_it_again_from_its_values(run_here: Run, rendered: Rendered, tmp_path: Path) -> None:
    target = tmp_path / "k8s"
    first = run_here("render", "kubernetes", rendered.repository, "-o", target, "--p95-bound-ms", "50", "--json")
    assert first.returncode == 0, first.stderr
    shown = json.loads(first.stdout)
    assert [group["name"] for group in shown["groups"]] == list(GROUPS)
    assert shown["warnings"] == [f"nothing scales shard-{k}: set max_qps of shop_embedding_{k} in values.yaml" for k in (0, 1)]
    values = target / "values.yaml"
    values.write_text(values.read_text().replace("max_qps: null", "max_qps: 250"))
    again = run_here("render", "kubernetes", rendered.repository, "-o", target)
    assert again.returncode == 0 and "Note" not in again.stderr and "250" not in first.stdout
    assert 'averageValue: "200"' in (target / "base/shard-0.yaml").read_text()
    assert "max_qps: 250" in values.read_text()
    values.write_text(values.read_text().replace("hedge_ms: 0", "hedge_ms: 30"))
    assert run_here("render", "kubernetes", rendered.repository, "-o", target).returncode == 0
    assert '\\"hedge_ms\\": 30' in (target / "base/front/shop_embedding_0.pbtxt").read_text()
    refused = run_here("render", "kubernetes", rendered.repository, "-o", target, "--p95-bound-ms", "60")
    assert refused.returncode == 2 and "values.yaml exists, and it decides" in refused.stderr
    foreign = run_here("render", "kubernetes", rendered.repository, "-o", rendered.repository)
    assert foreign.returncode == 2 and "which recsplit didn't write" in foreign.stderr
