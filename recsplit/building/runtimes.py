"""Who runs the parts of a build: recsplit's engine where it can be had, ONNX Runtime everywhere else."""

from dataclasses import dataclass

from recsplit.building.settings import BuildSettings
from recsplit.engine import compilation
from recsplit.errors import RecsplitError
from recsplit.plan.plan import EmbeddingRuntime, Runtime
from recsplit.rendering.progress import Progress

_PORTABLE = "ONNX Runtime serves it, not recsplit's engine"


@dataclass(frozen=True)
class Runtimes:
    """What runs the embedding model (its shards too) and the dense one; `note`: why, in words, where recsplit chose."""

    embedding: EmbeddingRuntime
    dense: Runtime
    note: str | None


def choose(settings: BuildSettings, progress: Progress) -> Runtimes:
    """The runtimes that the settings ask for, or else the engine on a CPU, which is made here where it isn't yet.

    Raises RecsplitError where the engine was asked for and can't be had.
    """
    if settings.embedding_runtime is not None or settings.form == "fused":
        embedding = settings.embedding_runtime or "native"
        if embedding == "native":
            compilation.make(progress)
        return _runtimes(settings, embedding, None)
    if settings.dense_kind == "gpu":
        return _runtimes(settings, "onnxruntime", f"{_PORTABLE}: the dense model is placed on a GPU")
    reason = compilation.unavailable()
    if reason is None:
        try:
            compilation.make(progress)
        except (RecsplitError, OSError) as error:
            reason = str(error)
    if reason is not None:
        return _runtimes(settings, "onnxruntime", f"{_PORTABLE}: {reason} (recsplit backend build says more)")
    note = "recsplit's engine serves it, where a server has that; --embedding-runtime onnxruntime builds without"
    return _runtimes(settings, "native", note)


def _runtimes(settings: BuildSettings, embedding: EmbeddingRuntime, note: str | None) -> Runtimes:
    """With the dense model run by what runs the embedding model, where nothing else was said and it runs on a CPU."""
    by_engine = embedding == "native" and settings.dense_kind == "cpu"
    return Runtimes(embedding, settings.dense_runtime or ("native" if by_engine else "onnxruntime"), note)
