"""What rendered manifests must be true of together, beyond each one's schema: checked before anything is written.

Names, labels and selectors, ports, volumes, the targets of autoscalers and their metrics, and what pods may do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from recsplit.errors import RecsplitError

Object = Mapping[str, Any]

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
#: A running pod needs no other folder to be written.
_MAY_WRITE = {"/tmp", "/dev/shm"}


def check(texts: Mapping[str, str]) -> None:
    """Check everything that `manifests.render` gives. Raises RecsplitError that lists all that is wrong."""
    problems = list(_all_problems(texts))
    if problems:
        raise RecsplitError(
            "the rendered manifests don't fit together: this is a bug in recsplit", hint="report it", detail="\n".join(problems)
        )


def objects(text: str) -> list[Object]:
    """The documents of a YAML text."""
    return [item for item in yaml.safe_load_all(text) if item is not None]


def _all_problems(texts: Mapping[str, str]) -> Iterator[str]:
    parsed: dict[str, list[Object]] = {}
    for path, text in texts.items():
        if path.endswith(".yaml"):
            try:
                parsed[path] = objects(text)
            except yaml.YAMLError as error:
                yield f"{path}: {error}"
    rules = parsed.get("prometheus-adapter/config.yaml", [{}])[0]
    metrics = {(kind, rule["name"]["as"]) for kind in ("rules", "externalRules") for rule in rules.get(kind, ())}
    yield from _kustomizations(texts, parsed)
    base = [item for path in parsed for item in parsed[path] if path.startswith("base/") and not path.endswith("kustomization.yaml")]
    kustomization = parsed.get("base/kustomization.yaml", [{}])[0]
    maps = {generated["name"]: generated["files"] for generated in kustomization.get("configMapGenerator", ())}
    yield from problems(base, maps, metrics)
    deployments = {item["metadata"]["name"] for item in base if item["kind"] == "Deployment"}
    for path, items in parsed.items():
        for item in items:
            if item.get("kind") == "ScaledObject" and item["spec"]["scaleTargetRef"]["name"] not in deployments:
                yield f"{path}: {item['metadata']['name']} scales a Deployment that doesn't exist"
            if item.get("kind") == "Secret":
                yield f"{path}: a Secret is never rendered"


def problems(environment_objects: Sequence[Object], maps: Mapping[str, Sequence[str]], metrics: set[tuple[str, str]]) -> Iterator[str]:
    """What is wrong among the objects of one environment.

    `maps`: the ConfigMaps that kustomize makes, with the files in each; `metrics`: ("rules" or "externalRules", name) that the
    adapter offers.
    """
    seen: set[tuple[str, str]] = set()
    for item in environment_objects:
        kind, name = item["kind"], item["metadata"]["name"]
        if (kind, name) in seen:
            yield f"{kind} {name} exists twice"
        seen.add((kind, name))
        if not _DNS_LABEL.fullmatch(name):
            yield f"{kind} {name}: the name is no DNS label"
        for key, value in item["metadata"].get("labels", {}).items():
            if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
                yield f"{kind} {name}: {key}={value!r} is no label"
    deployments = [item for item in environment_objects if item["kind"] == "Deployment"]
    for item in environment_objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        spec = item.get("spec", {})
        if item["kind"] == "Deployment":
            yield from _deployment(where, item, maps, seen)
        elif item["kind"] == "Service":
            pods = _chosen(deployments, spec["selector"])
            yield from _one_group(where, pods)
            yield from _ports(where, pods, [port["targetPort"] for port in spec["ports"]])
        elif item["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            pods = _chosen(deployments, spec["selector"]["matchLabels"])
            yield from _one_group(where, pods)
            yield from _ports(where, pods, [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", ())])
        elif item["kind"] == "NetworkPolicy":
            yield from _policy(where, spec, deployments)
        elif item["kind"] == "HorizontalPodAutoscaler":
            yield from _autoscaler(where, spec, deployments, metrics)
    for deployment in deployments:
        name = deployment["metadata"]["name"]
        for kind in ("Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
            if (kind, name) not in seen:
                yield f"Deployment {name} has no {kind}"


def _chosen(deployments: Sequence[Object], selector: Mapping[str, str]) -> list[Object]:
    """The Deployments whose pods a selector chooses."""
    return [item for item in deployments if selector.items() <= item["spec"]["template"]["metadata"]["labels"].items()]


def _one_group(where: str, pods: Sequence[Object]) -> Iterator[str]:
    if len(pods) != 1:
        yield f"{where}: its selector chooses the pods of {len(pods)} Deployments, not of one"


def _ports(where: str, pods: Sequence[Object], names: Sequence[Any]) -> Iterator[str]:
    for pod in pods:
        offered = {port["name"] for container in _containers(pod) for port in container.get("ports", ())}
        for name in names:
            if name not in offered:
                yield f"{where}: {pod['metadata']['name']} has no port {name!r}"


def _containers(deployment: Object) -> list[Any]:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(containers, list)
    return containers


def _deployment(where: str, item: Object, maps: Mapping[str, Sequence[str]], seen: set[tuple[str, str]]) -> Iterator[str]:
    spec, pod = item["spec"], item["spec"]["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        yield f"{where}: its selector doesn't choose its own pods"
    for constraint in pod["topologySpreadConstraints"]:
        if not constraint["labelSelector"]["matchLabels"].items() <= labels.items():
            yield f"{where}: spreads pods that aren't its own"
    if ("ServiceAccount", pod["serviceAccountName"]) not in seen:
        yield f"{where}: there is no ServiceAccount {pod['serviceAccountName']}"
    if pod["automountServiceAccountToken"] or not pod["securityContext"]["runAsNonRoot"] or pod["securityContext"]["runAsUser"] < 1:
        yield f"{where}: its pods get a token, or run as root"
    if pod["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault":
        yield f"{where}: no seccomp profile"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    used = set[str]()
    for container in (*pod["initContainers"], *pod["containers"]):
        here = f"{where}, container {container['name']}"
        context = container["securityContext"]
        if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"] or context["capabilities"] != {"drop": ["ALL"]}:
            yield f"{here}: may do more than it needs"
        names = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in names:
                yield f"{here}: {probe} asks a port that it hasn't"
        for mount in container["volumeMounts"]:
            used.add(mount["name"])
            if mount["name"] not in volumes:
                yield f"{here}: mounts {mount['name']!r}, which is no volume"
            if container in pod["containers"] and not mount.get("readOnly") and mount["mountPath"] not in _MAY_WRITE:
                yield f"{here}: may write to {mount['mountPath']}"
    if unused := volumes.keys() - used:
        yield f"{where}: nobody mounts {sorted(unused)}"
    for volume in volumes.values():
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            yield f"{where}: there is no ConfigMap {volume['configMap']['name']}"


def _policy(where: str, spec: Object, deployments: Sequence[Object]) -> Iterator[str]:
    pods = _chosen(deployments, spec["podSelector"]["matchLabels"])
    yield from _one_group(where, pods)
    for rule in spec["ingress"]:
        yield from _ports(where, pods, [port["port"] for port in rule["ports"]])
        for peer in rule.get("from", ()):
            if "namespaceSelector" not in peer:
                yield from _one_group(where, _chosen(deployments, peer["podSelector"]["matchLabels"]))


def _autoscaler(where: str, spec: Object, deployments: Sequence[Object], metrics: set[tuple[str, str]]) -> Iterator[str]:
    target = [item for item in deployments if item["metadata"]["name"] == spec["scaleTargetRef"]["name"]]
    if not target:
        yield f"{where}: scales a Deployment that doesn't exist"
    elif "replicas" in target[0]["spec"]:
        yield f"{where}: an apply would set the replicas of its Deployment back"
    if not 1 <= spec["minReplicas"] <= spec["maxReplicas"]:
        yield f"{where}: {spec['minReplicas']} to {spec['maxReplicas']} replicas"
    for metric in spec["metrics"]:
        kind, source = ("rules", metric["pods"]) if metric["type"] == "Pods" else ("externalRules", metric["external"])
        if (kind, source["metric"]["name"]) not in metrics:
            yield f"{where}: the adapter has no rule for {source['metric']['name']}"
        for value in source["metric"]["selector"]["matchLabels"].values():
            if not _LABEL_VALUE.fullmatch(value):
                yield f"{where}: selects the metric by {value!r}, which is no label"


def _kustomizations(texts: Mapping[str, str], parsed: Mapping[str, Sequence[Object]]) -> Iterator[str]:
    """Do they name files that are there, and is every file named?"""
    named = set[str]()
    for path, items in parsed.items():
        if not path.endswith("kustomization.yaml"):
            continue
        folder = path.rsplit("/", 1)[0]
        generated = [file for config_map in items[0].get("configMapGenerator", ()) for file in config_map["files"]]
        for entry in (*items[0].get("resources", ()), *items[0].get("components", ()), *generated):
            target = _joined(folder, entry)
            file = target if target in texts else f"{target}/kustomization.yaml"
            named.add(file)
            if file not in texts:
                yield f"{path}: there is no {entry}"
    for path in texts:
        if path.startswith(("base/", "overlays/")) and not path.endswith("kustomization.yaml") and path not in named:
            yield f"{path} is in no kustomization"


def _joined(folder: str, entry: str) -> str:
    parts = folder.split("/")
    for part in entry.split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
