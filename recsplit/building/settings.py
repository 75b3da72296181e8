"""What the user sets of a build, checked when it is made."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from recsplit.building.storing import wish
from recsplit.configs.render import check_templates
from recsplit.errors import InputError
from recsplit.graph.lower.fused_tables import policy
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.load import Example, ModelSource, origin_of
from recsplit.plan import triton_releases
from recsplit.plan.plan import EmbeddingRuntime, Form, Kind, Runtime

# More is a mistake in typing: a request of so many rows passes gRPC's 2 GB, and no machine runs so many instances or threads.
_MOST_ROWS = 2**20
_MOST_PROCESSES = 4096
_MOST_KEPT = 100
_HOUR_S = 3600


@dataclass(frozen=True)
class BuildSettings:
    """What the user sets. Raises InputError for what can't be, in the words of the command line.

    `source` and `example`: as recsplit.load.load takes them. `threads` None: this machine's cores divided by the instances of all parts.
    `tolerance` None: by the narrowest dtype on the way to an output. `search_s`: how long inputs are searched on which the parts answer
    otherwise than the source, after those that are always tried. `partition` and `access`: files that recsplit partition and recsplit
    access wrote; `weights`: .safetensors. `triton`: the release of NVIDIA's container whose onnxruntime must read the sub-models.
    `embedding_runtime` and `dense_runtime` None: recsplit.building.runtimes chooses. `keep`: builds that stay in `out`, this one among
    them, for recsplit rollback. `table_dtype`: DTYPE or NAME=DTYPE, how tables' rows are stored; `table_budget`: bytes that all rows may
    take, where recsplit is to choose; `evaluation`: an .npz file of labelled rows that it chooses by, and tells the accuracy on.
    `order_by`: an access profile by whose heat rows are to lie.
    """

    source: ModelSource
    out: Path
    name: str
    example: Example | None = None
    weights: Path | None = None
    max_batch_size: int = 2048
    unknown_ids: str = "error"
    int32_ids: bool = False
    bag_form: BagForm | None = None
    embedding_instances: int = 1
    dense_instances: int = 1
    threads: int | None = None
    dense_kind: Kind = "cpu"
    embedding_runtime: EmbeddingRuntime | None = None
    dense_runtime: Runtime | None = None
    form: Form = "ensemble"
    queue_delay_us: int = 0
    queue_timeout_ms: int = 0
    templates: Path | None = None
    tolerance: float | None = None
    search_s: float = 2.0
    build_id: str | None = None
    partition: Path | None = None
    access: Path | None = None
    triton: str = triton_releases.DEFAULT
    keep: int = 2
    table_dtype: tuple[str, ...] = ()
    table_budget: int | None = None
    evaluation: Path | None = None
    order_by: Path | None = None

    def __post_init__(self) -> None:
        numbers = {
            "--max-batch-size": (self.max_batch_size, 1, _MOST_ROWS),
            "--embedding-instances": (self.embedding_instances, 1, _MOST_PROCESSES),
            "--dense-instances": (self.dense_instances, 1, _MOST_PROCESSES),
            "--keep": (self.keep, 1, _MOST_KEPT),
            "--threads": (1 if self.threads is None else self.threads, 1, _MOST_PROCESSES),
            "--queue-delay-us": (self.queue_delay_us, 0, _HOUR_S * 10**6),
            "--queue-timeout-ms": (self.queue_timeout_ms, 0, _HOUR_S * 1000),
        }
        for option, (number, least, most) in numbers.items():
            if not least <= number <= most:
                raise InputError(f"{option} is {number}", hint=f"choose a number from {least} to {most}")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:  # NaN is neither
            raise InputError(f"--tolerance is {self.tolerance:g}", hint="choose a number from 0 to below 1; 1e-5 is usual for FP32")
        if not 0 <= self.search_s <= _HOUR_S:
            raise InputError(f"--search-s is {self.search_s:g}", hint=f"choose a number of seconds from 0 to {_HOUR_S}")
        if self.dense_runtime not in (None, "onnxruntime", "native") and self.dense_kind != "gpu":
            raise InputError(
                f"the dense runtime {self.dense_runtime!r} needs a GPU, and the dense model is placed on CPU", hint="--dense-kind gpu"
            )
        if self.dense_runtime == "native" and self.dense_kind == "gpu":
            raise InputError("the dense runtime 'native' runs on a CPU, and the dense model is placed on GPU", hint="--dense-kind cpu")
        if self.form == "fused" and not (self.embedding_runtime in (None, "native") and self.dense_runtime in (None, "native")):
            raise InputError("a fused model is the engine's, and it runs both parts", hint="--embedding-runtime native, on a CPU")
        if self.form == "fused" and self.dense_kind != "cpu":
            raise InputError("a fused model is the engine's, which runs on a CPU", hint="--dense-kind cpu, or --form ensemble")
        if self.form == "fused" and self.partition is not None:
            raise InputError("a fused model has its tables in one piece", hint="--form ensemble, or leave --partition out")
        if self.order_by is not None and self.partition is not None:
            raise InputError(
                "--order-by orders whole tables, and --partition cuts them", hint="a partition made with --access has its own order"
            )
        if self.access is not None and self.partition is None:
            raise InputError("--access is of use with --partition only", hint="recsplit partition DIR --access FILE writes a partition")
        if self.partition is not None and self.bag_form == "chunked":
            raise InputError("the chunked form of bags can't be cut into shards", hint="--bags padded, or leave --bags out")
        wishes: object = self.table_dtype
        if not isinstance(wishes, tuple | list) or not all(isinstance(text, str) for text in wishes):
            raise InputError(f"table_dtype is {wishes!r}", hint='texts as --table-dtype takes them: ("int8", "price=fp32")')
        for text in self.table_dtype:
            wish(text)
        if self.table_budget is not None and not isinstance(self.table_budget, int):
            raise InputError(f"table_budget is {self.table_budget!r}", hint="a number of bytes: 2 * 10**9")
        if self.table_dtype and self.table_budget is not None:
            raise InputError("--table-dtype says how tables are stored, and --table-budget lets recsplit choose", hint="give one of them")
        if self.table_budget is not None and self.table_budget < 1:
            raise InputError(f"--table-budget is {self.table_budget} bytes", hint="a size as 2GB")
        policy(self.unknown_ids)
        triton_releases.release(self.triton)
        if self.templates is not None:
            check_templates(self.templates)

    @property
    def origin(self) -> str:
        """What the source is called in texts."""
        return origin_of(self.source)


def default_name(source: ModelSource) -> str:
    """A model's name from its source: shop.models:ranker -> ranker, exported/dlrm.onnx -> dlrm, a module of class TwoTower -> two_tower."""
    origin = origin_of(source)
    if isinstance(source, str | os.PathLike) or ":" in origin:
        stem = origin.rpartition(":")[2] if ":" in origin else Path(origin).stem
    else:
        stem = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", origin).lower()
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in stem) or "model"
