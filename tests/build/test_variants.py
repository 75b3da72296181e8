"""Several variants of a model in one build, and the router before them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recsplit.building.settings import BuildSettings
from recsplit.building.variants import VariantSpec, build_variants, spec
from recsplit.cli import cli
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.rendering.progress import in_silence
from recsplit.repository.find import find
from recsplit.repository.routers import publish, settings_of

TINY = "recsplit.zoo.tiny:dlrm"
needs_engine = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exact", VariantSpec("exact")),
        ("small=int8", VariantSpec("small", table_dtype=("int8",))),
        ("mixed=user=int8,item=fp16", VariantSpec("mixed", table_dtype=("user=int8", "item=fp16"))),
        (
            "narrow=source=shop.models:narrow,weights=new.safetensors,int4",
            VariantSpec("narrow", "shop.models:narrow", Path("new.safetensors"), ("int4",)),
        ),
    ],
)
def test_a_variant_says_what_it_has_of_its_own(text: str, expected: VariantSpec) -> None:
    assert spec(text) == expected


@pytest.mark.parametrize("text", ["", "=int8", "small=", "a b", "../up"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="can't be read"):
        spec(text)


@needs_engine
def test_each_is_a_model_and_the_router_sends_all_to_the_first_until_told_otherwise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = 300
    inputs = {
        "dense": random.standard_normal((rows, 4), np.float32),
        "user": random.integers(0, 1000, rows),
        "item": random.integers(0, 400, rows),
        "tags": random.integers(0, 100, (rows, 5)),
    }
    np.savez(tmp_path / "eval.npz", label=random.integers(0, 2, rows).astype(np.float32), **inputs)  # type: ignore[arg-type]
    repository = tmp_path / "models"
    arguments = ["build", TINY, "-o", repository, "--name", "shop", "--variant", "exact", "--variant", "small=int8", "--search-s", "0"]
    done = CliRunner().invoke(cli, [*map(str, arguments), "--eval", str(tmp_path / "eval.npz"), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["router"], said["version"], [plan["name"] for plan in said["plans"]]) == ("shop", 1, ["shop_exact", "shop_small"])
    assert {table.stored for table in find(repository, "shop_small").plan.tables} == {"INT8"}
    assert not find(repository, "shop_exact").plan.loaded, "one model of the engine each"
    routing = settings_of(repository, "shop")
    assert [(variant.name, variant.weight, variant.servers[0].model) for variant in routing.variants] == [
        ("exact", 1.0, "shop_exact"),
        ("small", 0.0, "shop_small"),
    ]
    assert all(0.4 < (variant.accuracy or 0) < 0.6 for variant in routing.variants)
    # Built again, with a third, it shares out as it did.
    shares = [0.25, 0.75]
    changed = tuple(type(variant)(**{**vars(variant), "weight": weight}) for variant, weight in zip(routing.variants, shares, strict=True))
    publish(repository, "shop", type(routing)(changed, deadline_ms=50.0))
    settings = BuildSettings(TINY, repository, "shop", form="fused", search_s=0)
    again = build_variants(settings, [spec("exact"), spec("small=int8"), spec("half=fp16")], in_silence)
    assert (again.version, [variant.weight for variant in again.routing.variants]) == (3, [0.25, 0.75, 0.0])
    assert again.routing.deadline_ms == 50.0


@needs_engine
def test_tables_that_variants_share_lie_once(tmp_path: Path) -> None:
    settings = BuildSettings(TINY, tmp_path / "models", "shop", form="fused", search_s=0)
    built = build_variants(settings, [VariantSpec("one"), VariantSpec("small", table_dtype=("int8",)), VariantSpec("other")], in_silence)
    one, small, other = (tmp_path / "models" / f"{each.plan.embedding.name}/{each.plan.version}/tables.bin" for each in built.builds)
    assert one.samefile(other) and not one.samefile(small)


@needs_engine
def test_variants_that_are_not_asked_alike_have_no_router(tmp_path: Path) -> None:
    settings = BuildSettings(TINY, tmp_path / "models", "shop", form="fused", search_s=0)
    with pytest.raises(InputError, match="has other inputs or outputs"):
        build_variants(settings, [spec("exact"), spec("other=source=recsplit.zoo.lookups:masked_mean")], in_silence)
    with pytest.raises(InputError, match="two variants have one name"):
        build_variants(settings, [spec("exact"), spec("exact=int8")], in_silence)
