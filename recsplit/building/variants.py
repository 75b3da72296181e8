"""Variants of one model: a build each, from one source or several, and a router of the model's name in front of them."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsplit.building.build import Built, build
from recsplit.building.settings import BuildSettings
from recsplit.disk.links import store_once
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.load import ModelSource
from recsplit.plan.files import TABLES_FILE
from recsplit.plan.routing import A_MS, B_MS, Routing, Server, Variant
from recsplit.rendering.progress import Progress
from recsplit.repository.routers import publish, router_of, settings_of

_HINT = "--variant NAME, --variant NAME=int8, --variant NAME=user=int8,item=fp16, or --variant NAME=source=SOURCE,weights=FILE"


@dataclass(frozen=True)
class VariantSpec:
    """What a variant has of its own. None and (): what the build says for all."""

    name: str
    source: ModelSource | None = None
    weights: Path | None = None
    table_dtype: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltVariants:
    """The builds, in the order of the specs, and the router in front of them."""

    router: str
    version: int
    routing: Routing
    builds: tuple[Built, ...]


def spec(text: str) -> VariantSpec:
    """NAME, or NAME=ITEM,...: of source=SOURCE, weights=FILE, and [TABLE=]DTYPE. Raises InputError for anything else."""
    name, mark, items = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or (mark and not items):
        raise InputError(f"--variant {text!r} can't be read", hint=_HINT)
    source, weights, dtypes = None, None, []
    for item in filter(None, items.split(",")):
        key, _, value = item.partition("=")
        if key == "source" and value:
            source = value
        elif key == "weights" and value:
            weights = Path(value)
        else:
            dtypes.append(item)
    return VariantSpec(name, source, weights, tuple(dtypes))


def build_variants(settings: BuildSettings, specs: Sequence[VariantSpec], progress: Progress) -> BuiltVariants:
    """Build every variant as `<name>_<variant>`, one model of the engine each, and publish a router called `<name>` in front of them.

    All queries go to the first of them, or as they went where there was such a router before. With labelled rows the router knows the
    variants' accuracy. Tables that are the same lie once. The router is published last: where a build fails, clients are answered as
    before, by the builds that are there. Raises what `build` raises, and InputError for variants that can't be.
    """
    names = [each.name for each in specs]
    if len(set(names)) < len(names):
        raise InputError(f"two variants have one name: {', '.join(names)}", hint="give each a name of its own")
    reason = unavailable()
    if reason is not None:
        raise InputError(f"variants are behind a router, which is the engine's: {reason}", hint="build one variant, without --variant")
    each_settings = [_settings(settings, one) for one in specs]  # all are checked before the first is built
    builds = []
    for number, one in enumerate(each_settings, start=1):
        builds.append(build(one, partial(_numbered, progress, f"{specs[number - 1].name} ({number} of {len(specs)}): ")))
        progress("looking for tables that an earlier variant has", 0, 0)
        _share_tables(builds)
    routing = _routing(settings, specs, builds)
    return BuiltVariants(settings.name, publish(settings.out, settings.name, routing, keep=settings.keep), routing, tuple(builds))


def _share_tables(builds: Sequence[Built]) -> None:
    """Let the newest build have the tables file of the first one before it that has the same bytes."""
    files = [built.repository / built.plan.embedding.name / str(built.plan.version) / TABLES_FILE for built in builds]
    there = [file for file in files if file.is_file()]
    if files[-1] in there:
        any(store_once(file, files[-1]) for file in there[:-1])


def _numbered(progress: Progress, before: str, text: str, done: int, total: int) -> None:
    progress(before + text, done, total)


def _settings(settings: BuildSettings, one: VariantSpec) -> BuildSettings:
    source = settings.source if one.source is None else one.source
    weights = settings.weights if one.weights is None and one.source is None else one.weights
    return dataclasses.replace(
        settings,
        name=f"{settings.name}_{one.name}",
        source=source,
        weights=weights,
        table_dtype=one.table_dtype or settings.table_dtype,
    )


def _routing(settings: BuildSettings, specs: Sequence[VariantSpec], builds: Sequence[Built]) -> Routing:
    """What the router does: as before for variants that it had, and with what was measured of these builds."""
    before = settings_of(settings.out, settings.name) if router_of(settings.out, settings.name) is not None else None
    had = {} if before is None else {variant.name: variant for variant in before.variants}
    variants = []
    for one, built in zip(specs, builds, strict=True):
        accuracy = None if built.quality is None else built.quality.auc.rounded
        server = Server(built.plan.name, -1, "", A_MS, B_MS, 1)
        fresh = Variant(one.name, 0.0, built.plan.max_batch_size, (server,), accuracy)
        kept = had.get(one.name)
        variants.append(fresh if kept is None else dataclasses.replace(fresh, weight=kept.weight, max_qps=kept.max_qps))
    if not any(variant.weight > 0 for variant in variants):
        variants[0] = dataclasses.replace(variants[0], weight=1.0)
    rest = Routing(tuple(variants)) if before is None else dataclasses.replace(before, variants=tuple(variants))
    names = [variant.name for variant in variants]
    return rest if rest.large_variant in ("", *names) else dataclasses.replace(rest, large_rows=0, large_variant="")
