"""The `docker run` that serves a model repository on NVIDIA's own Triton."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from recsplit.engine.compilation import BACKEND
from recsplit.plan.files import ENGINE_BACKEND
from recsplit.plan.triton_releases import IMAGE
from recsplit.serving.control_key import arguments
from recsplit.serving.repository import auto_complete_needed, configs_of, models_to_load

PORTS = (8000, 8001, 8002)
_BACKEND = f"/opt/tritonserver/backends/{ENGINE_BACKEND}/{BACKEND}"
#: For the shell.
_NEW_KEY = "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')"


def docker_command(
    repository: Path,
    *,
    models: Sequence[str] = (),
    http_port: int | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    host: str = "127.0.0.1",
    image: str = IMAGE,
    open_control: bool = False,
    engine: Path | None = None,
) -> str:
    """A shell command, one flag a line. A port of None is Triton's usual one (8000, 8001, 8002) on `host`.

    The repository is mounted read-only; the same models are loaded as by `recsplit.serving.serve`, on the GPUs where a
    config asks for them. `engine`: the library of recsplit's engine, which the server is given beside its own backends. Model control is
    closed by keys that the shell makes and nobody keeps, unless `open_control`. Raises InputError where there is nothing to load.
    """
    names = models_to_load(repository, models)
    chosen = (http_port, grpc_port, metrics_port)
    lines = [
        "docker run --rm",
        *(f"-p {host}:{inside if outside is None else outside}:{inside}" for inside, outside in zip(PORTS, chosen, strict=True)),
        # Python backends and parallel instances meet in shared memory; docker's 64 MB are soon full.
        "--shm-size=1g",
        *(["--gpus=all"] if _wants_gpu(repository) else []),
        f"--mount {shlex.quote(f'type=bind,source={repository.resolve()},target=/models,readonly')}",
        *([] if engine is None else [f"--mount {shlex.quote(f'type=bind,source={engine.resolve()},target={_BACKEND},readonly')}"]),
        shlex.quote(image),
        "tritonserver",
        "--model-repository=/models",
        "--model-control-mode=explicit",
        *(f"--load-model={shlex.quote(name)}" for name in names),
        *([] if auto_complete_needed(repository) else ["--disable-auto-complete-config"]),
        "--metrics-config=summary_latencies=true",
        *([] if open_control else (f'"{argument}"' for argument in arguments(_NEW_KEY))),
    ]
    return " \\\n    ".join(lines)


def _wants_gpu(repository: Path) -> bool:
    return any(re.search(r"\bKIND_GPU\b", config) for config in configs_of(repository))
