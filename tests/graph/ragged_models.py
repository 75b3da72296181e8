"""Models of ragged bags as text, rows for them, and torch's answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from recsplit.plan import ragged
from tests.graph.small import Array, Feeds, Small, small, table

ROWS, DIM = 50, 8
T, U, W = table(ROWS, DIM), table(60, DIM), table(DIM, 1)
ARRAYS = {
    "t": T,
    "u": U,
    "w": W,
    "w2": table(2, 1),
    "zero": np.array([0]),
    "e": np.array([DIM]),
    "axis": np.array(0),
    "five": np.array(5),
    "k": np.array(ROWS),
}
FORMS = ["padded", "chunked"]


class Bag(NamedTuple):
    """A model of one bag over (values, offsets): `tanh(bag) @ w + x @ w2`."""

    mode: str = "sum"
    padding: int = -1
    last: int = 0
    weighted: bool = False
    before: str = ""
    ids: str = "values"
    offsets: str = "offsets"

    @property
    def text(self) -> str:
        weights, weights_argument = (", float[K] weights", ",weights") if self.weighted else ("", "")
        attributes = f'mode="{self.mode}",padding_idx={self.padding},include_last_offset={self.last}'
        node = f"recsplit.EmbeddingBag<{attributes}>(t,{self.ids},{self.offsets}{weights_argument})"
        signature = f"(float[N,2] x, int64[K] values, int64[M] offsets{weights}) => (float[N,1] y)"
        return f"{signature} {{ {self.before} s={node} q=Tanh(s) y0=MatMul(q,w) z=MatMul(x,w2) y=Add(y0,z) }}"

    def cut(self, form: str, **settings: Any) -> Small:
        return small(self.text, ARRAYS, bag_form=form, **settings)


def rows_of(
    lengths: Sequence[int] | Sequence[Sequence[int]], *, extra: int = 0, fill: int = 0, seed: int = 0, limit: int = ROWS
) -> dict[str, Array]:
    """Random rows of bags with these lengths; slots without an id hold `fill`, and no number as weight."""
    random = np.random.default_rng(seed)
    counts = np.array(lengths, dtype=np.int64).reshape(len(lengths), -1)
    slots = max(int(counts.sum(axis=1).max(initial=0)), 1) + extra
    there = np.arange(slots) < counts.sum(axis=1, keepdims=True)
    return {
        "x": random.standard_normal((len(counts), 2)).astype(np.float32),
        "values": np.where(there, random.integers(0, limit, there.shape), fill),
        "lengths": counts,
        "weights": np.where(there, random.standard_normal(there.shape), np.nan).astype(np.float32),
    }


def torch_answer(bag: Bag, parts: Small, rows: Feeds) -> Array:
    """The model's answer by torch, on the model's own inputs."""
    source = ragged.from_rows(parts.cut.bags[0], rows)
    pooled = torch.nn.functional.embedding_bag(
        torch.tensor(source["values"]),
        torch.tensor(T),
        torch.tensor(source["offsets"]),
        mode=bag.mode,
        padding_idx=bag.padding if bag.padding >= 0 else None,
        include_last_offset=bool(bag.last),
        per_sample_weights=torch.tensor(source["weights"]) if bag.weighted else None,
    )
    answer: Array = np.tanh(pooled.numpy()) @ W + rows["x"] @ ARRAYS["w2"]
    return answer


def bag_of(weight: str, values: str, offsets: str, mode: str = "sum") -> str:
    return f'recsplit.EmbeddingBag<mode="{mode}",padding_idx=-1,include_last_offset=0>({weight},{values},{offsets})'


def jagged(features: int, *, weighted: bool = False) -> tuple[str, dict[str, Array]]:
    """An EmbeddingBagCollection of as many features, every third a mean, two features a table, all of one dim."""
    tables = {f"t{number}": table(20 + number, DIM, seed=number) for number in range((features + 1) // 2)}
    names = ",".join(f'"f{number}"' for number in range(features))
    which = ",".join(str(number // 2) for number in range(features))
    modes = ",".join('"mean"' if number % 3 == 0 and not weighted else '"sum"' for number in range(features))
    weights_input, weights = (", float[K] weights", "weights") if weighted else ("", "")
    node = f"recsplit.JaggedBags<features=[{names}],feature_table=[{which}],pooling=[{modes}]>(values,lengths,{weights},{','.join(tables)})"
    return f"(int64[K] values, int64[M] lengths{weights_input}) => (float[N,1] y) {{ s={node} q=Tanh(s) y=MatMul(q,w) }}", {
        **tables,
        "w": table(DIM * features, 1),
    }
