"""Recipes that are wrong: refused with the reason, and whatever they say, the process lives on."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recsplit.engine.compilation import unavailable
from recsplit.errors import RecsplitError
from recsplit.plan.files import RECIPE_FILE
from tests.engine.models import opened

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def changed(recipe: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**recipe, **changes}


#: Recipes that are well-formed and would read or write out of bounds, and what is said of them.
HARMFUL: dict[str, tuple[Any, str]] = {
    "an input is wider than its config": (
        lambda recipe: changed(
            recipe, inputs=[changed(item, dims=[500_000]) if item["name"] == "ids" else item for item in recipe["inputs"]]
        ),
        "and the model takes",
    ),
    "an output of no dims": (lambda recipe: changed(recipe, outputs=[changed(recipe["outputs"][0], dims=[])]), "an output"),
    "places into an output of vectors": (
        lambda recipe: changed(recipe, lookups=[changed(recipe["lookups"][0], table=None, none=0, pooling="none"), *recipe["lookups"][1:]]),
        "an output has a place for each id",
    ),
    "a vector that nobody makes": (lambda recipe: changed(recipe, lookups=recipe["lookups"][:1]), "nothing makes a vector"),
    "a vector that is made twice": (
        lambda recipe: changed(recipe, lookups=[*recipe["lookups"], recipe["lookups"][0]]),
        "two lookups make one vector",
    ),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_a_recipe_that_would_do_harm_is_refused(model: tuple[Path, dict[str, Any]], kind: str, tmp_path: Path) -> None:
    folder, config = model
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = json.loads((folder / RECIPE_FILE).read_text())
    change, reason = HARMFUL[kind]
    whole["stages"][0]["lookups"] = change(whole["stages"][0]["lookups"])
    (tmp_path / RECIPE_FILE).write_text(json.dumps(whole))
    with pytest.raises(RecsplitError, match=reason):
        opened(tmp_path, config)


#: Opens mutated recipes, in a process of its own: a crash is a failure with an exit status.
MUTATED = """
import sys
from pathlib import Path
from tests.engine.models import opened
from recsplit.errors import RecsplitError
import json, numpy as np
folder, count, config = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
ids = {"ids": np.arange(12).reshape(4, 3), "one": np.arange(4)}
for number in range(count):
    (folder / "engine.json").write_bytes((folder / f"mutated{number}").read_bytes())
    try:
        with opened(folder, config) as engine:
            engine.run([ids, ids])
    except RecsplitError:
        pass
print("done")
"""


def test_no_recipe_makes_the_engine_crash(model: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, config = model
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (folder / RECIPE_FILE).read_text()
    choices = random.Random(0)
    numbers = ["-1", "0", "1", "2", "7", "49", "50", "51", "9223372036854775807", "4294967296", "1.5", "null", "[]", '"x"', "true"]
    count = 1500
    for number in range(count):
        text = whole
        if number % 3:
            for _ in range(choices.randint(1, 3)):
                text = _replaced(text, choices, numbers)
        else:
            start = choices.randrange(len(text))
            text = text[:start] + chr(choices.randrange(32, 127)) * choices.randint(0, 3) + text[start + choices.randint(0, 4) :]
        (tmp_path / f"mutated{number}").write_text(text)
    arguments = [sys.executable, "-c", MUTATED, str(tmp_path), str(count), json.dumps(config)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def _numbers(text: str) -> list[tuple[int, int]]:
    """Where the numbers of a JSON text stand."""
    places, start = [], None
    for index, letter in enumerate(text):
        if letter.isdecimal() and start is None and text[index - 1] in ":[,":
            start = index
        if start is not None and not letter.isdecimal():
            places.append((start, index))
            start = None
    return places


def _replaced(text: str, choices: random.Random, numbers: list[str]) -> str:
    """Another number in the place of one, whatever its length."""
    start, end = choices.choice(_numbers(text))
    return text[:start] + choices.choice(numbers) + text[end:]
