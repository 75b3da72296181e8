"""The array type of this package, numpy of any dtype; and what runs a source."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]


class SourceRun(Protocol):
    """A source as a function of its inputs by name."""

    def __call__(self, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """Its outputs by name."""

    def weight(self, name: str) -> Array | None:
        """The numbers of a weight, by the name that the model's initializer has; None where the source has none of that name."""

    def with_weights(self, weights: Mapping[str, Array]) -> "SourceRun":
        """The same source with other numbers, FP32, in some of its weights; their shapes are those of its own."""
