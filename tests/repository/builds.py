"""Small builds by hand, and a program that kills builds."""

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from recsplit.configs.render import render
from recsplit.errors import RecsplitError
from recsplit.plan.plan import to_json
from recsplit.repository.find import find
from recsplit.repository.staging import Stage, staging
from tests.configs.plans import shop


def fill(stage: Stage, build: str) -> None:
    """Put a whole build into `stage`; every file of it holds the build's id."""
    plan = shop(name=stage.name, build=build, version=stage.version)
    stage.write(render(plan))
    stage.path(plan.name, "plan.json").write_text(to_json(plan))
    for model in (plan.embedding, plan.dense):
        stage.path(model.name, "model.onnx").write_text(build)
    stage.path(plan.embedding.name, "tables.bin").write_text(build * 1000)


def build(repository: Path, build_id: str, name: str = "shop", *, keep: int = 1) -> None:
    with staging(repository, name) as stage:
        fill(stage, build_id)
        stage.publish(build_id, keep=keep)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, and every empty folder, with its bytes."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in paths.items()}


def build_until_killed(repository: Path, first: int) -> None:
    """Build after build, numbered from `first`. The rendering is done once: we want to die in the writing and the moving."""
    texts = render(shop(version=999))
    for number in itertools.count(first):
        identity = f"{number:08x}"
        with staging(repository, "shop") as stage:
            stage.write({path: text.replace('"0f5e"', f'"{identity}"').replace("999", str(stage.version)) for path, text in texts.items()})
            stage.path("shop", "plan.json").write_text(to_json(shop(build=identity, version=stage.version)))
            for model in ("shop_embedding", "shop_dense"):
                stage.path(model, "model.onnx").write_text(identity)
            stage.publish(identity)


def kill_builds(repository: Path, kills: int) -> list[str]:
    """Start and kill -9 builds; what is left after each: "whole", or the error of `find`."""
    moments, left = random.Random(0), []
    build(repository, "00000000")
    for kill in range(1, kills + 1):
        child = os.fork()
        if child == 0:
            build_until_killed(repository, kill << 16)
        time.sleep(moments.uniform(0.02, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left.append(_state(repository))
    build(repository, "ffffffff")
    left.append(_state(repository))
    return left


def _state(repository: Path) -> str:
    try:
        published_build = find(repository)
    except RecsplitError as error:
        return str(error)
    version = str(published_build.plan.version)
    held = {(repository / model / version / "model.onnx").read_text() for model in ("shop_embedding", "shop_dense")}
    return "whole" if held == {published_build.plan.build} else f"find accepted {published_build.plan.build} with {held}"


if __name__ == "__main__":
    print(json.dumps(kill_builds(Path(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
