"""Run by another Python, which has tensorrt-rtx-cu12: reads model.onnx files and builds their engines, without a GPU. Needs nothing else.

usage: tensorrt_parse.py FOLDER: for each FOLDER/NAME/shapes.json, {"onnx": path, "shapes": {input: [least, usual, most]}}, a line of JSON.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def problem(trt: Any, onnx: str, shapes: dict[str, list[list[int]]]) -> str:
    """Why no engine comes of the file; empty where one does."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        return "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors)) or "not parsed"
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in shapes.items():
        profile.set_shape(name, least, usual, most)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    return "" if builder.build_serialized_network(network, config) is not None else "parsed, but no engine is built"


def main(folder: Path) -> None:
    """A line for each file."""
    trt = importlib.import_module("tensorrt_rtx")
    for asked in sorted(folder.glob("*/shapes.json")):
        file = json.loads(asked.read_text())
        answer = {"model": asked.parent.name, "version": trt.__version__, "problem": problem(trt, file["onnx"], file["shapes"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
