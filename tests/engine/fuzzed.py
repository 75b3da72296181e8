"""The engine under a fuzzer: `python -m tests.engine.fuzzed recipe|config|requests [SECONDS]`, with clang's libFuzzer, ASan and UBSan.

The models are three of the zoo: fixed inputs, weighted ragged bags, ids that are computed; and the first in shards, whose ids become
places. Each has its share of the time. What is found ends the command with an exit status that isn't 0; the input that did it lies in the
working directory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import recsplit
from recsplit.configs.engine import engine_config
from recsplit.engine import compilation
from recsplit.plan.files import RECIPE_FILE
from recsplit.plan.plan import Segment
from tests.build.partitions import profile_file, write_partition

TARGETS = ("recipe", "config", "requests")
MODELS = ("recsplit.zoo.tiny:dlrm", "recsplit.zoo.bags:sum_offsets_weights", "recsplit.zoo.lookups:mod_hash", "recsplit.zoo.tiny:dlrm")
_FLAGS = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-O1", "-g1")
#: A SIGBUS that the engine handles is not the sanitizer's; a trial may take long beside other load.
_OPTIONS = {"ASAN_OPTIONS": "handle_sigbus=0:allow_user_segv_handler=1:detect_leaks=0"}
_LIMITS = ("-rss_limit_mb=6000", "-timeout=60", "-max_len=8192", "-print_final_stats=1")


def main(target: str, seconds: int) -> int:
    """Compile, write the models, and fuzz each in turn; the first exit status that isn't 0."""
    clang = shutil.which("clang++")
    if clang is None:
        sys.stderr.write("Error: there is no clang++\nHint: apt install clang\n")
        return 2
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        program = Path(name) / "fuzz"
        compilation.link_program(program, compilation.Compiler((clang,), "", zig=False), Path(__file__).with_name("fuzz.cc"), flags=_FLAGS)
        for number, model in enumerate(MODELS):
            folder = _written(model, Path(name) / str(number), in_shards=number == len(MODELS) - 1)
            corpus = Path(name) / f"corpus-{number}"
            corpus.mkdir()
            seed = {"recipe": folder / RECIPE_FILE, "config": folder / "config.json"}.get(target)
            (corpus / "seed").write_bytes(bytes(range(256)) if seed is None else seed.read_bytes())
            environment = os.environ | _OPTIONS | {"RECSPLIT_FUZZ": target, "RECSPLIT_FUZZ_FOLDER": str(folder)}
            command = [str(program), str(corpus), f"-max_total_time={max(1, seconds // len(MODELS))}", *_LIMITS]
            code = subprocess.run(command, env=environment, check=False).returncode
            if code:
                return code
    return 0


def _written(model: str, folder: Path, *, in_shards: bool) -> Path:
    """The embedding model's version folder, with Triton's config, and a copy for recipes on trial."""
    folder.mkdir()
    settings: dict[str, Any] = {"name": "m", "embedding_runtime": "native", "search_s": 0, "max_batch_size": 64}
    plan = recsplit.build(model, out=folder / "models", **settings).plan
    if in_shards:
        rows = {table.name: table.rows for table in plan.tables}
        profile = profile_file(folder / "access.npz", rows)
        thirds = {name: 1 + size // 3 for name, size in rows.items()}
        hot = [Segment(name, 0, third) for name, third in thirds.items()]
        cold = [Segment(name, third, rows[name]) for name, third in thirds.items()]
        partition = write_partition(folder / "partition.json", [hot, cold], profile=profile)
        plan = recsplit.build(model, out=folder / "models", partition=partition, access=profile, **settings).plan
    version = folder / "models" / plan.embedding.name / str(plan.version)
    config = engine_config(plan.embedding.inputs, plan.embedding.outputs, plan.max_batch_size)
    (version / "config.json").write_text(json.dumps(config))
    shutil.copytree(version, version / "trial")
    return version


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 600))
