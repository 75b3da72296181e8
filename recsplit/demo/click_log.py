"""A click log to train on, and a synthetic one whose true click probabilities are known. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.zoo.ranker import DENSE, Sizes

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]

TASTES = 4  # dimensions of taste behind the synthetic log


@dataclass(frozen=True)
class ClickLog:
    """Impressions, one a row, as Ranker takes them, with what came of them.

    `reference` is a score that training is compared with: the true click probability where it is known (the best
    reachable ranking), else a simple baseline. `reference_name` says which.
    """

    dense: Floats
    user: Ids
    segment: Ids
    item: Ids
    tags: Ids
    history: Ids
    clicked: Floats
    reference: Floats
    reference_name: str

    def __len__(self) -> int:
        return len(self.clicked)

    def rows(self, chosen: NDArray[np.int64] | slice) -> "ClickLog":
        """The chosen impressions."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if name != "reference_name"}
        return ClickLog(reference_name=self.reference_name, **arrays)

    def inputs(self) -> dict[str, NDArray[np.generic]]:
        """What Ranker.forward takes, by name and in its order."""
        names = ("dense", "user", "segment", "item", "tags", "history")
        return {name: getattr(self, name).astype(np.float32 if name == "dense" else np.int64, copy=False) for name in names}


def synthetic(sizes: Sizes, impressions: int, seed: int = 0) -> ClickLog:
    """Popularity-skewed impressions, clicked with a probability made of taste, quality, segment and dense features.

    Users and items have hidden tastes; an item's follows its tags, a user's history holds items of his or her taste.
    Items and users are drawn by Zipf's law, so most rows of the tables are rare, as in a real log.
    """
    draw = np.random.default_rng(seed)
    tag_taste = draw.standard_normal((sizes.tags, TASTES))
    item_tags = draw.integers(1, sizes.tags, (sizes.items, sizes.tags_length))
    item_tags[:, 1:] *= draw.random((sizes.items, sizes.tags_length - 1)) < 0.6
    item_tags = -np.sort(-item_tags, axis=1)  # padding to the right
    tagged = item_tags > 0
    item_taste = (tag_taste[item_tags] * tagged[:, :, None]).sum(1) / np.sqrt(tagged.sum(1, keepdims=True))
    item_taste = 0.8 * item_taste + 0.6 * draw.standard_normal(item_taste.shape)
    user_taste = draw.standard_normal((sizes.users, TASTES))
    history = _histories(draw, sizes, user_taste, item_taste)

    user = _zipf(draw, sizes.users, impressions, skew=0.6)
    item = 1 + _zipf(draw, sizes.items - 1, impressions, skew=0.9)
    segment = draw.integers(0, sizes.segments, impressions)
    dense = draw.standard_normal((impressions, DENSE)).astype(np.float32)
    logit = (
        -1.5
        + 1.6 * (user_taste[user] * item_taste[item]).sum(1) / np.sqrt(TASTES)
        + 0.5 * draw.standard_normal(sizes.items)[item]
        + 0.4 * draw.standard_normal(sizes.segments)[segment]
        + dense @ np.array([0.6, -0.4, 0.2, 0.0])
        + 0.3 * dense[:, 0] * dense[:, 1]
    )
    probability = 1 / (1 + np.exp(-logit))
    return ClickLog(
        dense=dense,
        user=user.astype(np.int32),
        segment=segment.astype(np.int32),
        item=item.astype(np.int32),
        tags=item_tags[item].astype(np.int32),
        history=history[user].astype(np.int32),
        clicked=(draw.random(impressions) < probability).astype(np.float32),
        reference=probability.astype(np.float32),
        reference_name="true probabilities (best reachable)",
    )


def _histories(
    draw: np.random.Generator, sizes: Sizes, user_taste: NDArray[np.float64], item_taste: NDArray[np.float64]
) -> NDArray[np.int64]:
    """[users, history_length] item ids, 0 where the history is shorter: from popular items those of the user's taste."""
    seen = 1 + _zipf(draw, sizes.items - 1, sizes.users * 5 * sizes.history_length, skew=0.9).reshape(sizes.users, -1)
    liking = np.einsum("ut,ust->us", user_taste, item_taste[seen]) + draw.gumbel(size=seen.shape)
    best = np.argpartition(-liking, sizes.history_length, axis=1)[:, : sizes.history_length]
    length = draw.integers(0, sizes.history_length + 1, sizes.users)
    return np.take_along_axis(seen, best, axis=1) * (np.arange(sizes.history_length) < length[:, None])


def _zipf(draw: np.random.Generator, count: int, size: int, *, skew: float) -> NDArray[np.int64]:
    """`size` draws from 0 .. count-1 with probability proportional to 1 / (rank + 1) ** skew; ranks are shuffled."""
    cumulative = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -skew)
    ranks = np.searchsorted(cumulative, draw.random(size) * cumulative[-1], side="right")
    drawn: NDArray[np.int64] = draw.permutation(count)[ranks]
    return drawn
