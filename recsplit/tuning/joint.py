"""All settings at once: a tree-structured Parzen estimator (optuna) proposes, the simulator or a server answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from recsplit.capacity.search import Throughput
from recsplit.errors import InputError, MissingExtra
from recsplit.tuning.setting import Setting, Space

#: Proposals in a row that were tried already; then one that was not is drawn.
STALE = 10
#: This share of the trials is drawn at random before the estimator proposes.
RANDOM = 0.3


Chosen = TypeVar("Chosen")


@dataclass(frozen=True)
class Tried(Generic[Chosen]):
    """A setting and its latency-bounded throughput."""

    setting: Chosen
    throughput: Throughput


def joint(
    space: Space,
    evaluate: Callable[[Setting], Throughput],
    *,
    start: Sequence[Setting] = (),
    trials: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Tried[Setting]]:
    """Try up to `trials` settings of `space`, each once, those of `start` first; what was tried, in order.

    `advance` is called with 1 after each. The same again under the same seed and answers. Raises InputError for a start outside of the
    space, MissingExtra without optuna.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("optuna", "capacity", "tuning all settings at once") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grid = list(space.grid())
    outside = [setting for setting in start if setting not in grid]
    if outside:
        raise InputError(f"{outside[0]} is none of the settings to choose from", hint="begin inside of them")
    trials = min(trials, len(grid))
    drawn = max(int(RANDOM * trials) - len(start), 1)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=len(start) + drawn)
    )
    for setting in start:
        study.enqueue_trial(_places(setting, space), skip_if_exists=True)
    rng = np.random.default_rng(seed)
    tried: dict[Setting, Throughput] = {}
    stale = 0
    while len(tried) < trials:
        if stale >= STALE:
            left = [setting for setting in grid if setting not in tried]
            study.enqueue_trial(_places(left[rng.integers(len(left))], space))
        trial = study.ask()
        setting = _setting(trial, space)
        stale = stale + 1 if setting in tried else 0
        if setting not in tried:
            tried[setting] = evaluate(setting)
            advance(1)
        study.tell(trial, tried[setting].rate)
    return [Tried(setting, throughput) for setting, throughput in tried.items()]


def _setting(trial: Any, space: Space) -> Setting:
    """What the estimator proposes. Numbers are places in their lists: the next larger value is a neighbour."""
    form = trial.suggest_categorical("form", space.forms)

    def one(name: str, values: Sequence[int]) -> int:
        place: int = trial.suggest_int(name, 0, len(values) - 1)
        return values[place]

    return Setting(
        form,
        one("embedding_instances", space.instances),
        one("dense_instances", space.instances),
        one("threads", space.threads),
        one("max_batch_size", space.batches),
        one("queue_delay_us", space.delays_us),
    ).canonical


def _places(setting: Setting, space: Space) -> dict[str, Any]:
    return {
        "form": setting.form,
        "embedding_instances": space.instances.index(setting.embedding_instances),
        "dense_instances": 0 if setting.form == "fused" else space.instances.index(setting.dense_instances),
        "threads": space.threads.index(setting.threads),
        "max_batch_size": space.batches.index(setting.max_batch_size),
        "queue_delay_us": space.delays_us.index(setting.queue_delay_us),
    }
