"""The shapes of facebookresearch/dlrm's bench folder: Criteo Kaggle, Criteo Terabyte, and the random benchmark."""

from functools import partial

from recsplit.zoo.catalogue.published import Factory, PublishedDLRM, published_model
from recsplit.zoo.layers import Model


def _facebook(name: str, *, rows_scale: float | None = None, batch: int = 4, seed: int = 0) -> Model:
    return published_model(name, partial(PublishedDLRM, interaction="dot"), rows_scale, batch, seed)


criteo_kaggle: Factory = partial(_facebook, "criteo_kaggle")
criteo_terabyte: Factory = partial(_facebook, "criteo_terabyte")
random_benchmark: Factory = partial(_facebook, "random_benchmark")
