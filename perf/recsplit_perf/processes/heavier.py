"""A copy of a built repository in which one sub-model is artificially heavy: its instances, not this machine's cores, are the limit.

The model is a real one of Triton's backend "python": it computes what it computed before, then waits until its execution has lasted
so many ms. A count is changed in place as that of any other model.
"""

import py_compile
import shutil
from pathlib import Path

from google.protobuf import text_format

from recsplit.configs.check import parse
from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.files import CONFIG_FILE, MODEL_FILE
from recsplit.repository.find import find
from recsplit.serving.triton import BACKENDS

#: Parameters of the heavy model's config: least duration of an execution, and the ONNX file in its version folder.
LEAST_MS, FILE = "recsplit.heavier_ms", "recsplit.heavier_file"
_MODEL = Path(__file__).with_name("heavier_model.py")
_STAND_IN = BACKENDS / "onnxruntime"


def heavier(source: Path, target: Path, model: str, ms: float) -> Path:
    """Copy the repository `source` to the new folder `target`, and let each execution of `model` there last `ms` milliseconds or more.

    Its requests are no longer batched: n instances answer 1000 n / ms requests a second, no more. Returns `target`. Raises InputError
    where `source` is no build, `model` none of its sub-models on onnxruntime's CPU, `ms` not above 0, or `target` there already.
    """
    parts = {part.name: part for part in find(source).plan.submodels}
    if model not in parts:
        raise InputError(f"{source} has no sub-model {model!r}", hint=f"it has {', '.join(parts)}")
    if parts[model].runtime != "onnxruntime" or parts[model].kind != "cpu":
        raise InputError(f"{model!r} can't be made heavier", hint="only a sub-model on onnxruntime's CPU can")
    if not ms > 0:
        raise InputError(f"an execution can't last {ms:g} ms", hint="more than 0")
    if target.exists():
        raise InputError(f"{target} is there already", hint="give a new folder")
    shutil.copytree(source, target)
    path = target / model / CONFIG_FILE
    config = parse(bounded.read_text(path, bounded.RECORD_BYTES, hint="build the model again"), origin=str(path))
    config.parameters[LEAST_MS].string_value = f"{ms:g}"
    config.parameters[FILE].string_value = config.default_model_filename or MODEL_FILE
    config.backend = "python"
    config.ClearField("default_model_filename")  # the python backend would take it for its own
    config.ClearField("dynamic_batching")
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
    for version in (target / model).iterdir():
        if version.is_dir():
            _program(version)
    return target


def _program(folder: Path) -> None:
    """The Python files of one version, compiled: Python would write __pycache__ at the first import, Triton take the newer folder for
    a changed model, and the first change of a count would be a reload instead of one in place."""
    copies = {_MODEL: "model.py", _STAND_IN / "model.py": "stand_in.py"}
    copies |= {path: path.name for path in _STAND_IN.glob("ort_*.py")}
    for path, name in copies.items():
        copy = folder / name
        copy.write_bytes(path.read_bytes())
        # By content and unchecked: never written again, whatever the times of the files.
        py_compile.compile(str(copy), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
