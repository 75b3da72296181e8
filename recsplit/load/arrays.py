"""The array type of this package: numpy, any dtype."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]
AnyArray: TypeAlias = NDArray[Any]
