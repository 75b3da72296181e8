"""Labelled rows, the area under the ROC curve, and how sure its change is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.accuracy import labelled, ranking
from recsplit.errors import InputError

INPUTS = {"ids": np.arange(6).reshape(6, 1), "dense": np.ones((6, 2), np.float32)}
LABELS = np.array([0, 1, 1, 0, 1, 0])


def test_auc_is_the_share_of_pairs_in_order_and_ties_count_half() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        scores = random.integers(0, 5, 30) / 4
        labels = np.r_[True, False, random.random(28) < 0.4]
        pairs = [(one, two) for one in scores[labels] for two in scores[~labels]]
        expected = np.mean([1.0 if one > two else 0.5 if one == two else 0.0 for one, two in pairs])
        assert ranking.auc(labels, scores) == pytest.approx(float(expected))


def test_the_interval_holds_the_change_and_is_none_without_one() -> None:
    random = np.random.default_rng(1)
    labels = random.random(4000) < 0.3
    exact = random.standard_normal(4000) + labels
    same = ranking.quality(labels, exact, exact * 2 + 1).auc
    assert (same.change, same.change_low, same.change_high) == (0, 0, 0)
    worse = ranking.quality(labels, exact, exact + random.standard_normal(4000)).auc
    assert worse.change_low < worse.change < worse.change_high < 0
    assert worse.low < worse.rounded < worse.high and worse.high - worse.low > worse.change_high - worse.change_low


def test_log_loss_and_ndcg_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    for _ in range(10):
        queries = np.repeat(random.permutation(12), random.integers(2, 30, 12))
        labels = random.random(len(queries)) < 0.3
        labels[:2] = True, False
        scores = random.integers(0, 6, len(queries)) / 7 + 0.05
        judged = ranking.quality(labels, scores, scores, queries)
        assert judged.logloss.exact == pytest.approx(metrics.log_loss(labels, scores))
        lists = [(labels[queries == query], scores[queries == query]) for query in np.unique(queries)]
        expected = [metrics.ndcg_score([one], [of], k=10) for one, of in lists if one.any()]
        assert judged.ndcg is not None and judged.ndcg.exact == pytest.approx(float(np.mean(expected)))
        np.testing.assert_allclose(np.sort(ranking.by_query(labels, scores, queries)), np.sort(expected))


def test_scores_beyond_1_are_logits() -> None:
    labels, scores = np.array([True, False, True, False]), np.array([2.0, -1.0, 0.5, 0.2])
    probabilities = 1 / (1 + np.exp(-scores))
    assert ranking.quality(labels, scores, scores).logloss.exact == pytest.approx(
        ranking.quality(labels, probabilities, probabilities).logloss.exact
    )
    wrong = ranking.quality(labels, np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0])).logloss
    assert np.isfinite(wrong.exact), "certain and wrong"


def test_without_queries_there_is_no_ndcg() -> None:
    labels = np.array([True, False] * 5)
    assert ranking.quality(labels, np.arange(10.0), np.arange(10.0)).ndcg is None


def test_queries_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **INPUTS, label=LABELS, query=np.array([0, 0, 0, 1, 1, 1]))
    read = labelled.read(tmp_path / "e.npz", list(INPUTS), by_rows=True)
    assert read.queries is not None and read.queries.tolist() == [0, 0, 0, 1, 1, 1]
    for wrong in (np.zeros(5, int), np.zeros(6), np.zeros((6, 2), int)):
        np.savez(tmp_path / "e.npz", **INPUTS, label=LABELS, query=wrong)
        with pytest.raises(InputError, match="whole number for each of 6 rows"):
            labelled.read(tmp_path / "e.npz", list(INPUTS), by_rows=True)
    np.savez(tmp_path / "e.npz", query=np.arange(6), label=LABELS)
    assert labelled.read(tmp_path / "e.npz", ["query"], by_rows=True).queries is None, "an input of that name is an input"


def test_a_set_is_read_and_scored_in_parts(tmp_path: Path) -> None:
    rows = 10_000
    np.savez(tmp_path / "e.npz", label=np.arange(rows) % 2, ids=np.arange(rows)[:, None])
    asked: list[int] = []

    def run(inputs: Any) -> dict[str, Any]:
        asked.append(len(inputs["ids"]))
        return {"score": inputs["ids"].astype(np.float32), "other": np.zeros((len(inputs["ids"]), 3))}

    rows_read = labelled.read(tmp_path / "e.npz", ["ids"], by_rows=True)
    np.testing.assert_array_equal(labelled.scores(run, rows_read), np.arange(rows))
    assert sum(asked) == rows and len(asked) > 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": INPUTS["ids"], "label": LABELS}, "lacks 'dense'"),
        (INPUTS, "lacks 'label'"),
        ({**INPUTS, "label": LABELS, "price": LABELS}, "has 'price', which the model has not"),
        ({**INPUTS, "label": LABELS * 2}, "aren't 0 and 1"),
        ({**INPUTS, "label": LABELS * 0}, "aren't 0 and 1"),
        ({**INPUTS, "label": np.ones((6, 2))}, "aren't 0 and 1"),
        ({**INPUTS, "label": np.full(6, np.nan)}, "aren't 0 and 1"),
        ({**INPUTS, "label": np.array(1)}, "'label' in .* is a single number"),
        ({**INPUTS, "ids": np.array(1), "label": LABELS}, "'ids' in .* is a single number"),
        ({**INPUTS, "label": LABELS[:4]}, "has 4 labels, and 6 rows of 'ids'"),
    ],
)
def test_sets_that_arent_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(InputError, match=message):
        labelled.read(tmp_path / "e.npz", list(INPUTS), by_rows=True)


def test_what_is_no_file_of_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.npz").write_text("label,ids\n1,2\n")
    for path in (tmp_path / "e.npz", tmp_path / "missing.npz", tmp_path):
        with pytest.raises(InputError):
            labelled.read(path, ["ids"], by_rows=True)


def test_an_output_that_is_no_score_is_refused() -> None:
    rows = labelled.Evaluation(INPUTS, LABELS > 0, by_rows=True)
    with pytest.raises(InputError, match=r"output 'y' is no score: it has the shape \[6, 3\] for 6 rows"):
        labelled.scores(lambda _: {"y": np.zeros((6, 3), np.float32)}, rows)


def test_scores_that_are_no_numbers_are_refused() -> None:
    rows = labelled.Evaluation(INPUTS, LABELS > 0, by_rows=True)
    with pytest.raises(InputError, match="score of row 2 is NaN"):
        labelled.scores(lambda _: {"y": np.array([1, 1, np.nan, 1, 1, 1], np.float32)}, rows)


def test_bags_that_vary_are_asked_for_at_once() -> None:
    """One value and one offset a row, in the mean: they look like rows, and can't be taken apart."""
    rows, asked = 5000, []
    data = labelled.Evaluation({"values": np.zeros(rows), "offsets": np.arange(rows)}, np.arange(rows) % 2 == 0, by_rows=False)

    def run(inputs: Any) -> dict[str, Any]:
        asked.append(len(inputs["offsets"]))
        return {"score": np.zeros(len(inputs["offsets"]), np.float32)}

    labelled.scores(run, data)
    assert asked == [rows]
