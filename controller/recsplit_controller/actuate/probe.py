"""A request that is no user's, to learn whether every instance of a model answers. Pure.

It is made of the warm-up that the config asks for, zeros of given shapes, which the model has answered already when it was loaded.
"""

import math
import re
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import triton_to_np_dtype

#: What Triton 2.51 says where the process of an instance is gone: 'Stub process 'shop_dense_0_0' is not healthy.'
_DEAD = re.compile(r"Stub process '[^']*' is not healthy")


def request(config: Any) -> Any | None:
    """A ModelInferRequest like the first of the config's warm-ups; None where there is none, or one of other data than zeros."""
    if not config.model_warmup:
        return None
    sample = config.model_warmup[0]
    asked = service_pb2.ModelInferRequest(model_name=config.name)
    for name, tensor in sample.inputs.items():
        dtype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        if not tensor.zero_data or dtype == "STRING":
            return None
        shape = [max(sample.batch_size, 1), *tensor.dims] if config.max_batch_size else list(tensor.dims)
        asked.inputs.add(name=name, datatype=dtype, shape=shape)
        asked.raw_input_contents.append(bytes(math.prod(shape) * np.dtype(triton_to_np_dtype(dtype)).itemsize))
    return asked


def dead(message: str) -> str | None:
    """What an error of Triton's says about an instance whose process died; None where it says something else."""
    matched = _DEAD.search(message)
    return None if matched is None else matched[0]
