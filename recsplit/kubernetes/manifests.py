"""The manifests: from a plan, its values and its files to the texts of a kustomize base with overlays. Pure."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import yaml

from recsplit.errors import InputError
from recsplit.kubernetes import queries
from recsplit.kubernetes.files import ModelFile, checksums
from recsplit.kubernetes.groups import FRONT, Group, groups
from recsplit.kubernetes.values import Front, Label, Overlay, Servers, ShardServers, Values, within
from recsplit.plan.files import RECIPE_FILE
from recsplit.plan.plan import Plan
from recsplit.rendering import templating

_TEMPLATES = Path(__file__).parent.parent / "templates" / "kubernetes"
#: What a ConfigMap may hold, less room for its keys.
_CONFIG_MAP_BYTES = 1_000_000
_SOURCE_MARGIN = 1.1
REMOTE = "remote"  # the backend of a shard that is elsewhere, and the folder of its files

#: Texts of config.pbtxt by group and model, where a group's servers take another one than the repository's.
Configs = Mapping[str, Mapping[str, str]]


def render(
    plan: Plan,
    values: Values,
    files: Mapping[str, Sequence[ModelFile]],
    configs: Configs,
    backend: Mapping[str, str],
    *,
    recipe: str | None = None,
) -> dict[str, str]:
    """The texts of all files but values.yaml, by their path.

    `files`: of every model that a group loads from files; `backend`: the files of the backend `remote`; `recipe`: engine.json of the front
    where that is one model of the engine. Raises InputError where the values are not for this plan's shards, or a group's configs don't
    fit into a ConfigMap.
    """
    all_groups = groups(plan)
    expected = [group.shard.model.name for group in all_groups if group.shard is not None]
    names = [shard.model for shard in values.shards]
    if names != expected:
        raise InputError(
            f"the values are for the shards {', '.join(names) or 'none'}, and the build has {', '.join(expected) or 'none'} on own servers",
            hint="take over what you set, and delete values.yaml to have it written anew",
        )
    environment = _environment()
    common: dict[str, Any] = {
        "plan": plan,
        "values": values,
        "groups": all_groups,
        "metrics": _metrics(),
        "front_is_one": recipe is not None,
    }
    texts: dict[str, str] = {}
    for group in all_groups:
        texts |= _plan_files(plan, group, files, configs.get(group.name, {}), recipe if group.shard is None else None)
        context = common | _group(values, group, files, servers(values, group)) | {"stands_in": bool(group.remote) and recipe is None}
        kinds = ["deployment", "services", *(["autoscaler"] if context["scaled"] else []), "guards"]
        texts[f"base/{group.name}.yaml"] = "---\n".join(_one(environment, f"{kind}.yaml.j2", context) for kind in kinds)
    texts["base/account.yaml"] = _one(environment, "account.yaml.j2", common | {"labels": _labels(values, None)})
    texts["base/arrange.sh"] = _one(environment, "arrange.sh.j2", common)
    if all_groups[0].remote and recipe is None:
        texts |= {f"base/{REMOTE}/{name}": text for name, text in backend.items()}
    generated = {
        folder: sorted(PurePosixPath(path).name for path in texts if path.startswith(f"base/{folder}/"))
        for folder in (*(group.name for group in all_groups), REMOTE)
    }
    texts["base/kustomization.yaml"] = _one(
        environment,
        "base.yaml.j2",
        common
        | {
            "generated": generated,
            "objects": {group.name: object_name(values, group) for group in all_groups},
            "labels": {group.name: _labels(values, group) for group in all_groups},
        },
    )
    for name, overlay in (("dev", values.dev), ("prod", values.prod)):
        texts |= {f"overlays/{name}/{path}": text for path, text in _overlay(environment, common | {"name": name}, overlay, files).items()}
    rules = _one(environment, "adapter.yaml.j2", common)
    texts["prometheus-adapter/config.yaml"] = rules
    texts["prometheus-adapter/helm-values.yaml"] = _helm_values(rules)
    return texts


def values_text(plan: Plan, values: Values, *, sizes_from: str) -> str:
    """values.yaml with comments; `sizes_from` says where its sizes come from."""
    context = {"plan_name": plan.name, "values": values, "asking": dataclasses.asdict(values.asking), "sizes_from": sizes_from}
    return _one(_environment(), "values.yaml.j2", context)


def object_name(values: Values, group: Group) -> str:
    """The name of a group's Deployment, Service and so on. The front finds a shard by its Service.

    Groups that ask each other are named by their build: one that is rolled out stands beside the one before, and neither asks the other.
    """
    return f"{values.name}-{group.name}" if group.mixable else f"{values.name}-{group.name}-{group.build}"


def addresses(plan: Plan, values: Values) -> dict[str, str]:
    """By model, where the front finds a shard that has servers of its own: a name within the same namespace."""
    return {group.shard.model.name: object_name(values, group) for group in groups(plan) if group.shard is not None}


def target(servers: Servers) -> float | None:
    """What an autoscaler aims at: ms for the front, queries a second and replica for a shard. None: nothing scales them."""
    if isinstance(servers, Front) and servers.p95_bound_ms is not None:
        return servers.bound_share * servers.p95_bound_ms
    if isinstance(servers, ShardServers) and servers.max_qps is not None:
        return servers.max_qps_share * servers.max_qps
    return None


def servers(values: Values, group: Group) -> Servers:
    """The values of one group."""
    if group.shard is None:
        return values.front
    name = group.shard.model.name
    return next(shard for shard in values.shards if shard.model == name)


def _plan_files(
    plan: Plan, group: Group, files: Mapping[str, Sequence[ModelFile]], configs: Mapping[str, str], recipe: str | None
) -> dict[str, str]:
    """What the pods of a group mount at /plan, beside arrange.sh."""
    needed = [file for model in group.models for file in files[model]]
    texts = {f"{model}.pbtxt": text for model, text in configs.items()}
    texts["checksums"] = checksums(needed)
    texts["files"] = "".join(f"{file.path}\n" for file in needed)
    if recipe is None:
        lines = [f"{model} {plan.version} files" for model in group.models] + [f"{model} {plan.version} none" for model in group.remote]
    else:
        texts[RECIPE_FILE] = recipe
        lines = [" ".join([plan.name, str(plan.version), "engine", *(model for model in group.models if model != plan.name)])]
    texts["models"] = "".join(f"{line}\n" for line in lines)
    size = sum(len(text.encode()) for text in texts.values())
    if size > _CONFIG_MAP_BYTES:
        raise InputError(f"the configs of {group.name} take {size:,} B, and a ConfigMap holds 1 MiB", hint="give it fewer tables or shards")
    return {f"base/{group.name}/{name}": text for name, text in texts.items()}


def _group(values: Values, group: Group, files: Mapping[str, Sequence[ModelFile]], servers: Servers) -> dict[str, Any]:
    """The variables of one group's templates."""
    source = {"name": "source", "mountPath": "/source"}
    if values.delivery.kind == "volume" and values.delivery.path:
        source["subPath"] = values.delivery.path
    read_only = [source | {"readOnly": True}]
    scaling_target = target(servers)
    size_bytes = sum(file.size_bytes for model in group.models for file in files[model])
    return {
        "group": group,
        "object": object_name(values, group),
        "servers": servers,
        "startup_s": servers.startup_s + (values.shards_startup_s if group.remote else 0),
        "scaled": scaling_target is not None,
        "target": scaling_target,
        "labels": _labels(values, group),
        "selector": _selector(values, group, group.name),
        "front_selector": _selector(values, group, FRONT),
        # Clients move from one build to the next as its pods become ready.
        "client_selector": _roles(values, FRONT),
        "client_labels": _labels(values, None),
        "monitor_labels": _labels(values, group) | _label_map(values.prometheus.monitor_labels),
        "behavior": _behavior(group),
        "confined": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "source": read_only,
        "source_read_only": read_only,
        "source_mib": math.ceil(size_bytes * _SOURCE_MARGIN / (1 << 20)) + 1,
    }


def _overlay(
    environment: jinja2.Environment, common: Mapping[str, Any], overlay: Overlay, files: Mapping[str, Sequence[ModelFile]]
) -> dict[str, str]:
    plan, values = common["plan"], common["values"]
    contexts = [
        dict(common) | _group(values, group, files, within(servers(values, group), overlay)) | {"overlay": overlay}
        for group in common["groups"]
    ]
    scaled = [context for context in contexts if context["scaled"]]
    for context in scaled:
        context["query"] = _keda_query(plan, values, overlay, context["group"])
    scaling = [(context["group"], context["object"], context["servers"], context["scaled"]) for context in contexts]
    component = dict(common) | {"scaled": [context["object"] for context in scaled]}
    controller = component | {
        "overlay": overlay,
        "scaling": scaling,
        "names": [context["object"] for context in contexts],
        "autoscaled": component["scaled"],
        "monitor_labels": _label_map(values.prometheus.monitor_labels),
    }
    texts = {
        "kustomization.yaml": _one(environment, "overlay.yaml.j2", dict(common) | {"overlay": overlay, "scaling": scaling}),
        "namespace.yaml": _one(environment, "namespace.yaml.j2", dict(common) | {"overlay": overlay}),
        "keda/kustomization.yaml": _one(environment, "keda.yaml.j2", component),
        "controller/kustomization.yaml": _one(environment, "controller.yaml.j2", controller),
        "controller/settings.toml": _one(environment, "controller_settings.toml.j2", controller),
    }
    if scaled:
        texts["keda/scaledobjects.yaml"] = "---\n".join(_one(environment, "scaledobject.yaml.j2", context) for context in scaled)
    return texts


def _keda_query(plan: Plan, values: Values, overlay: Overlay, group: Group) -> str:
    model = plan.name if group.shard is None else group.shard.model.name
    pods = {queries.INSTANCE: values.name} | ({} if group.mixable else {queries.VERSION: group.build})
    labels = {queries.series_label(key): value for key, value in pods.items()}
    matchers = queries.matchers(namespace=overlay.namespace, model=model, **labels)
    return queries.mean_p95_ms(matchers) if group.shard is None else queries.offered_qps(matchers)


def _roles(values: Values, component: str) -> dict[str, str]:
    return {queries.INSTANCE: values.name, queries.COMPONENT: component}


def _selector(values: Values, group: Group, component: str) -> dict[str, str]:
    """Labels of pods in one role. A Deployment's selector can't be changed later: without a build, where another may take its place."""
    return _roles(values, component) | ({} if group.mixable else {queries.VERSION: group.build})


def _labels(values: Values, group: Group | None) -> dict[str, str]:
    roles = {queries.INSTANCE: values.name} if group is None else _roles(values, group.name) | {queries.VERSION: group.build}
    return {"app.kubernetes.io/name": "triton", **roles, queries.PART_OF: "recsplit"}


def _behavior(group: Group) -> dict[str, Any]:
    """How fast an autoscaler may act: once a window in which the metric is counted, or it would act twice on one observation."""
    policy = {"type": "Percent", "value": 100, "periodSeconds": queries.WINDOW_S}
    least = {"type": "Pods", "value": 1 if group.shard is None else 4, "periodSeconds": queries.WINDOW_S}
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy, least]},
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "selectPolicy": "Min",
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def _metrics() -> dict[str, Any]:
    """Names and queries, for the templates."""
    return {
        "p95_ms": queries.P95_MS,
        "offered_qps": queries.OFFERED_QPS,
        "summary": queries.SUMMARY,
        "successes": queries.SUCCESSES,
        "instance_label": queries.series_label(queries.INSTANCE),
        "version_label": queries.series_label(queries.VERSION),
        "part_of": queries.matchers(**{queries.series_label(queries.PART_OF): "recsplit"}),
        "pod_labels": list(queries.POD_LABELS),
        "p95_query": queries.p95_ms("<<.LabelMatchers>>", "<<.GroupBy>>"),
        "offered_query": queries.offered_qps("<<.LabelMatchers>>"),
    }


def _helm_values(rules: str) -> str:
    parsed = yaml.safe_load(rules)
    chart = {"rules": {"custom": parsed["rules"], "external": parsed["externalRules"]}}
    return "# config.yaml beside this file, as the chart prometheus-community/prometheus-adapter takes it.\n" + _yaml(chart) + "\n"


def _environment() -> jinja2.Environment:
    return templating.environment(
        [_TEMPLATES],
        {  # every value passes `json` or `yaml`, whose texts are YAML
            "json": json.dumps,
            "yaml": _yaml,
            "quantity": quantity,
            "decimal": lambda number: f"{number:.6g}",
            "labels": lambda labels: json.dumps([{"key": label.key, "value": label.value} for label in labels]),
            "label_map": _label_map,
        },
    )


def _label_map(labels: Iterable[Label]) -> dict[str, str]:
    return {label.key: label.value for label in labels}


def _yaml(value: object) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=10_000)).rstrip("\n")


def quantity(number: float) -> str:
    """A number as Kubernetes' quantity, to the thousandth: "2", "16250m"."""
    thousandths = max(round(number * 1000), 1)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def _one(environment: jinja2.Environment, name: str, context: Mapping[str, Any]) -> str:
    return str(environment.get_template(name).render(context))
