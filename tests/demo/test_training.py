"""The demo's click logs and its training."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recsplit.accuracy.ranking import auc
from recsplit.demo import movielens, training
from recsplit.demo.click_log import synthetic
from recsplit.errors import InputError
from recsplit.zoo import ranker

SMALL = ranker.Sizes(users=300, segments=5, items=201, tags=21, tags_length=3, history_length=10, dim=8)


def test_the_synthetic_log_clicks_as_often_as_its_probabilities_say() -> None:
    log = synthetic(SMALL, 50_000)
    assert log.clicked.mean() == pytest.approx(log.reference.mean(), abs=0.01)
    for low in (0.1, 0.5):
        near = (log.reference > low) & (log.reference < low + 0.1)
        assert log.clicked[near].mean() == pytest.approx(log.reference[near].mean(), abs=0.03)


def test_padding_is_on_the_right_and_ids_are_inside_their_tables() -> None:
    log = synthetic(SMALL, 20_000)
    for ids, rows in ((log.tags, SMALL.tags), (log.history, SMALL.items)):
        assert ids.min() == 0 and ids.max() == rows - 1
        assert not ((ids[:, 1:] > 0) & (ids[:, :-1] == 0)).any()
    assert log.item.min() == 1 and log.item.max() == SMALL.items - 1
    assert (log.history.max(axis=1) == 0).any(), "some users have no history"


def test_popular_items_make_most_impressions() -> None:
    counts = np.sort(np.bincount(synthetic(SMALL, 20_000).item))[::-1]
    assert counts[: SMALL.items // 10].sum() > 0.4 * counts.sum()


def test_training_comes_near_the_best_reachable_ranking() -> None:
    log = synthetic(SMALL, 220_000)
    fit, held_out = log.rows(slice(0, 200_000)), log.rows(slice(200_000, None))
    seen: list[int] = []
    model = training.train(fit, SMALL, epochs=2, batch=1024, rate=1e-2, advance=seen.append)
    reached = auc(held_out.clicked > 0, training.predict(model, held_out).astype(np.float64))
    best = auc(held_out.clicked > 0, held_out.reference.astype(np.float64))
    assert sum(seen) == 2 * len(fit)
    assert best - 0.03 < reached <= best + 0.005


def test_saved_weights_fit_the_factory_that_the_demo_names(tmp_path: Path) -> None:
    log = synthetic(ranker.CLICKS, 2_000)
    training.save(training.train(log, ranker.CLICKS, epochs=1, batch=500, advance=lambda done: None), tmp_path / "w.safetensors")
    module, inputs = ranker.clicks()[:2]
    module.load_state_dict(load_file(tmp_path / "w.safetensors"), assign=True)
    with torch.no_grad():
        answer = module(*inputs)
    assert answer.shape == (4,) and ((answer > 0) & (answer < 1)).all()


def test_the_log_names_its_inputs_as_the_ranker_does() -> None:
    log = synthetic(SMALL, 100)
    module = ranker.Ranker(SMALL)
    with torch.no_grad():
        by_name = module(**{name: torch.from_numpy(data) for name, data in log.inputs().items()})
    assert np.allclose(by_name.numpy(), training.predict(module, log))


@pytest.fixture
def ml_100k(tmp_path: Path) -> Path:
    (tmp_path / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t1\n2\t53\tF\tother\t2\n"
    )
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "7\tA\t1995\tDrama Comedy\n8\tB\tunknown\tDrama\n9\tC\t1960\t\n"
    )
    ratings = [(1, 7, 5, 30), (1, 8, 2, 10), (1, 9, 4, 20), (2, 7, 1, 5)]
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *("\t".join(map(str, row)) for row in ratings)]
    (tmp_path / "ml-100k.inter").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_movielens_holds_out_the_end_and_a_history_is_what_was_liked_before(ml_100k: Path) -> None:
    fit, held_out = movielens.read(ml_100k)
    assert fit.item.tolist() == [8, 9] and fit.clicked.tolist() == [0, 1]
    assert sorted(zip(held_out.user.tolist(), held_out.item.tolist(), strict=True)) == [(1, 7), (2, 7)]
    last = held_out.user.tolist().index(1)
    assert held_out.history[last, :2].tolist() == [9, 0]
    assert held_out.tags[last, :3].tolist() == [2, 1, 0], "Drama, Comedy in the file's order, numbered by name"
    assert fit.history.max() == 0
    assert fit.segment.tolist() == [2, 2] and held_out.dense[last, 1] == 0.0


def test_a_missing_file_of_movielens_says_how_to_get_it_back(ml_100k: Path) -> None:
    (ml_100k / "ml-100k.user").unlink()
    with pytest.raises(InputError, match=r"ml-100k\.user is missing") as caught:
        movielens.read(ml_100k)
    assert "recbole" in caught.value.hint


@pytest.mark.skipif(importlib.util.find_spec("recbole") is not None, reason="recbole is installed")
def test_without_recbole_the_hint_is_the_pip_command() -> None:
    with pytest.raises(InputError) as caught:
        movielens.find()
    assert caught.value.hint == "pip install --no-deps recbole"
