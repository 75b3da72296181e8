"""Models of public libraries, a factory for each: factory(batch, seed) -> (module, example inputs). Trying them does not belong here.

A library is imported when one of its models is made, since it is there only in the environment of recsplit_perf.benchmarks.libraries.
The names are known without it.
"""

from recsplit_perf.benchmarks.library_models import recbole, rechub, widedeep
from recsplit_perf.benchmarks.library_models.seeds import Factory

#: Each library by its name on PyPI, its models by name.
LIBRARIES: dict[str, dict[str, Factory]] = {
    "pytorch-widedeep": widedeep.MODELS,
    "recbole": recbole.MODELS,
    "torch-rechub": rechub.MODELS,
}
#: What is not tried of a library, and why.
LEFT_OUT: dict[str, dict[str, str]] = {
    "pytorch-widedeep": widedeep.LEFT_OUT,
    "recbole": recbole.LEFT_OUT,
    "torch-rechub": rechub.LEFT_OUT,
}
