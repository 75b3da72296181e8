"""A build of a quantized table: its rows lie in the file as they are stored, and no shards are made of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.plan.files import TABLES_FILE, whole_pages
from recsplit.plan.plan import Segment
from recsplit.proof import published
from tests.build.onnx_models import built
from tests.build.partitions import write_partition
from tests.graph.small import table

QUANTIZED = np.random.default_rng(0).integers(0, 256, (5000, 16)).astype(np.uint8)
ARRAYS: dict[str, Any] = {"q": QUANTIZED, "s": np.float32(0.01), "z": np.uint8(139), "t": table(40, 16), "w": table(16, 1)}
TEXT = (
    "(int64[N,3] ids, int64[N,3] b) => (float[N,3,1] y) "
    "{ r=Gather(q,ids) v=DequantizeLinear(r,s,z) u=Gather(t,b) a=Add(u,v) y=MatMul(a,w) }"
)


@pytest.mark.parametrize("policy", ["error", "zero", "row=3"])
def test_rows_stay_as_they_are_stored_and_the_build_is_proved_again(policy: str, tmp_path: Path) -> None:
    build = built(tmp_path, TEXT, ARRAYS, unknown_ids=policy)
    assert next((item.name, item.dtype, item.size_bytes) for item in build.plan.tables) == ("q", "UINT8", QUANTIZED.nbytes)
    assert not any("stays in the dense model" in note for note in build.notes)
    data = (build.repository / "m_embedding" / "1" / TABLES_FILE).read_bytes()
    assert data[: QUANTIZED.nbytes] == QUANTIZED.tobytes() and data[QUANTIZED.nbytes :][:16] == bytes([139] * 16)
    assert len(data) == whole_pages(QUANTIZED.nbytes + 16) + 41 * 16 * 4
    assert all(difference.ok for difference in published.verify(build.repository))


def test_shards_of_quantized_rows_are_refused(tmp_path: Path) -> None:
    cut = write_partition(tmp_path / "p.json", [[Segment("q", 0, 5000)], [Segment("t", 0, 40)]])
    with pytest.raises(InputError, match="table 'q' is UINT8: shards add up partial results"):
        built(tmp_path, TEXT, ARRAYS, partition=cut)
