"""A build published with other settings: the same files, another plan, and what serves it."""

from pathlib import Path

import numpy as np
import pytest

import recsplit
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import RECIPE_FILE, REFERENCES_FILE
from recsplit.proof.cases import recorded
from recsplit.repository.find import Build, find
from recsplit.repository.kept import earlier, kept_builds, restore
from recsplit.serving import serve
from recsplit.tuning import retuned
from recsplit.tuning.setting import Setting, of_plan
from tests.conftest import built

OTHER = Setting("ensemble", 2, 1, 1, 32, 500)


@pytest.fixture
def shop(tmp_path: Path) -> Build:
    return find(built(tmp_path / "models", "shop"))


def bytes_of(build: Build) -> dict[str, bytes]:
    names = [build.plan.name, *(model.name for model in build.plan.submodels)]
    paths = [path for name in names for path in (build.repository / name / str(build.plan.version)).rglob("*")]
    return {str(path.relative_to(build.repository)): path.read_bytes() for path in paths if path.is_file()}


def test_the_new_version_has_the_settings_and_the_old_one_all_that_it_had(shop: Build) -> None:
    before = bytes_of(shop)
    plan = retuned.publish(shop, OTHER, shop.repository)
    now = find(shop.repository)
    assert (plan.version, now.plan) == (shop.plan.version + 1, plan)
    assert of_plan(plan) == OTHER
    assert bytes_of(shop) == before
    tables = [shop.repository / f"shop_embedding/{version}/tables.bin" for version in (1, 2)]
    assert tables[0].samefile(tables[1]), "rows lie once"
    restore(shop.repository, earlier(shop.repository, "shop", None))
    assert find(shop.repository).plan == shop.plan


def test_it_answers_as_the_build_did(shop: Build) -> None:
    retuned.publish(shop, OTHER, shop.repository)
    answers_as_recorded(find(shop.repository))


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_forms_of_the_engine_become_each_other(tmp_path: Path) -> None:
    models = tmp_path / "models"
    recsplit.build("recsplit.zoo.tiny:dlrm", out=models, name="shop", max_batch_size=64, threads=1, search_s=0)
    first = find(models)
    retuned.publish(first, Setting("fused", 2, 1, 1, 64, 0), models, keep=3)
    fused = find(models)
    assert (fused.plan.form, fused.plan.fused.instances, fused.plan.fused.workers) == ("fused", 2, 2)
    answers_as_recorded(fused)
    retuned.publish(fused, of_plan(first.plan), models, keep=3)
    back = find(models)
    assert back.plan.form == "ensemble"
    assert not (back.folder / RECIPE_FILE).exists()
    answers_as_recorded(back)
    assert len(kept_builds(models, "shop")) == 3


def answers_as_recorded(build: Build) -> None:
    with serve(build.repository, models=["shop"]) as server, Client(server.grpc_url, "shop", protocol="grpc") as client:
        for case in recorded(build.folder / REFERENCES_FILE):
            answer = client.infer(case.inputs)
            for name, want in case.outputs.items():
                np.testing.assert_allclose(answer[name].reshape(want.shape), np.asarray(want, np.float64), rtol=1e-4, atol=1e-6)


def test_what_fails_leaves_the_repository_as_it_was(shop: Build) -> None:
    before = bytes_of(shop)
    references = shop.folder / REFERENCES_FILE
    kept = references.read_bytes()
    with pytest.raises(InputError):
        retuned.publish(shop, Setting("fused", 1, 1, 1, 64, 0), shop.repository)
    references.unlink()
    with pytest.raises((InputError, RecsplitError, OSError)):
        retuned.publish(shop, OTHER, shop.repository)
    references.write_bytes(kept)
    assert bytes_of(shop) == before
    assert find(shop.repository).plan == shop.plan
    assert sorted(path.name for path in (shop.repository / "shop").iterdir()) == ["1", "config.pbtxt"]
