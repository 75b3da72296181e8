"""Figure 12: RM1 on CPU-only servers with one thing changed at a time."""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np

from recsplit.capacity.ids import TwoLevel
from recsplit.partition import algorithms
from recsplit.partition.accounting import series_qps
from recsplit.partition.cost import Piece
from recsplit.partition.programme import solve
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.cases import Answer, answer, heats, question, settings

RM1 = paper.CASES[0]
TITLES = {"a": "size of the MLPs", "b": "locality", "c": "number of tables", "d": "shards a table"}


@dataclass(frozen=True)
class Bar:
    """One setting of one panel: GB of both ways here and in the paper; the paper shows no whole model in panel d."""

    panel: str
    setting: str
    shards: int
    whole_gb: float
    shards_gb: float
    paper_whole_gb: float | None
    paper_shards_gb: float


def panels() -> list[Bar]:
    """Every bar of figure 12."""
    return [*_perceptrons(), *_locality(), *_tables(), *_shards()]


def _perceptrons() -> list[Bar]:
    """a: small, medium, large MLPs. Their rates aren't printed: the dense model's time is scaled by its multiply-adds."""
    asked, panel_bars = question(RM1), []
    for name, bars in paper.FIGURE_12A.items():
        model = CATALOGUE[name]
        dense_qps = RM1.dense_qps * RM1.model.mflop / model.mflop
        changed = dataclasses.replace(
            asked,
            dense_qps=dense_qps,
            whole_qps=series_qps(dense_qps, RM1.sparse_qps),
            dense_bytes=4 * model.parameters,
            dense_size_bytes=4 * model.parameters + asked.overhead_bytes,
        )
        panel_bars.append(_bar("a", f"{name} MLP", answer(changed), bars))
    return panel_bars


def _locality() -> list[Bar]:
    """b: the share of reads in the hottest tenth of the rows."""
    panel_bars = []
    for hot_share, bars in paper.FIGURE_12B.items():
        asked = question(RM1, law=TwoLevel(hot_share))
        panel_bars.append(_bar("b", f"P = {hot_share:.0%}", answer(asked), bars))
    return panel_bars


def _tables() -> list[Bar]:
    """c: the number of tables; the sparse layer's time grows with it."""
    asked, panel_bars = question(RM1), []
    for tables, bars in paper.FIGURE_12C.items():
        whole_qps = series_qps(RM1.dense_qps, RM1.sparse_qps * asked.tables / tables)
        changed = dataclasses.replace(asked, tables=tables, whole_qps=whole_qps)
        panel_bars.append(_bar("c", f"{tables} tables", answer(changed), bars))
    return panel_bars


def _shards() -> list[Bar]:
    """d: exactly so many shards a table."""
    asked = question(RM1)
    panel_bars = []
    for count, shards_gb in paper.FIGURE_12D.items():
        solved = solve(algorithms.costs(settings(asked), heats(asked)[0]), count)
        path = dataclasses.replace(solved, shards=np.full_like(solved.shards, count)).path()
        pieces = tuple(Piece(((table, *ends),)) for table in range(asked.tables) for ends in itertools.pairwise(path))
        partition = algorithms.as_partition(asked.name, heats(asked), settings(asked), pieces, "whole", None)
        panel_bars.append(_bar("d", f"{count} shards", answer(asked, partition), (None, shards_gb)))
    return panel_bars


def _bar(panel: str, setting: str, case_answer: Answer, bars: tuple[float | None, float]) -> Bar:
    return Bar(
        panel, setting, len(case_answer.one_table), case_answer.whole.memory_bytes / 1e9, case_answer.shards.memory_bytes / 1e9, *bars
    )
