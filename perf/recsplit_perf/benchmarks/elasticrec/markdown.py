"""docs/elasticrec.md from the same sections as the page."""

from collections.abc import Sequence

from recsplit_perf.benchmarks.elasticrec import contents
from recsplit_perf.benchmarks.elasticrec.result import Result
from recsplit_perf.report.markdown import markdown as page
from recsplit_perf.report.page import Section

LEAD = """\
Everything here is arithmetic and simulation, with the rates that ElasticRec (Choi, Kim, Rhu, ISCA 2024) prints or plots and,
where it says so, with rates that `recsplit profile` measured. Figures were read off by eye, to a few percent."""


def markdown(result: Result, sections: Sequence[Section]) -> str:
    """The page: facts, then each section with its table."""
    profiles = "".join(f" --profile perf/results/{one.model}_profile.json" for one in result.measured)
    command = f"python -m recsplit_perf.benchmarks.elasticrec{profiles} -o docs/elasticrec.md"
    return page("ElasticRec: whole models against shards", command, contents.facts(result), LEAD, sections)
