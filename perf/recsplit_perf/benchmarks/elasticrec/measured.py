"""The same questions with what recsplit's own servers were measured to take: a profile in place of figures 5 and 9.

Tables, gathers and locality are still the paper's. What a shard takes is reckoned from the profile as `recsplit partition --profile` does.
"""

import dataclasses

from recsplit.capacity.profile import Fit, Profile
from recsplit.errors import InputError
from recsplit.partition import measured
from recsplit.partition.accounting import series_qps
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.cases import Question, question

#: Items in a query: what the paper's is recalled to have, and about the most that DeepRecSys's queries have.
ITEMS = (paper.ITEMS, 1000)
#: Cores of a whole container, an instance each, which share one copy of the tables. A shard's container has one.
CORES = (1, 24)
#: Containers of the whole model that the target rate asks for, RM1's in the paper. At its 100 queries a second one would do for everything.
WHOLE = 10


def questions(profile: Profile) -> list[Question]:
    """One for each number of items and of cores; instances are taken to run beside each other as fast as alone, whole ones too.

    Raises InputError where the profile is of none of the paper's models.
    """
    known = {case.model.name: case for case in paper.CASES if case.kind == paper.CPU}
    if profile.model not in known:
        raise InputError(
            f"the profile is of {profile.model!r}, which is none of the paper's models",
            hint=f"build and profile one of {', '.join(case.model.factory for case in known.values())}",
        )
    return [_question(profile, known[profile.model], items, cores) for items in ITEMS for cores in CORES]


def _question(profile: Profile, case: paper.Case, items: int, cores: int) -> Question:
    embedding, dense = profile.part("embedding").alone.fit, profile.part("dense").alone.fit
    dense_qps = cores * 1e3 / dense.ms(items)
    whole_qps = series_qps(dense_qps, cores * 1e3 / embedding.ms(items))
    # The profile doesn't say how large its tables are: taken for what the zoo makes unless told otherwise.
    settings = measured.settings(profile, WHOLE * whole_qps, items, case.model.size_bytes(case.model.rows_scale))
    assert settings.front is not None
    return dataclasses.replace(
        question(case),
        name=f"{case.model.name.upper()}, {items:,} items a query, whole containers of {cores} {'core' if cores == 1 else 'cores'}",
        # The paper's x is what one item gathers of one table.
        gather=Fit(settings.fit.a_ms, settings.fit.b_ms * items, settings.fit.r2),
        front_row_ms=settings.front.row_ms * items / cores,
        whole_qps=whole_qps,
        dense_qps=dense_qps,
        target_qps=settings.target_qps,
        overhead_bytes=settings.min_bytes,
        dense_size_bytes=settings.front.size_bytes,
        items=items,
        whole_cores=float(cores),
        dense_cores=float(cores),
        shard_cores=1.0,
    )
