"""What a folder holds that Triton can load: its models, and which of them clients call."""

import re
from collections.abc import Sequence
from pathlib import Path

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.files import CONFIG_FILE, ENGINE_BACKEND, PLAN_FILE, ROUTING_FILE
from recsplit.repository.find import is_router, refuse_mixture
from recsplit.repository.routers import settings_of


def models_to_load(repository: Path, models: Sequence[str]) -> tuple[str, ...]:
    """The models to name to Triton; it loads the steps of an ensemble with the ensemble.

    `models` where given, and those that a router among them asks; else what recsplit wrote to be called, ensembles and routers; else, in a
    repository that recsplit did not write, every model. Raises InputError where there is nothing to load,
    RecsplitError where the parts of an ensemble come from different builds.
    """
    if not repository.is_dir():
        raise InputError(f"there is no folder {repository}", hint="recsplit build SOURCE -o DIR writes a model repository")
    if (repository / CONFIG_FILE).is_file():
        raise InputError(
            f"{repository} is one model, not a model repository", hint=f"serve the folder around it: {repository.resolve().parent}"
        )
    model_names = sorted(path.parent.name for path in repository.glob(f"*/{CONFIG_FILE}"))
    if not model_names:
        raise InputError(f"{repository} holds no models", hint="a model repository has <model>/config.pbtxt; recsplit build writes one")
    for model in models:
        if model not in model_names:
            raise InputError(f"{repository} has no model {model!r}", hint=f"it has {', '.join(model_names)}")
    built = sorted({path.parent.parent.name for file in (PLAN_FILE, ROUTING_FILE) for path in repository.glob(f"*/[0-9]*/{file}")})
    for model in models or built:
        refuse_mixture(repository, model)
    return _with_those_behind(repository, models) or tuple(built) or tuple(model_names)


def _with_those_behind(repository: Path, models: Sequence[str]) -> tuple[str, ...]:
    """`models`, and those of this repository that routers among them ask: Triton doesn't know of these."""
    asked = [
        server.model
        for model in models
        if is_router(repository / model)
        for variant in settings_of(repository, model).variants
        for server in variant.servers
        if not server.address
    ]
    return tuple(dict.fromkeys([*models, *asked]))


def auto_complete_needed(repository: Path) -> bool:
    """Whether any model's config leaves its inputs or outputs to Triton."""
    configs = configs_of(repository)
    return not all(re.search(rf"^\s*{key}\s*:?\s*[\[{{]", config, re.MULTILINE) for config in configs for key in ("input", "output"))


def engine_needed(repository: Path) -> bool:
    """Whether any model is one of recsplit's engine."""
    return any(re.search(rf'^\s*backend\s*:\s*"{ENGINE_BACKEND}"', config, re.MULTILINE) for config in configs_of(repository))


def configs_of(repository: Path) -> list[str]:
    """The configs of all models, whoever wrote them. Raises InputError for what is no file, or more than a config is."""
    hint = "a config.pbtxt is a text of some kB"
    paths = sorted(repository.glob(f"*/{CONFIG_FILE}"))
    return [bounded.read_bytes(path, bounded.RECORD_BYTES, hint=hint).decode(errors="replace") for path in paths]
