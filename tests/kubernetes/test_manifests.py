"""Whatever a plan holds, its manifests pass the schemas of three Kubernetes versions and fit together."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsplit.errors import InputError, RecsplitError
from recsplit.kubernetes.check import check, objects
from recsplit.kubernetes.manifests import addresses, render
from recsplit.kubernetes.values import Delivery, Values
from recsplit.plan.plan import Location, Plan
from tests.configs.plans import shop
from tests.configs.test_any_plan import plans
from tests.kubernetes.rendered import BACKEND, BUILD, files_of, partitioned, sharded, values_of

#: The last three minor versions, and the kinds that are not Kubernetes' own.
VERSIONS = ("1.35", "1.36", "1.37")
OTHERS = {"PodMonitor", "ScaledObject", "Kustomization", "Component"}


def rendered(plan: Plan, values: Values | None = None) -> dict[str, str]:
    return render(plan, values_of(plan) if values is None else values, files_of(plan), {}, BACKEND)


def all_objects(texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for path, text in texts.items():
        if path.endswith(".yaml") and not path.startswith("prometheus-adapter/"):
            yield from ((path, item) for item in objects(text))


def one(texts: dict[str, str], kind: str, name: str) -> Any:
    (manifest,) = [
        item for path, item in all_objects(texts) if path.startswith("base/") and item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return manifest


@st.composite
def partitioned_plans(draw: st.DrawFn) -> Plan:
    plan = draw(plans())
    name = draw(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,38}[A-Za-z0-9])?", fullmatch=True))
    renamed = dataclasses.replace(
        plan,
        name=name,
        embedding=dataclasses.replace(plan.embedding, name=f"{name}_embedding"),
        dense=dataclasses.replace(plan.dense, name=f"{name}_dense"),
    )
    place: st.SearchStrategy[Location] = st.sampled_from(("front", "own"))
    return partitioned(renamed, *draw(st.lists(place, max_size=5)), replicas=draw(st.integers(1, 40)))


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    partitioned_plans(),
    st.none() | st.floats(0.01, 1e5),
    st.none() | st.floats(0.01, 1e7),
    st.sampled_from(("hpa", "keda")),
    st.sampled_from(("volume", "objects")),
    st.sampled_from(VERSIONS),
)
def test_any_plan_renders_to_objects_that_are_valid_and_fit(
    plan: Plan, bound: float | None, qps: float | None, autoscaler: str, kind: str, version: str
) -> None:
    values = values_of(plan, p95_bound_ms=bound, max_qps=qps)
    delivery = Delivery(kind, "models", "a/b", ":s3:bucket/models", "rclone/rclone:1.69", "store")  # type: ignore[arg-type]
    texts = rendered(plan, dataclasses.replace(values, autoscaler=autoscaler, delivery=delivery))  # type: ignore[arg-type]
    check(texts)
    for path, item in all_objects(texts):
        if item["kind"] not in OTHERS:
            kubernetes_validate.validate(item, version, strict=True)
        assert item["kind"] != "Secret", path


def test_the_front_has_what_is_not_elsewhere_and_a_shard_only_itself() -> None:
    texts = rendered(sharded())
    assert texts["base/front/models"].splitlines() == [
        "shop 1 files",
        "shop_embedding 1 files",
        "shop_embedding_0 1 files",
        "shop_dense 1 files",
        "shop_embedding_1 1 none",
        "shop_embedding_2 1 none",
    ]
    assert texts["base/shard-1/models"] == "shop_embedding_1 1 files\n"
    assert "shop_embedding_1" not in texts["base/front/checksums"]
    assert texts["base/shard-1/checksums"] == f"{'0' * 64}  shop_embedding_1/config.pbtxt\n"


def test_the_front_finds_a_shard_by_its_headless_service() -> None:
    texts = rendered(sharded())
    for model, name in addresses(sharded(), values_of(sharded())).items():
        spec = one(texts, "Service", name)["spec"]
        assert spec["clusterIP"] == "None"
        assert {entry["name"]: entry["port"] for entry in spec["ports"]} == {"http": 8000, "grpc": 8001}
        assert f"{model} 1 files" in texts[f"base/{name.removeprefix('shop-').removesuffix('-' + BUILD)}/models"]


def test_the_front_scales_at_65_percent_of_the_bound_and_a_shard_below_its_maximum() -> None:
    texts = rendered(sharded())
    front = one(texts, "HorizontalPodAutoscaler", f"shop-front-{BUILD}")["spec"]["metrics"][0]["pods"]
    assert (front["target"]["averageValue"], front["metric"]["selector"]["matchLabels"]["model"]) == ("16250m", "shop")
    shard = one(texts, "HorizontalPodAutoscaler", f"shop-shard-1-{BUILD}")["spec"]["metrics"][0]["external"]
    assert (shard["target"]["averageValue"], shard["metric"]["selector"]["matchLabels"]["model"]) == ("96", "shop_embedding_1")


def test_a_group_that_nothing_scales_has_a_number_of_replicas_in_each_overlay() -> None:
    texts = rendered(sharded(), values_of(sharded(), p95_bound_ms=None, max_qps=None))
    assert one(texts, "Deployment", f"shop-shard-1-{BUILD}")["spec"]["replicas"] == 2
    assert not [item for _, item in all_objects(texts) if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    patches = yaml.safe_load(texts["overlays/prod/kustomization.yaml"])["patches"]
    assert {"op": "replace", "path": "/spec/replicas", "value": 2} in yaml.safe_load(patches[0]["patch"])


def test_only_front_servers_reach_a_shard_and_only_prometheus_its_metrics() -> None:
    spec = one(rendered(sharded()), "NetworkPolicy", f"shop-shard-1-{BUILD}")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    grpc, metrics = spec["ingress"]
    assert [port["port"] for port in grpc["ports"]] == ["grpc"]
    assert grpc["from"] == [
        {
            "podSelector": {
                "matchLabels": {
                    "app.kubernetes.io/instance": "shop",
                    "app.kubernetes.io/component": "front",
                    "app.kubernetes.io/version": BUILD,
                }
            }
        }
    ]
    assert [port["port"] for port in metrics["ports"]] == ["metrics"]
    (peer,) = metrics["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}


def test_pods_have_no_token_no_root_and_nothing_to_write_but_tmp_and_shared_memory() -> None:
    texts = rendered(sharded())
    for name in ("front", "shard-1", "shard-2"):
        pod = one(texts, "Deployment", f"shop-{name}-{BUILD}")["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        (server,) = pod["containers"]
        assert {mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")} == {"/tmp", "/dev/shm"}
        memory = {volume["name"]: volume.get("emptyDir", {}).get("medium") for volume in pod["volumes"]}
        assert memory["shm"] == "Memory"


def test_a_gpu_is_asked_for_where_the_dense_model_is() -> None:
    plan = sharded()
    plan = dataclasses.replace(plan, dense=dataclasses.replace(plan.dense, kind="gpu"))
    texts = rendered(plan)
    limits = {
        name: one(texts, "Deployment", f"shop-{name}-{BUILD}")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name in ("front", "shard-1")
    }
    assert limits["front"]["nvidia.com/gpu"] == "1" and "nvidia.com/gpu" not in limits["shard-1"]


def test_two_builds_of_shards_stand_side_by_side_and_share_only_what_clients_see() -> None:
    def named(build: str) -> dict[tuple[str, str], Any]:
        plan = dataclasses.replace(sharded(), build=build)
        base = [item for path, item in all_objects(rendered(plan)) if path.startswith("base/") and item["kind"] != "Kustomization"]
        return {(item["kind"], item["metadata"]["name"]): item for item in base}

    one_build, other = named("a" * 16), named("b" * 16)
    assert one_build.keys() & other.keys() == {("Service", "shop"), ("ServiceAccount", "shop")}
    assert all(one_build[key] == other[key] for key in one_build.keys() & other.keys())
    # Nothing of one build chooses pods of the other, and nothing that clients need is deleted with a build.
    for (kind, name), item in one_build.items():
        assert ("app.kubernetes.io/version" in item["metadata"]["labels"]) == (name != "shop")
        if kind == "Deployment":
            assert item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/version"] == "aaaaaaaa"


def test_a_build_without_shards_elsewhere_takes_the_place_of_the_one_before() -> None:
    renderings = [render(shop(build=build), values_of(shop()), files_of(shop()), {}, BACKEND) for build in ("a" * 16, "b" * 16)]
    one_build, other = (one(texts, "Deployment", "shop-front") for texts in renderings)
    assert one_build["spec"]["selector"] == other["spec"]["selector"]
    assert one_build["spec"]["template"] != other["spec"]["template"]
    assert "base/remote/model.py" not in renderings[0]


def test_values_of_other_shards_are_refused() -> None:
    with pytest.raises(InputError, match="for the shards none, and the build has shop_embedding_1, shop_embedding_2 on own"):
        rendered(sharded(), values_of(shop()))


@pytest.mark.parametrize("name", ["s" * 64, "shop-", "shop."])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="can't be a label"):
        rendered(shop(name=name))


MISFITS = {
    "its selector doesn't choose its own pods": (
        "base/shard-1.yaml",
        "component: shard-1\n      app.kubernetes.io/version: 0f5e0f5e\n  strategy",
        "component: shard-3\n  strategy",
    ),
    "chooses the pods of 0 Deployments": (
        "base/shard-1.yaml",
        "component: shard-1\n    app.kubernetes.io/version: 0f5e0f5e\n  ports",
        "component: shard-9\n  ports",
    ),
    "has no port 'grcp'": ("base/shard-1.yaml", "targetPort: grpc", "targetPort: grcp"),
    "asks a port that it hasn't": ("base/front.yaml", "port: http\n            periodSeconds", "port: htpt\n            periodSeconds"),
    "scales a Deployment that doesn't exist": ("base/front.yaml", 'Deployment\n    name: "shop-front', 'Deployment\n    name: "shop-back'),
    "the adapter has no rule for recsplit_p95": ("base/front.yaml", "name: recsplit_p95_ms", "name: recsplit_p95"),
    "there is no ConfigMap": ("base/front.yaml", '-plan"', '-plans"'),
    "there is no ServiceAccount": ("base/account.yaml", 'name: "shop"', 'name: "shops"'),
    "may do more than it needs": ("base/front.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    "may write to /models": ("base/front.yaml", "mountPath: /models\n              readOnly: true", "mountPath: /models"),
    "mounts 'scratch', which is no volume": (
        "base/front.yaml",
        "- name: tmp\n              mountPath",
        "- name: scratch\n              mountPath",
    ),
    "there is no shard-7.yaml": ("base/kustomization.yaml", "shard-1.yaml", "shard-7.yaml"),
    "its pods get a token": ("base/shard-2.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true"),
    "a Secret is never rendered": ("overlays/dev/namespace.yaml", "kind: Namespace", "kind: Secret"),
    "is no DNS label": ("base/account.yaml", 'name: "shop"', 'name: "Shop"'),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_told(misfit: str) -> None:
    texts = rendered(sharded())
    check(texts)
    path, before, after = MISFITS[misfit]
    assert before in texts[path]
    with pytest.raises(RecsplitError) as caught:
        check(texts | {path: texts[path].replace(before, after, 1)})
    assert misfit in caught.value.detail
