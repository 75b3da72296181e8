"""A TensorRT plan from the dense model's ONNX, or the script that makes it on the machine that serves.

A plan belongs to one TensorRT version and one kind of GPU (facts: TensorRT's engine-compatibility guide), so ONNX
stays the artefact of record, and the plan is built beside it.
"""

import importlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsplit.configs.tensorrt_shapes import Shapes, shapes, texts
from recsplit.errors import RecsplitError
from recsplit.plan.files import ENGINE_FILE, ENGINE_SCRIPT, MODEL_FILE
from recsplit.plan.plan import Plan


def prepare(plan: Plan, folder: Path) -> tuple[str, ...]:
    """Put model.plan beside the dense model.onnx in `folder` where the tensorrt package imports, else the script that builds it.

    Returns what the user has to know about it. Raises InputError where the inputs can't be described to TensorRT,
    RecsplitError where TensorRT refuses the model.
    """
    profile = shapes(plan.dense, plan.max_batch_size)
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError:
        path = folder / ENGINE_SCRIPT
        path.write_text(script(plan.dense.name, texts(profile)), encoding="utf-8")
        path.chmod(0o755)
        where = f"{plan.dense.name}/{folder.name}/{ENGINE_SCRIPT}"
        return (f"TensorRT is not installed here: before you serve, run {where} on the machine that will",)
    (folder / ENGINE_FILE).write_bytes(_serialized(trt, folder / MODEL_FILE, profile))
    return (f"{plan.dense.name}/{folder.name}/{ENGINE_FILE} fits TensorRT {trt.__version__} and this machine's kind of GPU only",)


def script(name: str, spelled: tuple[str, str, str]) -> str:
    """build_plan.sh, POSIX sh: the trtexec command for these shapes; the plan appears only when it is complete."""
    least, usual, most = (shlex.quote(text) for text in spelled)
    return f"""#!/bin/sh
# Makes {ENGINE_FILE} of model {name} from {MODEL_FILE}, on the machine that will serve it: a plan fits one
# version of TensorRT and one kind of GPU. Run it inside the Triton container that will load the plan.
set -eu
cd "$(dirname "$0")"

trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
if [ ! -x "$trtexec" ]; then
  echo "trtexec is not installed: it comes with TensorRT" >&2
  exit 1
fi

# --noTF32: answers as exact as ONNX Runtime's; drop it for speed, and run \\`recsplit verify\\` to see what it costs.
"$trtexec" \\
  --onnx={MODEL_FILE} \\
  --minShapes={least} \\
  --optShapes={usual} \\
  --maxShapes={most} \\
  --noTF32 \\
  --skipInference \\
  --saveEngine={ENGINE_FILE}.part
mv {ENGINE_FILE}.part {ENGINE_FILE}
"""


def _serialized(trt: Any, onnx: Path, profile: Mapping[str, Shapes]) -> Any:
    """The plan's bytes, built here and now by the tensorrt package (10 or newer); minutes for a large model."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        problems = "; ".join(str(parser.get_error(n)) for n in range(parser.num_errors))
        raise RecsplitError(f"TensorRT can't read {onnx.name}: {problems}", hint="choose the dense runtime onnxruntime")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # answers as exact as ONNX Runtime's
    optimization = builder.create_optimization_profile()
    for name, (least, usual, most) in profile.items():
        optimization.set_shape(name, least, usual, most)
    config.add_optimization_profile(optimization)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RecsplitError(f"TensorRT {trt.__version__} built no plan from {onnx.name}", hint="choose the dense runtime onnxruntime")
    return plan
