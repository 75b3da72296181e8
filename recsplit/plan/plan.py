"""The plan: what one build decided, as frozen values that every later stage reads.

Made once by `build`, stored as plan.json in the ensemble's version folder, never changed. Standard library
only, so that a client or a controller can read it with nothing else installed. What runs at this moment
(instances, replicas) is not here.

Dims never hold the batch dimension: it is the first one of every tensor, always, and always dynamic.
Dtypes are Triton's (FP32, INT64, BOOL, ...).
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from recsplit.plan.strict_json import read_json

SCHEMA = 5

#: Name of the tensor that marks rows with an id outside its table: INT64 [batch, 2] = (position, id), position -1
#: where the row is fine. Positions count the lookups' columns in plan order; see Lookup.width.
UNKNOWN_IDS = "unknown_ids"

Pooling = Literal["none", "sum", "mean", "max", "graph"]
PlainPooling = Literal["none", "sum", "mean", "max"]
#: "native": recsplit's own engine, which runs the lookups itself and ONNX models by ONNX Runtime's C API.
Runtime = Literal["onnxruntime", "onnxruntime-tensorrt", "tensorrt", "native"]
EmbeddingRuntime = Literal["onnxruntime", "native"]
#: "ensemble": a step for each part, scaled apart; "fused": one model of the engine, which runs the parts one after the other itself.
Form = Literal["ensemble", "fused"]
Kind = Literal["cpu", "gpu"]
Role = Literal["embedding", "shard", "dense"]
#: Where a shard's servers are: in the front server, beside the dense model, or on servers of their own.
Location = Literal["front", "own"]


@dataclass(frozen=True)
class Tensor:
    """A named tensor: Triton dtype, and dims without the batch dimension (-1: may vary)."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """An embedding table of rows x dim, whose vectors are of this dtype.

    `stored`: how a row lies in the file: of that dtype; of FP32 also FP16 or BF16; or scaled, INT8 or INT4: a scale and a bias and for each
    number a code of so many bits (recsplit.rows.scaled). `size_bytes`: of all rows as they are stored.
    """

    name: str
    rows: int
    dim: int
    dtype: str
    stored: str
    size_bytes: int

    @property
    def is_rounded(self) -> bool:
        """Whether its rows are stored in fewer bits than the source has them."""
        return self.stored != self.dtype


@dataclass(frozen=True)
class Resident:
    """Memory that `share` of all reads needs: bytes of the pages with the rows that are read most, by heat and as the source has them."""

    share: float
    by_heat_bytes: int
    as_they_were_bytes: int


@dataclass(frozen=True)
class Loss:
    """What storing a table's rows in fewer bits changed.

    No number by more than `largest`, nor by more than half a step of its row, of which `half_step` is the coarsest; `rms`: the root of the
    mean square of the changes; `rms_numbers`: of the numbers. `weights`: what the source calls the table, by which it is rounded again.
    """

    table: str
    weights: tuple[str, ...]
    stored: str
    largest: float
    half_step: float
    rms: float
    rms_numbers: float


@dataclass(frozen=True)
class Lookup:
    """One reading of a table.

    `inputs` and `columns` say which part of which client inputs holds the ids: columns [first, last) of the
    one input's second dimension (of the input flattened behind the batch, row-major, where it has more), None
    where that can't be told (hashed or otherwise computed ids, perhaps of several inputs) or where the input is
    one-dimensional. `shift`: row = id + shift. `direct` is true where
    input, columns and shift tell the whole way from the client's id to the row; there is one input then.
    `limit`: ids 0 .. limit-1 of the client's input are inside the table (None: every id is, as after a modulo).
    `width`: positions this lookup takes in `unknown_ids`. Pooling "graph": pooled by the model's own operators, which moved along.
    """

    name: str
    table: str
    pooling: Pooling
    inputs: tuple[str, ...]
    columns: tuple[int, int] | None
    shift: int
    direct: bool
    limit: int | None
    width: int


@dataclass(frozen=True)
class Bags:
    """Ragged inputs, and the form in which Triton can batch them.

    A model that takes (values, offsets) or (values, lengths) has no batch dimension on `values`. Clients of
    the ensemble send rows instead: `values` [batch, slots], each row's ids for all features one after the
    other, padded on the right; `lengths` INT64 [batch, features], how many of them belong to each feature;
    `weights` [batch, slots] where the model has per-sample weights. recsplit.plan.ragged converts both ways.

    The model's own inputs: `source_values` [nnz]; then `source_offsets` [batch] (or [batch + 1] with
    `include_last_offset`; row `source_row` of a [features, batch] tensor where set) or `source_lengths`
    ([batch], or [features * batch] key-major as TorchRec has them); `source_weights` [nnz].
    """

    values: str
    lengths: str
    weights: str | None
    features: tuple[str, ...]
    source_values: str
    source_offsets: str | None
    source_lengths: str | None
    source_weights: str | None
    source_row: int | None
    include_last_offset: bool


@dataclass(frozen=True)
class Submodel:
    """One of the parts that Triton loads, with the settings its config.pbtxt is rendered from."""

    name: str
    role: Role
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    runtime: Runtime
    kind: Kind
    instances: int
    threads: int

    @property
    def workers(self) -> int:
        """What computes of it at a time, where the engine runs it: its instances share these."""
        return self.threads * self.instances


@dataclass(frozen=True)
class Segment:
    """Rows of one table: ranks [first, last), 0 the most read. Where no access profile was given, a row's rank is its number."""

    table: str
    first: int
    last: int


@dataclass(frozen=True)
class Range:
    """Places [first, last) of the fused table that the tensor `places` points into; its rows are `dim` wide, `dtype` as stored."""

    places: str
    first: int
    last: int
    dim: int
    dtype: str


@dataclass(frozen=True)
class Reading:
    """How the positions of a places tensor become vectors of one boundary tensor.

    A row of `places` is read from the left: vector i pools the next widths[i] positions by poolings[i] ("none": one position).
    `output` holds the vectors one after the other, in that order: its dims, flattened, are [len(widths) * dim].
    """

    places: str
    output: str
    widths: tuple[int, ...]
    poolings: tuple[PlainPooling, ...]


@dataclass(frozen=True)
class Partial:
    """A shard's part of a boundary tensor, and the name of the shard's output that holds it."""

    boundary: str
    output: str


@dataclass(frozen=True)
class Shard:
    """The rows that one shard holds, and the model that reads them. `location` and `replicas` are what the partition wished.

    `partials`: what it gives of each boundary tensor that its rows are pooled into. `ranges`: the same rows as places, one for each
    fused table of which it holds any; `size_bytes`: the rows, no padding.
    """

    model: Submodel
    partials: tuple[Partial, ...]
    segments: tuple[Segment, ...]
    ranges: tuple[Range, ...]
    location: Location
    replicas: int
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """Where the model came from: kind and the text the user gave, or what an object is called; weights file, if any.

    "module": a torch.nn.Module in memory; the other kinds may have been files or objects.
    """

    kind: Literal["onnx", "pt2", "factory", "module"]
    spec: str
    weights: str | None


@dataclass(frozen=True)
class Plan:
    """Everything one build decided. `build` is the random id that all parts of this build carry; queue_timeout_us 0: none.

    `shards`: () where the model is not partitioned. `readings`: () there too, and where the pooling isn't plain (ragged, masked,
    by the model's own operators). `losses`: of the tables that are stored in fewer bits; the source means the source with its rows so
    rounded, wherever the parts are compared with it. `ordered_by`: the SHA-256 of the access profile by whose heat rows lie,
    "" where they lie as the source has them; `resident`: what that saves by the same profile.
    """

    name: str
    version: int
    build: str
    source: Source
    max_batch_size: int
    queue_delay_us: int
    queue_timeout_us: int
    unknown_ids: str  # "error", "zero" or "row=N"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    boundary: tuple[Tensor, ...]
    tables: tuple[Table, ...]
    lookups: tuple[Lookup, ...]
    bags: tuple[Bags, ...]
    embedding: Submodel
    shards: tuple[Shard, ...]
    readings: tuple[Reading, ...]
    dense: Submodel
    form: Form
    losses: tuple[Loss, ...]
    ordered_by: str
    resident: tuple[Resident, ...]
    tolerance: float  # largest relative error accepted between source and parts
    schema: int = SCHEMA

    @property
    def submodels(self) -> tuple[Submodel, ...]:
        """All parts in the order of their steps."""
        return (self.embedding, *(shard.model for shard in self.shards), self.dense)

    @property
    def native(self) -> frozenset[str]:
        """The parts that recsplit's engine runs, where a server has it, by name."""
        return frozenset(model.name for model in self.submodels if model.runtime == "native")

    @property
    def loaded(self) -> tuple[Submodel, ...]:
        """The parts that Triton loads as models of their own: none where one model runs them all."""
        return self.submodels if self.form == "ensemble" else ()

    @property
    def fused(self) -> Submodel:
        """The parts as one model, with the ensemble's name, inputs and outputs, and the embedding model's instances and threads."""
        return dataclasses.replace(self.embedding, name=self.name, inputs=self.inputs, outputs=self.outputs)


def to_json(plan: Plan) -> str:
    """The plan as indented JSON that ends in a newline."""
    return json.dumps(dataclasses.asdict(plan), indent=1) + "\n"


def from_json(text: str, *, origin: str = "plan.json") -> Plan:
    """Read a plan strictly. Raises InputError on broken JSON, another schema number, or an unknown, missing or ill-typed key."""
    return read_json(Plan, text, schema=SCHEMA, origin=origin, again="build the model again")
