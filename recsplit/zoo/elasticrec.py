"""ElasticRec's models (Choi et al., ISCA 2024): RM1 to RM3 of Table II, and Light, Medium, Heavy of its micro-benchmark."""

from functools import partial

from recsplit.zoo.catalogue.published import Factory, PublishedDLRM, published_model
from recsplit.zoo.layers import Model


def _elasticrec(name: str, *, rows_scale: float | None = None, batch: int = 4, seed: int = 0) -> Model:
    return published_model(name, partial(PublishedDLRM, interaction="dot"), rows_scale, batch, seed)


rm1: Factory = partial(_elasticrec, "rm1")
rm2: Factory = partial(_elasticrec, "rm2")
rm3: Factory = partial(_elasticrec, "rm3")
light: Factory = partial(_elasticrec, "light")
medium: Factory = partial(_elasticrec, "medium")
heavy: Factory = partial(_elasticrec, "heavy")
