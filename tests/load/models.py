"""Small modules with one peculiarity each, as factories; `batch` and `seed` choose the example inputs."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

AUTO = torch.export.Dim.AUTO
ROWS, DIM = 50, 4


class Module(nn.Module):
    """A module that is its parts and one function of them and the inputs."""

    def __init__(self, **parts: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        for parameter in self.parameters():
            nn.init.normal_(parameter)


def make(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """A Module of a class of its own with this forward."""
    return type("Model", (Module,), {"forward": forward})(**parts)


def ids(*shape: int, rows: int = ROWS, seed: int = 0) -> Tensor:
    """Random ids."""
    return torch.randint(0, rows, shape, generator=torch.Generator().manual_seed(seed))


# Names and nesting.

Pair = collections.namedtuple("Pair", ["user", "item"])


@dataclasses.dataclass
class Both:
    """Two outputs."""

    click: Tensor
    buy: Tensor


def one_dict(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"click through": self.e(features["user id"]) + self.e(features["item"]), "item": features["dense"]}

    features = {"user id": ids(batch, seed=seed), "item": ids(batch, seed=seed + 1), "dense": torch.rand(batch, 2)}
    return make(forward, e=nn.Embedding(ROWS, DIM)), (features,)


def two_dicts(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, user: dict[str, Tensor], item: dict[str, Tensor]) -> Any:
        return (self.e(user["id"]), None, [self.e(item["id"]), self.e(item["id"])])

    return make(forward, e=nn.Embedding(ROWS, DIM)), ({"id": ids(batch, seed=seed)}, {"id": ids(batch, seed=seed + 1)})


def named_tuple(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, dense: Tensor, pair: Pair, *more: Tensor, scale: float = 1.0, **rest: Tensor) -> Both:
        vectors = self.e(pair.user) + self.e(pair.item) + sum(self.e(one) for one in more)
        return Both(vectors * scale + rest["extra"], dense)

    pair = Pair(ids(batch, seed=seed), ids(batch, seed=seed + 1))
    arguments = {"dense": torch.rand(batch, 2), "pair": pair, "extra": torch.rand(batch, 1), "scale": 2.0}
    return make(forward, e=nn.Embedding(ROWS, DIM)), arguments


def lists(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, dense: Tensor, values: list[Tensor], offsets: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([dense, *(self.e(v, o) for v, o in zip(values, offsets, strict=True))], dim=1)

    values = [ids(2 * batch, seed=seed), ids(batch, seed=seed + 1)]
    offsets = (torch.arange(batch) * 2, torch.arange(batch))
    return make(forward, e=nn.EmbeddingBag(ROWS, DIM, mode="sum")), (torch.rand(batch, 2), values, offsets)


def passed_through(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, user: Tensor, dense: Tensor) -> dict[str, Tensor]:
        score = self.e(user)
        return {"score": score, "again": score, "user": user, "dense": dense}

    return make(forward, e=nn.Embedding(ROWS, DIM)), (ids(batch, seed=seed), torch.rand(batch, 2))


# Lookups.

FIXED = ["sum", "mean", "max", "sum_padded", "mean_padded", "max_padded", "sum_weighted", "sum_padded_weighted"]
OFFSETS = [*FIXED, "sum_last", "mean_last", "max_last", "mean_padded_last", "sum_weighted_last"]


def _bag(name: str) -> nn.EmbeddingBag:
    mode, *rest = name.split("_")
    return nn.EmbeddingBag(ROWS, DIM, mode=mode, include_last_offset="last" in rest, padding_idx=7 if "padded" in rest else None)


def fixed_bags(*, batch: int = 3, seed: int = 0) -> Any:
    """Every kind of nn.EmbeddingBag on [batch, 6] ids; the padding row is among them."""

    def forward(self: Any, ids: Tensor, weights: Tensor) -> dict[str, Tensor]:
        return {name: getattr(self, name)(ids, None, weights if "weighted" in name else None) for name in FIXED}

    bags = {name: _bag(name) for name in FIXED}
    return make(forward, **bags), (ids(batch, 6, rows=9, seed=seed), torch.rand(batch, 6))


def ragged_bags(*, batch: int = 3, seed: int = 0) -> Any:
    """Every kind of nn.EmbeddingBag on values and offsets; the second bag is empty, and the last one too where there are more."""

    def forward(self: Any, values: Tensor, starts: Tensor, bounds: Tensor, weights: Tensor) -> dict[str, Tensor]:
        offsets = {name: bounds if "last" in name else starts for name in OFFSETS}
        return {name: getattr(self, name)(values, offsets[name], weights if "weighted" in name else None) for name in OFFSETS}

    bags = {name: _bag(name) for name in OFFSETS}
    lengths = torch.tensor([2 + n % 3 if n % 3 != 1 else 0 for n in range(batch)])
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    count = int(bounds[-1])
    return make(forward, **bags), (ids(count, rows=9, seed=seed), bounds[:-1], bounds, torch.rand(count))


def many_lookups(*, batch: int = 3, seed: int = 0) -> Any:
    """nn.Embedding in the ways of recommenders: shared, hashed, split in quotient and remainder, cast from floats, pooled under a mask."""

    def forward(self: Any, user: Tensor, history: Tensor, floats: Tensor) -> dict[str, Tensor]:
        seen = self.items(history)
        mask = (history > 0).unsqueeze(-1).float()
        return {
            "one": self.users(user),
            "shared": self.items(user % ROWS),
            "quotient": self.users(user // 10) * self.digits(user % 10),
            "cast": self.items((floats[:, 0] % ROWS).long()),
            "masked": (seen * mask).sum(1) / mask.sum(1).clamp(min=1),
            "history": seen,
            "wide": self.wide(user + self.shift).sum(-1),
        }

    tables = {"users": nn.Embedding(ROWS, DIM), "items": nn.Embedding(ROWS, DIM, padding_idx=0), "digits": nn.Embedding(10, DIM)}
    parts = {**tables, "wide": nn.Embedding(2 * ROWS, 1), "shift": torch.tensor(ROWS)}
    return make(forward, **parts), (ids(batch, seed=seed), ids(batch, 5, seed=seed + 1), torch.rand(batch, 2) * 100)


def weight_indexing(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, ids: Tensor) -> Tensor:
        return self.w[ids] + self.w[ids[:, 0]].unsqueeze(1) + self.w.index_select(0, ids[:, 1]).unsqueeze(1) + self.bias[ids].unsqueeze(-1)

    return make(forward, w=nn.Parameter(torch.empty(ROWS, DIM)), bias=nn.Parameter(torch.empty(ROWS))), (ids(batch, 3, seed=seed),)


def big_ids(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, ids: Tensor) -> Tensor:
        quotient = torch.div(ids, ROWS, rounding_mode="floor") % ROWS + torch.div(ids, 3, rounding_mode="trunc") % ROWS
        more = torch.div(ids, torch.tensor(7), rounding_mode="trunc") % ROWS
        return self.e(quotient // 2) + self.e(torch.remainder(ids, ROWS)) + self.e(more) + self.e((ids * 2654435761) % ROWS)

    return make(forward, e=nn.Embedding(ROWS, DIM)), (ids(batch, 2, rows=2**40, seed=seed) - 2**39,)


def computed_bags(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, ids: Tensor, weights: Tensor) -> Tensor:
        shifted = (ids + self.shift).view(-1, 3)
        return self.e(shifted, per_sample_weights=weights) + nn.functional.embedding_bag(ids[:, :2], self.e.weight, mode="max")

    parts = {"e": nn.EmbeddingBag(ROWS, DIM, mode="sum"), "shift": torch.tensor([0, 10, 20])}
    return make(forward, **parts), (ids(batch, 3, rows=30, seed=seed), torch.rand(batch, 3))


def any_length(*, batch: int = 3, seed: int = 0, length: int = 4) -> Any:
    def forward(self: Any, ids: Tensor, weights: Tensor) -> Tensor:
        return self.e(ids, per_sample_weights=weights)

    shapes = ({0: AUTO, 1: AUTO},) * 2
    return make(forward, e=nn.EmbeddingBag(ROWS, DIM, mode="sum")), (ids(batch, length, seed=seed), torch.rand(batch, length)), shapes


def int32_bags(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, values: Tensor, offsets: Tensor) -> Tensor:
        return self.e(values, offsets)

    inputs = (ids(2 * batch, seed=seed).int(), torch.arange(batch, dtype=torch.int32) * 2)
    return make(forward, e=nn.EmbeddingBag(ROWS, DIM, mode="mean", padding_idx=-1)), inputs


def equal_by_chance(*, batch: int = 3, seed: int = 0) -> Any:
    """As many ids as rows in the example, and in no other batch."""

    def forward(self: Any, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        return self.e(values, torch.cumsum(lengths, 0) - lengths) + dense

    count = batch if seed == 0 else 3 * batch
    lengths = torch.zeros(batch, dtype=torch.int64).index_add(0, torch.randint(0, batch, (count,)), torch.ones(count, dtype=torch.int64))
    return make(forward, e=nn.EmbeddingBag(ROWS, DIM, mode="sum")), (torch.rand(batch, DIM), ids(count, seed=seed), lengths)


def tied(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, user: Tensor, item: Tensor) -> Tensor:
        return self.a(user) + self.b(item)

    table = nn.Embedding(ROWS, DIM, padding_idx=0, sparse=True, scale_grad_by_freq=True)
    return make(forward, a=table, b=table), (ids(batch, seed=seed), ids(batch, seed=seed + 1))


def half_table(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, ids: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, self.e(ids).float().sum(-1), 0.0)

    return make(forward, e=nn.Embedding(ROWS, DIM, dtype=torch.float16)), (ids(batch, 3, seed=seed), ids(batch, 3, seed=seed) % 2 == 0)


def asserts_ids(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, ids: Tensor) -> Tensor:
        assert ids.max() < ROWS
        vectors: Tensor = self.e(ids)
        return vectors

    return make(forward, e=nn.Embedding(ROWS, DIM)), (ids(batch, seed=seed),)


def attention(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, item: Tensor, history: Tensor) -> Tensor:
        keys = self.e(history)
        return self.a(self.e(item).unsqueeze(1), keys, keys, key_padding_mask=history == 0, need_weights=False)[0].squeeze(1)

    history = ids(batch, 5, seed=seed).clamp(min=1)
    history[:, 3:] = 0
    return make(forward, e=nn.Embedding(ROWS, DIM), a=nn.MultiheadAttention(DIM, 2, batch_first=True)), (ids(batch, seed=seed), history)


def recurrent(*, batch: int = 3, seed: int = 0) -> Any:
    def forward(self: Any, history: Tensor) -> Tensor:
        return self.g(self.e(history))[1][-1]

    return make(forward, e=nn.Embedding(ROWS, DIM), g=nn.GRU(DIM, DIM, batch_first=True)), (ids(batch, 5, seed=seed),)


# What can't be served.


def fixed_batch() -> Any:
    return make(lambda self, user, dense: self.e(user) + dense.view(3, DIM), e=nn.Embedding(ROWS, DIM)), (ids(3), torch.rand(3, DIM))


def fixed_output() -> Any:
    return make(lambda self, user: self.e(user).sum(0, keepdim=True), e=nn.Embedding(ROWS, DIM)), (ids(3),)


def branch_on_values() -> Any:
    def forward(self: Any, user: Tensor) -> Tensor:
        vectors: Tensor = self.e(user)
        return vectors if vectors.sum() > 0 else -vectors

    return make(forward, e=nn.Embedding(ROWS, DIM)), (ids(3),)


def clipped() -> Any:
    return make(lambda self, user: self.e(user), e=nn.Embedding(ROWS, DIM, max_norm=1.0)), (ids(3),)


def counts_calls() -> Any:
    def forward(self: Any, user: Tensor) -> Tensor:
        self.calls.add_(1)
        vectors: Tensor = self.e(user)
        return vectors

    return make(forward, e=nn.Embedding(ROWS, DIM), calls=torch.zeros(1)), (ids(3),)


def loss() -> Any:
    return make(lambda self, user: self.e(user).sum(), e=nn.Embedding(ROWS, DIM)), (ids(3),)


def scalar_input() -> Any:
    return make(lambda self, user, scale: self.e(user) * scale, e=nn.Embedding(ROWS, DIM)), (ids(3), torch.tensor(2.0))


def bfloat16_output() -> Any:
    return make(lambda self, user: self.e(user).bfloat16(), e=nn.Embedding(ROWS, DIM)), (ids(3),)


def strange_input() -> Any:
    return make(lambda self, user, thing: self.e(user), e=nn.Embedding(ROWS, DIM)), (ids(3), object())


def strange_output() -> Any:
    return make(lambda self, user: {"a": self.e(user), "b": "text"}, e=nn.Embedding(ROWS, DIM)), (ids(3),)


def fails_on_its_example() -> Any:
    return make(lambda self, user: self.e(user), e=nn.Embedding(ROWS, DIM)), (torch.tensor([ROWS]),)


def too_many_arguments() -> Any:
    return make(lambda self, user: self.e(user), e=nn.Embedding(ROWS, DIM)), (ids(3), ids(3))


def shapes_that_do_not_fit() -> Any:
    return make(lambda self, user: self.e(user), e=nn.Embedding(ROWS, DIM)), (ids(3),), ({0: AUTO}, {0: AUTO})


def no_onnx_operator() -> Any:
    return make(lambda self, user: torch.special.zeta(self.e(user), 2.0), e=nn.Embedding(ROWS, DIM)), (ids(3),)


def raises() -> Any:
    raise RuntimeError("no such checkpoint")


def exits() -> Any:
    raise SystemExit(3)


def only_a_module() -> Any:
    return nn.Embedding(ROWS, DIM)


def a_tensor_as_inputs() -> Any:
    return nn.Embedding(ROWS, DIM), ids(3)


def no_module() -> Any:
    return "module", (ids(3),)


def scripted() -> Any:
    return torch.jit.script(nn.Linear(2, 2)), (torch.rand(3, 2),)


def on_meta() -> Any:
    with torch.device("meta"):
        module = nn.EmbeddingBag(ROWS, DIM)
    return module, (ids(3, 2),)


not_callable = 3
