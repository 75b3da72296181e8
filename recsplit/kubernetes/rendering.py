"""From a build in a repository to its folder of manifests: the one module here that touches files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recsplit.capacity.profile import Profile
from recsplit.configs.fleet import bags_config, remote_config
from recsplit.configs.front import can_be_one, front_config, front_recipe
from recsplit.configs.portable import portable_config
from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.kubernetes import manifests
from recsplit.kubernetes.check import check
from recsplit.kubernetes.files import model_files, total_bytes
from recsplit.kubernetes.groups import FRONT, groups
from recsplit.kubernetes.sizing import first_values
from recsplit.kubernetes.values import Values, read_values
from recsplit.partition.partition_file import Partition
from recsplit.plan.files import CONFIG_FILE
from recsplit.rendering import rendered_folder
from recsplit.repository.find import Build
from recsplit.serving.fleet.placement import has_bags

VALUES = "values.yaml"
FOLDER = rendered_folder.FolderKind(
    ".recsplit.json", VALUES, f"put the change into {VALUES}, or into an overlay of your own (a new folder in overlays/)"
)
_BACKEND = Path(__file__).parent.parent / "backends" / manifests.REMOTE


@dataclass(frozen=True)
class Known:
    """What the first values are reckoned from; see sizing.first_values."""

    profile: Profile | None = None
    partition: Partition | None = None
    rows: int | None = None
    p95_bound_ms: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A build, where its manifests go, and their values: those that the folder has (`has_values`), or first ones."""

    build: Build
    output: Path
    values: Values
    has_values: bool
    sizes_from: str
    models: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class Rendered:
    """What was written: paths relative to the folder, one summary a group, and what the user should know."""

    files: tuple[str, ...]
    groups: tuple["Summary", ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """One group: its models, what its replicas follow and the target (None: nothing), what a pod is given, bytes of its files."""

    name: str
    models: tuple[str, ...]
    scaled_on: str | None
    target: float | None
    cpu: float
    memory_mib: int
    size_bytes: int


def prepare(build: Build, output: Path, known: Known) -> Prepared:
    """Read or make the values, and refuse what can't be rendered before the files are read.

    Raises InputError where the build is fused, the folder isn't ours, its values.yaml can't be used, or exists while `known` says something
    that it should decide.
    """
    if build.plan.form == "fused":
        raise InputError(
            f"{build.plan.name!r} is fused, and pods are rendered for the parts of an ensemble", hint="build it with --form ensemble"
        )
    rendered_folder.refuse_foreign(output, FOLDER)
    models = tuple(model for group in groups(build.plan) for model in group.models)
    path = output / VALUES
    has_values = os.path.lexists(path)  # what is no file is refused as it is read
    if has_values and known != Known():
        raise InputError(
            f"{path} exists, and it decides",
            hint="leave out --profile, --partition, --rows and --p95-bound-ms, or delete it to have it written anew from them",
        )
    if has_values:
        values = read_values(path)
    else:
        sizes = {model: total_bytes(build.repository, [model]) for model in models}
        values = first_values(
            build.plan, sizes, profile=known.profile, partition=known.partition, rows=known.rows, p95_bound_ms=known.p95_bound_ms
        )
    sizes_from = (
        "measured by recsplit profile, plus a quarter"
        if known.profile is not None
        else ("reckoned from the files, plus ElasticRec's 0.3 GB a server; recsplit profile measures them")
    )
    return Prepared(build, output, values, has_values, sizes_from, models, total_bytes(build.repository, models))


def front_is_one(build: Build, values: Values) -> bool:
    """Whether the front is one model of the engine: the image has that, the build can be so, and every shard elsewhere has its CSR form."""
    plan = build.plan
    apart = [number for number, shard in enumerate(plan.shards) if shard.location == "own"]
    return values.engine and can_be_one(plan) and all(has_bags(build.repository, plan, number) for number in apart)


def recipe(build: Build, values: Values) -> str:
    """engine.json of a front that is one model."""
    plan, hosts = build.plan, manifests.addresses(build.plan, values)
    by_number = {str(number): [f"{hosts[shard.model.name]}:8000"] for number, shard in enumerate(plan.shards) if shard.model.name in hosts}
    text = bounded.read_text(build.repository / plan.embedding.name / CONFIG_FILE, bounded.RECORD_BYTES, hint="build the model again")
    return front_recipe(plan, text, by_number, values.asking, await_s=values.shards_startup_s)


def configs(build: Build, values: Values) -> manifests.Configs:
    """By group, the configs that differ from the repository's: the front's, of one model or of remote ones, shards in their CSR form, and
    where the image has no engine what was built for it."""
    plan, repository = build.plan, build.repository
    addresses = manifests.addresses(plan, values)
    texts: dict[str, dict[str, str]] = {FRONT: {}}
    portable = frozenset[str]() if values.engine else plan.native
    is_one = front_is_one(build, values)
    if is_one:
        texts[FRONT][plan.name] = front_config(plan)

    def config_of(name: str) -> str:
        text = bounded.read_text(repository / name / CONFIG_FILE, bounded.RECORD_BYTES, hint="build the model again")
        return portable_config(text, origin=f"{name}/{CONFIG_FILE}") if name in portable else text

    for group in groups(plan):
        if group.shard is None:
            texts[FRONT] |= {name: config_of(name) for name in group.models if name in portable}
            continue
        number, name = plan.shards.index(group.shard), group.shard.model.name
        text = config_of(name)
        bags = has_bags(repository, plan, number)
        if not is_one:
            asked, await_s = [f"{addresses[name]}:8001"], values.shards_startup_s
            texts[FRONT][name] = remote_config(plan, number, text, asked, bags=bags, asking=values.asking, await_s=await_s)
        texts[group.name] = {name: bags_config(plan, number, text)} if bags else {name: text} if name in portable else {}
    return texts


def _backend() -> dict[str, str]:
    """The files of the backend `remote`."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_BACKEND.glob("*.py"))}


def render(prepared: Prepared, *, advance: Callable[[int], None] = lambda _: None) -> Rendered:
    """Checksum the files, render, check, write. `advance` takes bytes that were read. Raises as the stages do."""
    plan, values = prepared.build.plan, prepared.values
    files = model_files(prepared.build.repository, prepared.models, advance=advance)
    front = recipe(prepared.build, values) if front_is_one(prepared.build, values) else None
    texts = manifests.render(plan, values, files, configs(prepared.build, values), _backend(), recipe=front)
    check(texts)
    if not prepared.has_values:
        texts[VALUES] = manifests.values_text(plan, values, sizes_from=prepared.sizes_from)
    rendered_folder.write(prepared.output, texts, FOLDER)
    summaries, warnings = [], []
    if plan.native and not values.engine:
        warnings.append(
            f"ONNX Runtime runs what was built for the engine: recsplit backend export, then set image and engine in {VALUES}, for that"
        )
    for group in groups(plan):
        servers = manifests.servers(values, group)
        target = manifests.target(servers)
        scaled_on = None if target is None else "p95 ms" if group.shard is None else "queries/s"
        size_bytes = sum(file.size_bytes for model in group.models for file in files[model])
        summaries.append(Summary(group.name, group.models, scaled_on, target, servers.cpu, servers.memory_mib, size_bytes))
        if target is None:
            key = "front: p95_bound_ms" if group.shard is None else f"max_qps of {group.shard.model.name}"
            warnings.append(f"nothing scales {group.name}: set {key} in values.yaml")
    return Rendered(tuple(sorted(texts)), tuple(summaries), tuple(warnings))
