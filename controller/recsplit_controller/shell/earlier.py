"""Lines of journals that earlier versions wrote, as this one would have written them. Pure.

Each is made one of the next schema. Schema 1 didn't name the forecaster's weights. Schema 2 had one count of a target, which was what runs;
what was asked for wasn't told apart from it.
Schema 3 had neither groups of targets nor weights of a router. Schema 4 knew of no accuracy, nor what cores are worth in it.
"""

from collections.abc import Callable, Mapping
from typing import Any

Line = dict[str, Any]


def header_from_1(line: Line) -> Line:
    """A session's first line."""
    return line | {"forecaster": ""}


def tick_from_1(line: Line) -> Line:
    """A tick: the same."""
    return line


def header_from_2(line: Line) -> Line:
    """A session's first line."""
    memory, state = line["memory"], line["state"]
    held = {name: {"present": each["wanted"], "gained_s": None} | _without(each, "wanted") for name, each in memory["held"].items()}
    return line | {
        "memory": memory | {"held": held, "arrivals": {}},
        "state": state | {"progress": _progress(state["progress"])},
    }


def tick_from_2(line: Line) -> Line:
    """A tick."""
    observation = line["observation"]
    return line | {
        "observation": observation | {"counts": {name: _count(count) for name, count in observation["counts"].items()}, "window_s": None},
        "decisions": [{"count": _count(each["observed"])} | _without(each, "observed") for each in line["decisions"]],
        "progress": _progress(line["progress"]),
    }


def header_from_3(line: Line) -> Line:
    """A session's first line."""
    state = line["state"]
    return line | {
        "settings": line["settings"] | {"groups": {}},
        "targets": [target | {"group": None} for target in line["targets"]],
        "state": state | {"progress": _all(state["progress"], _weights)},
    }


def tick_from_3(line: Line) -> Line:
    """A tick."""
    observation = line["observation"]
    return line | {
        "observation": observation | {"counts": _all(observation["counts"], _weight)},
        "decisions": [_weight(each) | {"count": _weight(each["count"])} for each in line["decisions"]],
        "actions": [_weights(each) for each in line["actions"]],
        "outcomes": [each | {"action": _weights(each["action"])} for each in line["outcomes"]],
        "progress": _all(line["progress"], _weights),
    }


def header_from_4(line: Line) -> Line:
    """A session's first line."""
    return line | {
        "settings": line["settings"] | {"cores_cost": None},
        "memory": line["memory"] | {"wished": {}},
        "targets": [target | {"accuracy": None} for target in line["targets"]],
    }


def _all(by_name: Mapping[str, Line], change: Callable[[Line], Line]) -> Line:
    return {name: change(each) for name, each in by_name.items()}


def _weight(line: Line) -> Line:
    return line | {"weight": None}


def _weights(line: Line) -> Line:
    return line | {"weights": None}


def _count(units: object) -> Line:
    return {"serving": units, "asked": units, "floor": None, "threads": None}


def _progress(by_target: Mapping[str, Line]) -> Line:
    return {name: _without(each, "healed_s") | {"heals": 0, "heal_s": None} for name, each in by_target.items()}


def _without(line: Line, key: str) -> Line:
    return {name: value for name, value in line.items() if name != key}


#: By schema: what makes a header, and a tick, of it one of the next.
EARLIER: Mapping[int, tuple[Callable[[Line], Line], Callable[[Line], Line]]] = {
    1: (header_from_1, tick_from_1),
    2: (header_from_2, tick_from_2),
    3: (header_from_3, tick_from_3),
    4: (header_from_4, tick_from_1),
}
