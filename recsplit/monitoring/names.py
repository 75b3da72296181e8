"""What the recorded series are called: recsplit:<what>, each with a label `model` and, on all, `ensemble`.

The controller's observation has fields of the same names (recsplit_controller.values.observation.Series); a test holds the two together.
"""

PREFIX = "recsplit:"
#: Of every model, over all its servers. Rates a second; see recsplit_controller.values.observation.Series for the meaning of each.
SERIES = (
    "requests",
    "rows",
    "executions",
    "failures",
    "busy",
    "waiting",
    "pending",
    "offered",
    "mean_ms",
    "p50_ms",
    "p95_ms",
    "p99_ms",
)
#: Of every model: when the oldest of the samples was taken that count now, in Unix seconds.
DATA_S = "data_s"
#: Of every server (labels `instance`, and `part` where the scrape configuration has it): 1, or 0 where its page wasn't to be had.
UP = "up"
#: Of the build: what rates are means over, in seconds.
WINDOW_S = "window_s"
#: Of the ensemble: failed queries a second of which no composing model tells: a full queue, ids outside their tables.
UNATTRIBUTED = "unattributed_failures"
#: Of the ensemble, where a bound is given: 1 while the p95 is over it, else 0.
SLOW = "slow"

#: The label on all of them that names the build's ensemble, so that builds share a Prometheus.
ENSEMBLE = "ensemble"
#: The label that names the build whose rules recorded them: while one takes over from another, both have series.
BUILD = "build"
#: Labels of servers that all series keep, where scraping gives them: two namespaces or clusters in one Prometheus are told apart.
PLACE = ("cluster", "namespace")
#: What the job is called that scrapes the servers.
JOB = "recsplit"


def recorded(what: str) -> str:
    """The name of a recorded series."""
    return PREFIX + what
