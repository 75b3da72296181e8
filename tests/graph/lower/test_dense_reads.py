"""Constants in the dense model that a client's ids read: an id outside marks its row and fails nobody's batch."""

import numpy as np
import pytest

from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.small import agrees, table

ARRAYS = {"t": table(50, 8), "w": table(8, 1), "year": np.arange(50) % 7, "grid": np.arange(150.0, dtype=np.float32).reshape(50, 3)}
ARRAYS |= {"last": np.array([-1]), "two": np.array([1])}
SCORE = "v=Gather(t,ids) m=MatMul(v,w) k=Gather(year,ids) f=Cast<to=1>(k) "
YEAR = f"(int64[N] ids) => (float[N,1] y) {{ {SCORE} u=Unsqueeze(f,two) y=Mul(m,u) }}"
HISTORY = f"(int64[N,3] ids) => (float[N,3,1] y) {{ {SCORE} u=Unsqueeze(f,last) y=Mul(m,u) }}"
GRID = (
    "(int64[N] ids, int64[N] place) => (float[N,1] y) { v=Gather(t,ids) m=MatMul(v,w) a=Unsqueeze(ids,last) b=Unsqueeze(place,last) "
    "p=Concat<axis=1>(a,b) g=GatherND(grid,p) u=Unsqueeze(g,two) y=Mul(m,u) }"
)


@pytest.mark.parametrize("policy", ["error", "zero", "row=3"])
@pytest.mark.parametrize("text", [YEAR, HISTORY], ids=["one id", "a history"])
def test_an_id_outside_of_a_buffer_fails_no_neighbour(text: str, policy: str) -> None:
    parts = agrees(text, ARRAYS, {"ids": 50}, unknown_ids=policy)
    ids = np.random.default_rng(0).integers(0, 50, (4, 3) if text is HISTORY else (4,))
    fine = parts({"ids": ids})["y"]
    for number in (50, 2**40, -51, -(2**63), 2**63 - 1):
        bad = ids.copy()
        bad[1] = number
        answers = parts({"ids": bad})
        np.testing.assert_array_equal(answers["y"][[0, 2, 3]], fine[[0, 2, 3]])
        if policy == "error":
            assert np.isnan(answers["y"][1]).all()
            assert (answers[UNKNOWN_IDS][:, 0] >= 0).tolist() == [False, True, False, False]


def test_a_place_outside_marks_its_row_though_its_id_is_known() -> None:
    """It is behind the lookups' positions, for it belongs to none."""
    parts = agrees(GRID, ARRAYS, {"ids": 50, "place": 3})
    feeds = {"ids": np.array([1, 2, 3]), "place": np.array([0, 3, 2])}
    answers = parts(feeds)
    assert answers[UNKNOWN_IDS][:, 0].tolist()[0] == answers[UNKNOWN_IDS][:, 0].tolist()[2] == -1
    assert answers[UNKNOWN_IDS][1, 0] >= sum(lookup.width for lookup in parts.cut.lookups)
    assert np.isnan(answers["y"][1]).all() and np.isfinite(answers["y"][[0, 2]]).all()


def test_places_from_the_end_stay_what_they_were() -> None:
    parts = agrees(GRID, ARRAYS, {"ids": 50, "place": 3})
    answers = parts({"ids": np.array([1, 2]), "place": np.array([-1, 2])})
    assert (answers[UNKNOWN_IDS][:, 0] == -1).all()
    expected = ARRAYS["t"][[1, 2]] @ ARRAYS["w"] * ARRAYS["grid"][[1, 2], [2, 2]][:, None]
    np.testing.assert_allclose(answers["y"], expected, rtol=1e-5)
