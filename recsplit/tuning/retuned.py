"""A build served otherwise: the same files, linked and not copied, under new configs and a new plan."""

import secrets
from pathlib import Path

from recsplit.configs.render import render
from recsplit.disk.links import link_file
from recsplit.errors import InputError
from recsplit.plan.files import BUILD_FILE, CONFIG_FILE, PLAN_FILE, RECIPE_FILE, REFERENCES_FILE
from recsplit.plan.plan import Plan, to_json
from recsplit.plan.recipe import ModelStage
from recsplit.plan.recipe import to_json as recipe_json
from recsplit.proof import stages
from recsplit.proof.cases import recorded
from recsplit.repository.find import Build
from recsplit.repository.staging import Stage, staging
from recsplit.tuning.setting import Setting, changed

#: What is written anew in the version folder of a part, and of the ensemble. It must not be linked: the earlier build has that file too.
_OF_PART = frozenset({BUILD_FILE, CONFIG_FILE})
_OF_ENSEMBLE = _OF_PART | {PLAN_FILE, RECIPE_FILE}


def publish(build: Build, setting: Setting, repository: Path, *, keep: int = 2, templates: Path | None = None, prove: bool = True) -> Plan:
    """Publish `build` with other settings into `repository`, its own or another one on the same file system; its new plan.

    `prove`: the parts answer the recorded cases as the source did, before anything is published. On any error the repository stays as it
    was. Raises InputError as `changed` and `staging` do, RecsplitError where the proof doesn't hold.
    """
    before = build.plan
    with staging(repository, before.name) as stage:
        plan = changed(before, setting, version=stage.version, build=secrets.token_hex(8))
        for name in (before.name, *(model.name for model in before.submodels)):
            _link(build.repository / name / str(before.version), stage, name, _OF_ENSEMBLE if name == before.name else _OF_PART)
        stage.write(render(plan, templates=templates))
        if plan.form == "fused":
            recipe = recipe_json([ModelStage(model.name) for model in plan.submodels])
            stage.path(plan.name, RECIPE_FILE).write_text(recipe, encoding="utf-8")
        if prove:
            parts = stage.path(plan.name, PLAN_FILE).parents[2]
            stages.demand(stages.parts(parts, plan, recorded(build.folder / REFERENCES_FILE), repeats=1))
        stage.path(plan.name, PLAN_FILE).write_text(to_json(plan), encoding="utf-8")
        stage.publish(plan.build, keep=keep)
    return plan


def _link(version: Path, stage: Stage, model: str, written_anew: frozenset[str]) -> None:
    if not version.is_dir():
        raise InputError(f"there is no folder {version}", hint="build the model again: files were taken away")
    for path in sorted(version.rglob("*")):
        if path.is_file() and path.name not in written_anew:
            link_file(str(path), str(stage.path(model, str(path.relative_to(version)))))
