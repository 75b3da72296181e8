"""What recsplit's algorithms gain over the paper's, each judged by the one objective that all share."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.partition import algorithms, cost
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.cases import Question, answer, heats, settings

#: Shards of one table at most: figure 12d's memory hardly falls beyond.
MOST_SHARDS = 8
#: Recalled, USD: a GB and a core of Google's n1 by the hour, and a GB sent between zones. They come to 1.52 an hour for an n1-standard-32.
PRICES = cost.Prices(gb_hour=0.004237, core_hour=0.031611, gb_sent=0.01)
MEMORY, PRICE, BOUND = "memory", "price", "memory, p95 in bound"


@dataclass(frozen=True)
class Gain:
    """One algorithm at one question: its cost by the objective, in `unit`; None where it finds nothing that keeps the bound."""

    question: str
    objective: str
    algorithm: str
    cost: float | None
    unit: str
    memory_gb: float | None
    replicas: int | None
    calls: int | None
    front_gb: float | None
    utility: float | None


def gains(asked: Sequence[Question], advance: Callable[[int], None]) -> list[Gain]:
    """Every algorithm at every question and objective; `advance` is called with 1 after each."""
    all_gains = []
    for one in asked:
        for objective, cost_settings in objectives(one).items():
            for algorithm in algorithms.ALGORITHMS:
                all_gains.append(_gain(one, objective, cost_settings, algorithm))
                advance(1)
    return all_gains


def count(asked: Sequence[Question]) -> int:
    """How many there are."""
    return len(asked) * len(algorithms.ALGORITHMS) * 3


def relative(all_gains: Sequence[Gain]) -> dict[tuple[str, str, str], float]:
    """Cost over the paper's algorithm's, by question, objective and algorithm; NaN where either finds no partition."""
    base = {(gain.question, gain.objective): gain.cost for gain in all_gains if gain.algorithm == "paper"}
    return {
        (gain.question, gain.objective, gain.algorithm): (gain.cost or math.nan) / (base[gain.question, gain.objective] or math.nan)
        for gain in all_gains
    }


def objectives(asked: Question) -> dict[str, cost.CostSettings]:
    """Allocated memory, as in the paper; memory, cores and network at prices; memory where all shards of 95 % of the queries answer in what
    the dense model leaves of the bound."""
    plain = settings(asked, most=MOST_SHARDS)
    left_ms = paper.BOUND_MS - 1e3 / asked.dense_qps
    return {
        MEMORY: plain,
        PRICE: dataclasses.replace(plain, prices=PRICES),
        BOUND: dataclasses.replace(plain, bound=cost.CallBound(left_ms, 95.0)),
    }


def _gain(asked: Question, objective: str, cost_settings: cost.CostSettings, algorithm: str) -> Gain:
    try:
        partition = algorithms.partition(asked.name, heats(asked), cost_settings, algorithm)
    except InputError:
        return Gain(asked.name, objective, algorithm, None, cost_settings.unit, None, None, None, None, None)
    partition_answer = answer(asked, partition)
    shards_apart = [shard for shard in partition.shards if shard.location == "own"]
    return Gain(
        asked.name,
        objective,
        algorithm,
        partition.cost,
        cost_settings.unit,
        partition_answer.shards.memory_bytes / 1e9,
        partition_answer.shards.replicas,
        len(shards_apart),
        sum(shard.size_bytes for shard in partition.shards if shard.location == "front") / 1e9,
        partition_answer.shards.utility,
    )
