"""TorchRec's own DLRM over an EmbeddingBagCollection, as it is and behind plain tensors."""

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.models.dlrm import DLRM
from torchrec.modules.embedding_configs import PoolingType

from recsplit.zoo.layers import VARIES, Examples, Model, seeded

DIM, DENSE, LONGEST = 16, 13, 6
ROWS = {"user": 400, "item": 300, "tags": 50}
#: "watched" reads the items' table a second time.
FEATURES = {"user": "user", "item": "item", "watched": "item", "tags": "tags"}


def _model() -> DLRM:
    collection = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table,
                embedding_dim=DIM,
                num_embeddings=rows,
                feature_names=[feature for feature, source in FEATURES.items() if source == table],
                pooling=PoolingType.MEAN if table == "tags" else PoolingType.SUM,
            )
            for table, rows in ROWS.items()
        ]
    )
    return DLRM(collection, dense_in_features=DENSE, dense_arch_layer_sizes=[32, DIM], over_arch_layer_sizes=[32, 1])


def _jagged(examples: Examples, batch: int) -> tuple[Tensor, Tensor]:
    """(values [nnz], lengths [features * batch]), key-major as in a KeyedJaggedTensor."""
    lengths = [examples.lengths(batch, LONGEST) for _ in FEATURES]
    values = [examples.ids(ROWS[table], int(count.sum())) for table, count in zip(FEATURES.values(), lengths, strict=True)]
    return torch.cat(values), torch.cat(lengths)


def dlrm(*, batch: int = 4, seed: int = 0) -> Model:
    """Called with (dense, KeyedJaggedTensor)."""
    examples = Examples(seed)
    values, lengths = _jagged(examples, batch)
    features = KeyedJaggedTensor(keys=list(FEATURES), values=values, lengths=lengths)
    return seeded(_model()), (examples.dense(batch, DENSE), features)


class ValuesDLRM(nn.Module):
    """FP32 dense [batch, 13], INT64 values [nnz] and lengths [features * batch] -> logit [batch, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.dlrm = _model()

    def forward(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        logit: Tensor = self.dlrm(dense, KeyedJaggedTensor(keys=list(FEATURES), values=values, lengths=lengths))
        return logit


def dlrm_values(*, batch: int = 4, seed: int = 0) -> Model:
    """Called with (dense, values, lengths)."""
    examples = Examples(seed)
    values, lengths = _jagged(examples, batch)
    return seeded(ValuesDLRM()), (examples.dense(batch, DENSE), values, lengths), (VARIES,) * 3
