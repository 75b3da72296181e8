"""The published models of the zoo with their numbers: DeepRecSys, ElasticRec, facebookresearch/dlrm.

Sources: DeepRecSys (Gupta et al., ISCA 2020), Tables I and II, and models/configs of its repository, whose sizes these
are where the two differ; ElasticRec (Choi et al., ISCA 2024), Tables I and II; bench/ of facebookresearch/dlrm.
"""

from recsplit.zoo.catalogue.shapes import Published, Stack, Tables

DEEPRECSYS = "DeepRecSys, ISCA 2020"
ELASTICREC = "ElasticRec, ISCA 2024"
FACEBOOK = "facebookresearch/dlrm"

#: 40 behaviours, one a step of the recurrence (DIEN).
DIEN_STEPS, DIEN_STATE = 40, 64
#: Behaviour tables of DIN, each with an attention unit of its own.
DIN_BEHAVIOURS = 250

_KAGGLE_ROWS = (
    *(1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194),
    *(27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572),
)
_TERABYTE_ROWS = (  # --max-ind-range=10000000
    *(9_980_333, 36_084, 17_217, 7378, 20_134, 3, 7112, 1442, 61, 9_758_201, 1_333_352, 313_829, 10),
    *(2208, 11_156, 122, 4, 970, 14, 9_994_222, 7_267_859, 9_946_608, 415_421, 12_420, 101, 36),
)


def _cat(
    name: str, p95_bound_ms: float, tables: Tables, dim: int, bottom: tuple[int, ...], top: tuple[int, ...], rows_scale: float
) -> Published:
    """One of DeepRecSys's DLRMs: what comes out of the bottom and of the tables is concatenated."""
    width = bottom[-1] + tables.count * dim
    return Published(
        name=name,
        factory=f"recsplit.zoo.deeprecsys:{name}",
        paper=DEEPRECSYS,
        p95_bound_ms=p95_bound_ms,
        tables=(tables,),
        dim=dim,
        dense=bottom[0],
        stacks=(Stack("bottom", bottom), Stack("top", (width, *top))),
        rows_scale=rows_scale,
        hot_share=0.1,
    )


def _dot(
    name: str,
    module: str,
    paper: str,
    tables: tuple[Tables, ...],
    bottom: tuple[int, ...],
    top: tuple[int, ...],
    rows_scale: float,
    *,
    p95_bound_ms: float | None = None,
    hot_share: float | None = None,
    note: str = "",
) -> Published:
    """A DLRM with dot products of all pairs of vectors; a vector is as wide as what comes out of the bottom."""
    vectors = 1 + sum(group.count for group in tables)
    width = bottom[-1] + vectors * (vectors - 1) // 2
    return Published(
        name=name,
        factory=f"recsplit.zoo.{module}:{name}",
        paper=paper,
        p95_bound_ms=p95_bound_ms,
        tables=tables,
        dim=bottom[-1],
        dense=bottom[0],
        stacks=(Stack("bottom", bottom), Stack("top", (width, *top))),
        rows_scale=rows_scale,
        hot_share=hot_share,
        note=note,
    )


def _elasticrec(
    name: str, tables: int, lookups: int, bottom: tuple[int, ...], top: tuple[int, ...], rows_scale: float, note: str = ""
) -> Published:
    silent = "ElasticRec names no interaction: dot products, as in facebookresearch/dlrm, on which it builds"
    return _dot(
        name,
        "elasticrec",
        ELASTICREC,
        (Tables(tables, 20_000_000, lookups),),
        bottom,
        top,
        rows_scale,
        p95_bound_ms=400,
        hot_share=0.9,
        note=f"{silent}; {note}" if note else silent,
    )


def _multi_task(name: str, tasks: int, note: str) -> Published:
    return Published(
        name=name,
        factory=f"recsplit.zoo.deeprecsys:{name}",
        paper=DEEPRECSYS,
        p95_bound_ms=25,
        tables=(Tables(41, 500_000, 1), Tables(2, 5_000_000, 1)),
        dim=32,
        dense=512,
        stacks=(Stack("shared", (1888, 1024, 512)), Stack("tasks", (512, 256, 128), copies=tasks), Stack("scores", (128, 1), copies=tasks)),
        rows_scale=0.05,
        hot_share=0.1,
        note=f"{note}the score over the last 128 of each task is ours",
    )


_NCF = Published(
    name="ncf",
    factory="recsplit.zoo.deeprecsys:ncf",
    paper=DEEPRECSYS,
    p95_bound_ms=5,
    tables=(Tables(2, 140_000, 1), Tables(2, 28_000, 1)),
    dim=64,
    dense=0,
    stacks=(Stack("deep", (128, 256, 256, 128, 64)), Stack("final", (128, 64)), Stack("score", (64, 1))),
    rows_scale=1.0,
    hot_share=0.1,
    note="the first two tables are multiplied, as in the NCF paper (the artefact adds them); the score over the last 64 is ours",
)

_WIDE_AND_DEEP = Published(
    name="wide_and_deep",
    factory="recsplit.zoo.deeprecsys:wide_and_deep",
    paper=DEEPRECSYS,
    p95_bound_ms=25,
    tables=(Tables(27, 1_000_000, 1),),
    dim=32,
    dense=512,
    stacks=(Stack("deep", (1376, 1024, 512, 256, 1)),),
    rows_scale=0.05,
    hot_share=0.1,
)

_DIN = Published(
    name="din",
    factory="recsplit.zoo.deeprecsys:din",
    paper=DEEPRECSYS,
    p95_bound_ms=100,
    tables=(Tables(1, 1_000_000, 3), Tables(DIN_BEHAVIOURS, 100_000, 3), Tables(2, 10_000_000, 3)),
    dim=32,
    dense=0,
    stacks=(Stack("attention", (96, 1, 32), copies=DIN_BEHAVIOURS), Stack("predict", (128, 200, 80, 2))),
    rows_scale=0.05,
    hot_share=0.1,
    note="250 behaviour tables, as configured; the artefact's code makes 251, and 1 where the configuration comes from a file",
)

_DIEN = Published(
    name="dien",
    factory="recsplit.zoo.deeprecsys:dien",
    paper=DEEPRECSYS,
    p95_bound_ms=35,
    tables=(Tables(41, 500_000, 1), Tables(2, 5_000_000, 1)),
    dim=32,
    dense=0,
    stacks=(
        Stack("interest_inputs", (32, 3 * DIEN_STATE), steps=DIEN_STEPS),
        Stack("interest_states", (DIEN_STATE, 3 * DIEN_STATE), steps=DIEN_STEPS, bias=False),
        Stack("attention", (32, DIEN_STATE), bias=False),
        Stack("evolution_inputs", (DIEN_STATE, 3 * DIEN_STATE), steps=DIEN_STEPS),
        Stack("evolution_states", (DIEN_STATE, 3 * DIEN_STATE), steps=DIEN_STEPS, bias=False),
        Stack("predict", (160, 200, 80, 2)),
    ),
    rows_scale=0.05,
    hot_share=0.1,
    note="GRU, attention and AUGRU as in the DIEN paper, 3.5 MFLOP; the artefact has two tanh recurrences of the same width, 1.6",
)

_MODELS = (
    _NCF,
    _WIDE_AND_DEEP,
    _multi_task("mt_wide_and_deep", 1, ""),
    _multi_task("mt_wide_and_deep_8", 8, "8 tasks, as in RecSSD's fork; "),
    _cat("dlrm_rmc1", 100, Tables(8, 4_000_000, 80), 32, (128, 64, 32), (256, 64, 1), 0.05),
    _cat("dlrm_rmc2", 400, Tables(32, 500_000, 120), 64, (256, 128, 64), (128, 64, 1), 0.05),
    _cat("dlrm_rmc3", 100, Tables(10, 2_000_000, 20), 32, (2560, 1024, 256, 32), (512, 256, 1), 0.1),
    _DIN,
    _DIEN,
    _elasticrec("rm1", 10, 128, (256, 128, 32), (256, 64, 1), 0.01),
    _elasticrec("rm2", 32, 128, (256, 128, 32), (512, 128, 1), 0.0025),
    _elasticrec("rm3", 10, 32, (2560, 512, 32), (512, 128, 1), 0.01),
    _elasticrec("light", 10, 128, (64, 32, 32), (64, 32, 1), 0.01, "the micro-benchmark's small perceptrons over RM1's tables"),
    _elasticrec("medium", 10, 128, (256, 128, 32), (256, 64, 1), 0.01, "the micro-benchmark's name for RM1"),
    _elasticrec("heavy", 10, 128, (512, 256, 32), (512, 64, 1), 0.01, "the micro-benchmark's large perceptrons over RM1's tables"),
    _dot(
        "criteo_kaggle",
        "facebook",
        FACEBOOK,
        tuple(Tables(1, rows, 1) for rows in _KAGGLE_ROWS),
        (13, 512, 256, 64, 16),
        (512, 256, 1),
        0.1,
    ),
    _dot(
        "criteo_terabyte",
        "facebook",
        FACEBOOK,
        tuple(Tables(1, rows, 1) for rows in _TERABYTE_ROWS),
        (13, 512, 256, 64),
        (512, 512, 256, 1),
        0.02,
        note="rows as hashed by --max-ind-range=10000000",
    ),
    _dot("random_benchmark", "facebook", FACEBOOK, (Tables(8, 1_000_000, 100),), (512, 512, 64), (1024, 1024, 1024, 1), 0.1, hot_share=0.1),
)

#: Every published model by name, in the order of the papers.
CATALOGUE = {model.name: model for model in _MODELS}
