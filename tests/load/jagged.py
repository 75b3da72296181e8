"""TorchRec modules with one peculiarity each, as factories; import this only where torchrec is installed."""

from typing import Any

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
from torchrec.models.deepfm import SimpleDeepFMNN
from torchrec.modules.embedding_configs import PoolingType

from tests.load.models import make

ROWS = {"user": 40, "item": 30}
SUM, MEAN = PoolingType.SUM, PoolingType.MEAN


def collection(*tables: tuple[str, int, list[str], PoolingType], weighted: bool = False) -> EmbeddingBagCollection:
    """A collection of (table, dim, features, pooling)."""
    torch.manual_seed(0)
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(name=name, embedding_dim=dim, num_embeddings=ROWS[name], feature_names=features, pooling=pooling)
            for name, dim, features, pooling in tables
        ],
        is_weighted=weighted,
    )


def features(keys: list[str], batch: int, seed: int, *, weighted: bool = False) -> KeyedJaggedTensor:
    """Bags of 0 to 3 ids."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 4, (len(keys) * batch,), generator=generator)
    values = torch.randint(0, 30, (int(lengths.sum()),), generator=generator)
    weights = torch.rand(len(values), generator=generator) if weighted else None
    return KeyedJaggedTensor(keys=keys, values=values, lengths=lengths, weights=weights)


def deepfm(*, batch: int = 3, seed: int = 0) -> Any:
    bags = collection(("user", 8, ["user"], SUM), ("item", 8, ["bought", "seen"], SUM))
    model = SimpleDeepFMNN(num_dense_features=5, embedding_bag_collection=bags, hidden_layer_size=6, deep_fm_dimension=5)
    return model, (torch.rand(batch, 5), features(["user", "bought", "seen"], batch, seed))


def other_order(*, batch: int = 3, seed: int = 0) -> Any:
    """The tensor's keys come in another order than the tables' features; widths differ; a dict holds the tensor."""

    def forward(self: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
        pooled = self.bags(inputs["sparse"])
        return {"all": pooled.values(), "bought": pooled["bought"], "dense": inputs["dense"] + pooled["user"]}

    bags = collection(("item", 8, ["seen", "bought"], MEAN), ("user", 4, ["user"], SUM))
    inputs = {"dense": torch.rand(batch, 4), "sparse": features(["user", "bought", "seen"], batch, seed)}
    return make(forward, bags=bags), (inputs,)


def weighted(*, batch: int = 3, seed: int = 0) -> Any:
    bags = collection(("user", 4, ["user"], SUM), ("item", 4, ["item"], SUM), weighted=True)
    return make(lambda self, kjt: self.bags(kjt).values(), bags=bags), (features(["user", "item"], batch, seed, weighted=True),)


def offsets(*, batch: int = 3, seed: int = 0) -> Any:
    """The module builds the tensor from values and offsets of one feature."""

    def forward(self: Any, values: Tensor, offsets: Tensor) -> Tensor:
        pooled: Tensor = self.bags(KeyedJaggedTensor(keys=["user"], values=values, offsets=offsets)).values()
        return pooled

    user_features = features(["user"], batch, seed)
    return make(forward, bags=collection(("user", 4, ["user"], MEAN))), (user_features.values(), user_features.offsets())


def unused_key() -> Any:
    bags = collection(("user", 4, ["user"], SUM))
    return make(lambda self, kjt: self.bags(kjt).values(), bags=bags), (features(["user", "item"], 3, 0),)


def two_tables_for_a_feature() -> Any:
    bags = collection(("user", 4, ["user"], SUM), ("item", 4, ["user"], SUM))
    return make(lambda self, kjt: self.bags(kjt).values(), bags=bags), (features(["user"], 3, 0),)


def unpooled() -> Any:
    table = EmbeddingConfig(name="user", embedding_dim=4, num_embeddings=40, feature_names=["user"])
    sequences = EmbeddingCollection(tables=[table])
    return make(lambda self, kjt: self.e(kjt)["user"].to_padded_dense(3).sum(1), e=sequences), (features(["user"], 3, 0),)


def keyed_output() -> Any:
    return make(lambda self, kjt: self.bags(kjt), bags=collection(("user", 4, ["user"], SUM))), (features(["user"], 3, 0),)


class OnMeta(nn.Module):
    """A collection without data, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = collection(("user", 4, ["user"], SUM), ("item", 4, ["item"], MEAN))
        self.layer = nn.Linear(8, 1)

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        score: Tensor = self.layer(self.bags(features).values())
        return score


def on_meta(*, batch: int = 3, seed: int = 0) -> Any:
    with torch.device("meta"):
        module = OnMeta()
    return module.to("meta"), (features(["user", "item"], batch, seed),)
