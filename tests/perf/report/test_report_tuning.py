"""The report's section on a tuning, and what is read of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from recsplit.capacity.search import figures
from recsplit.commands.tune_shown import concluded
from recsplit.errors import InputError
from recsplit.tuning import outcome as outcomes
from recsplit.tuning.climb import Climb, Step
from recsplit.tuning.joint import Tried
from recsplit.tuning.outcome import Outcome
from recsplit.tuning.race import Raced
from recsplit.tuning.setting import Setting
from recsplit.tuning.tune import Reason, Simulated
from recsplit_perf.report import tuning
from tests.tuning.asked import ALWAYS, BOUND, NEVER, PRESENT, about

CHOSEN = Setting("fused", 2, 1, 1, 32, 500)


def tuned(*, served: bool = True, better: bool = True) -> Outcome:
    said = Simulated(
        Climb((Step(16, NEVER), Step(32, about(80.0)), Step(64, about(90.0)))),
        (Tried(PRESENT, about(90.0)), Tried(CHOSEN, about(150.0)), Tried(dataclasses.replace(CHOSEN, threads=2), ALWAYS)),
    )
    raced = Raced((Tried(PRESENT, about(85.0)), Tried(CHOSEN, about(120.0))), {PRESENT: (about(85.0),), CHOSEN: (about(120.0),)})
    return outcomes.outcome(
        model="shop",
        version=3,
        workload="even",
        bound=BOUND,
        cores=2,
        settings=60,
        present=PRESENT,
        said=said,
        raced=raced if served else None,
        chosen=CHOSEN if better else PRESENT,
        reasons=[Reason("form", "ensemble", "fused", about(95.0))],
        published=4 if served and better else None,
    )


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    for one in (tuned(), tuned(served=False), tuned(better=False)):
        (tmp_path / outcomes.OUTCOME_FILE).write_text(outcomes.to_json(one))
        assert outcomes.read(tmp_path) == one


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"router": "shop"}'])
def test_what_is_no_outcome_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / outcomes.OUTCOME_FILE).write_text(text)
    with pytest.raises(InputError):
        outcomes.read(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        outcomes.read(tmp_path / "nothing")


def test_the_section_says_what_was_tried_and_chosen() -> None:
    section = tuning.section(tuned())
    assert section.table is not None
    first, second, because = section.table.rows
    assert first[0] == f"{PRESENT} (present)" and second[0] == f"{CHOSEN} (chosen)"
    assert because == ("chosen, but form ensemble: simulated", "95", "93.1 to 96.9")
    assert f"Chosen: {CHOSEN}" in section.lead and "on real servers" in section.lead
    assert all(figure.startswith("<svg") for figure in section.figures)


def test_without_servers_and_without_a_better_one_it_says_so() -> None:
    alone, kept = tuning.section(tuned(served=False)), tuning.section(tuned(better=False))
    assert "by the simulator alone" in alone.lead
    assert alone.table is not None and alone.table.rows[0][1:] == ("150", "147 to 153")
    assert "None is certainly better" in kept.lead


def test_the_last_sentence_is_what_happened() -> None:
    folder = Path("models")
    assert concluded(tuned(), folder).startswith(f"Version 4 in models is served with {CHOSEN}")
    assert "no server was asked" in concluded(tuned(served=False), folder)
    assert "No setting is certainly better" in concluded(tuned(better=False), folder)
    hopeless = tuple(dataclasses.replace(one, figures=figures(NEVER)) for one in tuned().live)
    assert "No setting meets the bound" in concluded(dataclasses.replace(tuned(better=False), live=hopeless), folder)
    assert "--dry-run" in concluded(dataclasses.replace(tuned(), published=None), folder)
    assert json.loads(outcomes.to_json(tuned()))["published"] == 4
