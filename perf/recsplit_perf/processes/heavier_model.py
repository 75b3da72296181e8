"""The Triton model of a heavier copy: recsplit's stand-in for the onnxruntime backend, and a wait that fills up each execution.

Runs in Triton's stub process as the model's own model.py, beside copies of the stand-in's files (recsplit_perf.processes.heavier puts them
there). The computation is real, the instance is then busy without a core: so instances are what is scarce, on any machine.
"""

import json
import threading
import time
from typing import Any

from stand_in import TritonPythonModel as StandIn  # type: ignore[import-not-found]  # beside this file, which is in no package


class TritonPythonModel(StandIn):
    """One instance. An execution lasts parameter `recsplit.heavier_ms` at least, whatever its batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """As the stand-in, with the file that the config of the light model named."""
        config = json.loads(args["model_config"])
        self.least_s = float(config["parameters"]["recsplit.heavier_ms"]["string_value"]) / 1000
        self.pause = threading.Event()  # never set: waits
        config["default_model_filename"] = config["parameters"]["recsplit.heavier_file"]["string_value"]
        super().initialize({**args, "model_config": json.dumps(config)})

    def execute(self, requests: list[Any]) -> list[Any]:
        """The stand-in's responses, no earlier than so long after the call."""
        start = time.perf_counter()
        responses: list[Any] = super().execute(requests)
        self.pause.wait(max(0.0, self.least_s - (time.perf_counter() - start)))
        return responses
