"""What ElasticRec (Choi, Kim, Rhu, ISCA 2024) says of its models, its machines and its results, as data with its source.

"Read": numbers that the paper prints. "Bars": read off a figure, so good to a few percent. "Recalled": from memory of the paper, not
found again. Memory is in GB of 1e9 bytes, rates are in queries a second.
"""

from dataclasses import dataclass

from recsplit.partition.accounting import Node
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit.zoo.catalogue.shapes import Published

#: Of the latency bound the dense model is scaled to keep this share. Read.
BOUND_MS, DENSE_SHARE_OF_BOUND = 400.0, 0.65
#: The share of a shard's rows that the first so many queries touch is its utility. Read.
UTILITY_QUERIES = 1000
#: Recalled: items in a query. Utility depends on it, memory does not.
ITEMS = 32
#: The abstract's means.
MEMORY_RATIO, UTILITY_RATIO, SERVERS_RATIO = 3.3, 8.1, 1.6


@dataclass(frozen=True)
class Bars:
    """One model on one kind of server. Memory: figures 13 and 16. Replicas and utility in percent: figures 14 and 17, shards hottest
    first. Servers: figures 15 and 18."""

    whole_gb: float
    shards_gb: float
    whole_replicas: int
    whole_utility: float
    shard_replicas: tuple[int, ...]
    shard_utility: tuple[float, ...]
    whole_servers: int
    shards_servers: int

    @property
    def utility_ratio(self) -> float:
        """The shards' mean utility over the whole's, each replica counting once."""
        weighed = sum(count * share for count, share in zip(self.shard_replicas, self.shard_utility, strict=True))
        return weighed / sum(self.shard_replicas) / self.whole_utility


@dataclass(frozen=True)
class Case:
    """A model on a kind of server at the target rate, with the layer rates of figure 5 (bars) and the paper's results.

    `speed`: how much faster a shard gathers than in figure 9, which was taken on the CPU-only servers.
    `copies`: whole copies of the tables in what figure 14 plots as one replica: memory a replica over the tables' bytes.
    """

    model: Published
    kind: str
    target_qps: float
    dense_qps: float
    sparse_qps: float
    speed: float
    copies: int
    bars: Bars

    @property
    def name(self) -> str:
        """Model and kind of server."""
        return f"{self.model.name.upper()} {self.kind}"


RM1, RM2, RM3 = (CATALOGUE[name] for name in ("rm1", "rm2", "rm3"))
CPU, GPU = "CPU-only", "CPU-GPU"
CASES = (
    Case(RM1, CPU, 100, 20.6, 24.0, 1.0, 2, Bars(310, 147, 6, 8, (9, 7, 3, 2), (95, 69.5, 22, 1), 5, 3)),
    Case(RM2, CPU, 100, 6.4, 10.0, 1.0, 2, Bars(989, 374, 6, 8, (10, 5, 1), (93, 50.5, 1), 5, 3)),
    Case(RM3, CPU, 100, 5.0, 35.5, 1.0, 2, Bars(664, 84, 13, 4, (4, 3, 2), (49.5, 10.5, 1), 4, 2)),
    Case(RM1, GPU, 200, 323.0, 67.0, 67 / 24, 1, Bars(207.5, 80, 7, 8, (5, 4, 2), (96, 66, 2), 7, 5)),
    Case(RM2, GPU, 200, 321.0, 20.0, 20 / 10, 1, Bars(1047, 297.5, 11, 8, (5, 4, 2), (96, 66, 2), 11, 7)),
    Case(RM3, GPU, 200, 162.0, 195.0, 195 / 35.5, 1, Bars(168, 70, 6, 4, (2, 2, 1), (57, 9, 1), 6, 5)),
)

#: Recalled: dual-socket Xeons with 384 GB; n1-standard-32 with a T4 and 120 GB. Cores of the former: not known, 2 x 24 taken. Figure 5's
#: sparse rate of RM1 is that of 47 containers of figure 9, RM2's of 62, RM3's of 17.
NODES = {CPU: Node("dual-socket Xeon", 48, 384e9), GPU: Node("n1-standard-32 with a T4", 32, 120e9, gpus=1)}
#: Of a CPU-only server a whole model or a dense model takes one socket: figure 13 has two copies of the tables in one plotted replica.
SOCKET = 24.0

#: Figure 12, bars: GB of (model-wise, ElasticRec), RM1, CPU-only, 100 queries/s.
FIGURE_12A = {"light": (262, 160), "medium": (310, 161), "heavy": (366, 161)}
FIGURE_12B = {0.1: (312, 221), 0.5: (313, 150), 0.9: (317, 145)}
FIGURE_12C = {1: (33, 23), 4: (125, 68), 10: (311, 163), 16: (500, 232)}
FIGURE_12D = {1: 699, 2: 241, 4: 142, 8: 124, 16: 117}

#: Figure 19, by eye: (minute, queries a second), straight lines between; peaks of memory in GB (model-wise, ElasticRec).
FIGURE_19 = ((0, 45), (5, 45), (8, 85), (12, 125), (16, 160), (20, 200), (23, 200), (24, 80), (30, 80))
FIGURE_19_PEAK = (440, 205)
