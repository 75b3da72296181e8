"""The same questions with what recsplit's own servers were measured to take: a profile in place of figures 5 and 9.

Tables, gathers and locality are still the paper's. A shard of one table is not measured: its a is the embedding model's, which reads all
tables, and its b that model's time a row over the table rows that it gathers for one.
"""

import dataclasses

from recsplit.capacity.profile import Fit, Profile
from recsplit.errors import InputError
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
    embedding, dense = profile.part("embedding"), profile.part("dense")
    dense_qps = cores * 1e3 / dense.alone.fit.ms(items)
    whole_qps = series_qps(dense_qps, cores * 1e3 / embedding.alone.fit.ms(items))
    return dataclasses.replace(
        question(case),
        name=f"{case.model.name.upper()}, {items:,} items a query, whole containers of {cores} {'core' if cores == 1 else 'cores'}",
        gather=gather(profile, items),
        whole_qps=whole_qps,
        dense_qps=dense_qps,
        target_qps=WHOLE * whole_qps,
        overhead_bytes=overhead_bytes(profile),
        items=items,
        whole_cores=float(cores),
        dense_cores=float(cores),
        shard_cores=1.0,
    )


def gather(profile: Profile, items: int) -> Fit:
    """Latency of a shard of one table by the rows of it that one item gathers, ms, for queries of so many items: the paper's x."""
    alone = profile.part("embedding").alone.fit
    return Fit(alone.a_ms, alone.b_ms / profile.gathers_per_row * items, alone.r2)


def overhead_bytes(profile: Profile) -> int:
    """What a container takes besides its rows: Triton, and the process of a sub-model that has no tables to speak of."""
    dense = profile.part("dense")
    return profile.server_pss_bytes + dense.pss_bytes // dense.instances
