"""Bags that an exporter turned into loops, read back as bags; and exporters' faults that no rewriting can mend.

    numbers   sizes and positions as polynomials
    values    reading them off a graph
    turns     how a Loop turns
    rows      what one turn reads
    pooled    what one turn makes of it
    bags      the Loop as a whole
    collapse  the rewriting
    faults    what is wrong for good

Lowering bags to standard operators does not belong here.
"""

from recsplit.graph.loops.collapse import Collapsed, collapse_loops
from recsplit.graph.loops.faults import Fault, faults

__all__ = ["Collapsed", "Fault", "collapse_loops", "faults"]
