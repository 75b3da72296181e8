"""Ids that a vocabulary maps to rows: cut with it on the embedding side, and proved on its keys."""

from pathlib import Path

import numpy as np
import pytest

from recsplit.plan.files import REFERENCES_FILE
from recsplit.proof.cases import recorded
from tests.build.onnx_models import built
from tests.graph.small import table

KEYS = (100001, 100007, 900000000003)
ENCODER = "ai.onnx.ml.LabelEncoder<keys_int64s=[100001,100007,900000000003],values_int64s=[1,2,3],default_int64={default}>"
TEXT = "(int64[N,3] raw) => (float[N,2,1] y) {{ r=Slice(raw,one,three,one) i={encoder}(r) v=Gather(t,i) y=MatMul(v,w) }}"
ARRAYS = {"t": table(4, 8), "w": table(8, 1), "one": np.array([1]), "three": np.array([3])}


@pytest.mark.parametrize("default", [0, -1])
@pytest.mark.parametrize("policy", ["error", "zero", "row=2"])
def test_a_vocabulary_is_proved_on_its_keys(default: int, policy: str, tmp_path: Path) -> None:
    build = built(tmp_path, TEXT.format(encoder=ENCODER.format(default=default)), ARRAYS, unknown_ids=policy)
    cases = {case.name: case.inputs["raw"] for case in recorded(build.repository / "m" / "1" / REFERENCES_FILE)}
    assert set(np.unique(cases["keys of vocabularies"][:, 1:])) == set(KEYS)
    assert not any("stays in the dense model" in note for note in build.notes)
