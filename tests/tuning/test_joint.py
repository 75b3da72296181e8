"""The joint search: what it tries, and how near it comes to the best of the grid."""

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.tuning.joint import joint
from recsplit.tuning.setting import Setting, Space
from tests.tuning.asked import PRESENT, SPACE, about

pytest.importorskip("optuna")


def rate(setting: Setting) -> float:
    """Something like a server of two cores: more instances help up to the cores, larger batches cost less a row, waiting costs."""
    computing = (
        min(setting.embedding_instances + setting.dense_instances, 3) if setting.form == "ensemble" else setting.embedding_instances + 1.3
    )
    return 100 * computing**0.6 * setting.max_batch_size**0.3 / setting.threads**0.2 / (1 + setting.queue_delay_us / 3000)


def test_every_setting_is_tried_once_where_there_are_trials_enough() -> None:
    tried = joint(SPACE, lambda setting: about(rate(setting)), trials=1000)
    assert {one.setting for one in tried} == set(SPACE.grid())
    assert len(tried) == len(SPACE)


def test_it_begins_where_it_is_told_to() -> None:
    start = [PRESENT, Setting("fused", 2, 1, 1, 64, 0)]
    seen: list[int] = []
    tried = joint(SPACE, lambda setting: about(rate(setting)), start=start, trials=6, advance=seen.append)
    assert [one.setting for one in tried[:2]] == start
    assert len(tried) == len({one.setting for one in tried}) == len(seen) == 6


def test_the_same_seed_tries_the_same() -> None:
    first, again, other = (
        [one.setting for one in joint(SPACE, lambda setting: about(rate(setting)), trials=12, seed=seed)] for seed in (3, 3, 4)
    )
    assert first == again != other


def test_a_tenth_of_a_grid_comes_near_its_best() -> None:
    space = Space(("ensemble", "fused"), (1, 2, 4), (1, 2, 4), (32, 64, 128, 256, 512, 1024), (0, 500, 2000))
    best = max(map(rate, space.grid()))
    reached = []
    for seed in range(10):
        tried = joint(space, lambda setting: about(rate(setting)), start=[PRESENT], trials=len(space) // 10, seed=seed)
        reached.append(max(rate(one.setting) for one in tried) / best)
    assert np.median(reached) >= 0.95
    assert min(reached) >= 0.85


def test_a_fused_start_needs_no_number_of_dense_instances() -> None:
    space = Space(("ensemble", "fused"), (4, 8), (1,), (64,), (0,))
    tried = joint(space, lambda setting: about(rate(setting)), start=[Setting("fused", 8, 1, 1, 64, 0)], trials=100)
    assert len(tried) == len(space)


def test_a_start_outside_of_the_space_is_refused() -> None:
    with pytest.raises(InputError, match="none of the settings"):
        joint(SPACE, lambda setting: about(1.0), start=[Setting("ensemble", 9, 1, 1, 64, 0)], trials=3)
