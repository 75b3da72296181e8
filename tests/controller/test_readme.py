"""controller/README.md lists every metric and every setting, with the defaults that they have."""

import dataclasses
import re
from pathlib import Path

from recsplit.serving.control_key import arguments
from recsplit_controller.shell.metrics import REASONS, Meters
from recsplit_controller.values.settings import Settings, Target

README = (Path(__file__).parents[2] / "controller" / "README.md").read_text()


def rows(head: str) -> dict[str, list[str]]:
    """The rows of the table with this first header cell: the others' cells by the first, without its ticks."""
    lines = README[README.index(f"\n| {head} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_metric_is_there_with_its_labels() -> None:
    meters = Meters(Settings(), [Target("shop_dense", "shop_dense", "dense")])
    labels_by_metric = {}
    for family in meters.registry.collect():
        if family.name.startswith("recsplit_controller_"):
            name = family.name.removeprefix("recsplit_controller_") + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            labels_by_metric[name] = labels - {"model", "unit"} if {"model", "unit"} <= labels else labels
    listed = {name: set(re.findall(r"\w+", cells[0])) for name, cells in rows("metric").items()}
    assert listed == labels_by_metric
    assert set(re.findall(r"\w+", rows("metric")["failures_total"][1])) == set(REASONS)


def test_every_setting_is_there_with_its_default() -> None:
    listed = {name: cells[0] for name, cells in rows("setting").items()}
    assert list(listed) == [field.name for field in dataclasses.fields(Settings)]
    for name, default in dataclasses.asdict(Settings()).items():
        assert listed[name] == ("" if default is None or default == {} else f"{default:g}" if isinstance(default, int | float) else default)


def test_the_arguments_that_close_the_api_are_those_of_serve() -> None:
    assert all(f"`{argument}`" in README for argument in arguments("KEY"))
