"""A journal names the weights of its forecaster: other ones would decide otherwise, and are told of."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recsplit.errors import InputError
from recsplit_controller.core.decide import decide
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.reconcile import State, reconcile
from recsplit_controller.forecast import named
from recsplit_controller.shell.journal import Journal, latest
from recsplit_controller.shell.replay import replay
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick

TARGET = Target("dense", "dense", "dense", maximum=40)


def weights(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"lstm.weight_ih_l0": (8, 1), "lstm.weight_hh_l0": (8, 2), "lstm.bias_ih_l0": (8,), "lstm.bias_hh_l0": (8,)}
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors | {"head.weight": np.ones((1, 2), np.float32), "head.bias": np.ones(1, np.float32)}, path)


def test_other_weights_than_the_journals_are_refused_and_can_be_asked_for(tmp_path: Path) -> None:
    weights(tmp_path / "lstm", 1)
    settings = Settings(forecaster=f"lstm:{tmp_path / 'lstm'}", period_s=5.0)
    forecaster = named(settings.forecaster)
    memory, state = Memory(), State()
    with Journal(tmp_path / "journal", settings, (TARGET,), forecaster=forecaster.digest) as journal:
        for tick in range(30):
            series = Series(requests=50.0 + 10 * (tick % 7), busy=2.0, waiting=0.0, pending=0.0)
            seen = Observation(5.0 * tick, 5.0 * tick, "whole", {"dense": series}, {"dense": Count.steady(4)})
            before = memory, state
            memory, decisions = decide(settings, forecaster, (TARGET,), memory, seen)
            state, actions = reconcile(state, (TARGET,), decisions, (), {}, seen.at_s)
            journal.write(Tick(seen, decisions, actions, (), {}, state.progress, 0.0), *before)
    session = latest(tmp_path / "journal")
    assert session.forecaster == forecaster.digest and len(forecaster.digest) == 64
    assert replay(session).differences == ()
    weights(tmp_path / "lstm", 2)
    with pytest.raises(InputError, match=f"SHA-256 .*, not {forecaster.digest[:12]}"):
        replay(session)
    assert replay(session, settings).decisions == 30
