"""What of the tables remains in the dense model is told at the end of a build: its share, the largest of it, and why."""

from pathlib import Path

import numpy as np

from tests.build.onnx_models import built
from tests.graph.small import table

LEFT = (
    "(int64[N] item, int64[N,2] a, int64[N,2] b) => (float[N,1] y) "
    "{ v=Gather(t,item) s=MatMul(v,w) g=GatherND(small,a) h=GatherND(big,b) k=Add(g,h) i=Unsqueeze(k,one) y=Add(s,i) }"
)
CUT = "(int64[N] item) => (float[N,1] y) { v=Gather(t,item) y=MatMul(v,w) }"
ARRAYS = {"t": table(50, 8), "w": table(8, 1), "small": table(50, 8), "big": table(100, 8), "one": np.array([1])}


def test_the_share_of_bytes_that_stays_is_told_with_the_largest_and_its_reason(tmp_path: Path) -> None:
    *_, note = built(tmp_path, LEFT, ARRAYS).notes
    assert note.startswith("Note: 75 % of the bytes of tables that requests read by ids, 4.8 kB of 6.4 kB, stays in the dense model. ")
    assert "GatherND 'node_3' on 'big' (3.2 kB, the largest of 2): it reads by several indices at once" in note


def test_nothing_is_told_where_every_table_is_cut_out(tmp_path: Path) -> None:
    assert not any("stays in the dense model" in note for note in built(tmp_path, CUT, ARRAYS).notes)
