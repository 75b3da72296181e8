"""Reference cases: inputs of the ensemble with the source's answers, made, written and read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan import ragged
from recsplit.plan.plan import Plan
from recsplit.plan.strict_json import parse
from recsplit.proof.compare import differ, median_magnitude
from recsplit.proof.parts import Array, Run

#: Two answers of one model to one question differ by less, whatever the order in which its threads add.
_RANDOM = 1e-3
#: Cases of at most so many rows are asked again: together enough rows for dropout to show, and the largest batch only once.
_ASKED_TWICE = 64


@dataclass(frozen=True)
class Case:
    """Reference inputs of the ensemble and the source's outputs for them."""

    name: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def record(cases: Sequence[Case], path: Path) -> None:
    """Write reference cases to a safetensors file."""
    tensors: dict[str, Array] = {}
    for number, case in enumerate(cases):
        for kind, arrays in (("in", case.inputs), ("out", case.outputs)):
            tensors.update({f"{number}/{kind}/{name}": np.ascontiguousarray(data) for name, data in arrays.items()})
    # Not save_file: of a full disk it tells in an error of its own, with no errno.
    path.write_bytes(save(tensors, metadata={"cases": json.dumps([case.name for case in cases])}))


def recorded(path: Path) -> list[Case]:
    """Read reference cases. Raises InputError where the file is missing or broken."""
    from safetensors import SafetensorError, safe_open

    again = "build the model again"
    bounded.require_regular(path, hint=again)
    try:
        tensors = load_file(path)
        with safe_open(path, framework="numpy") as file:
            names = parse(file.metadata()["cases"], origin=str(path), again=again)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}", hint=again) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} can't be read: it doesn't name its cases", hint=again)
    return [
        Case(
            name,
            {key.split("/", 2)[2]: data for key, data in tensors.items() if key.startswith(f"{number}/in/")},
            {key.split("/", 2)[2]: data for key, data in tensors.items() if key.startswith(f"{number}/out/")},
        )
        for number, name in enumerate(names)
    ]


def by_source(plan: Plan, run: Run, dtypes: Mapping[str, np.dtype[np.generic]]) -> Run:
    """The source as a function of the ensemble's inputs. `dtypes` are the source's own, where ids were narrowed."""

    def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
        source = ragged.source_inputs(plan.bags, inputs)
        return run({name: data.astype(dtypes[name], copy=False) if name in dtypes else data for name, data in source.items()})

    return call


def make_cases(
    named: Iterable[tuple[str, dict[str, Array]]],
    run: Run,
    progress: Callable[[str], None],
    *,
    infinite_rows: bool = False,
) -> list[Case]:
    """Run the source on named inputs, telling `progress` the name of each.

    With `infinite_rows`, rows that the source does not answer with a number are left out: the legacy ONNX exporter's
    max over an empty bag is -inf, and NaN a layer later, where torch, and so the parts, give zeros. Otherwise raises
    InputError where the source answers NaN or infinity, or differently when asked again: nothing could be compared.
    """
    cases: list[Case] = []
    for name, inputs in named:
        progress(name)
        outputs = run(inputs)
        finite = np.ones(len(next(iter(inputs.values()))), dtype=bool)
        for output, data in outputs.items():
            if data.dtype.kind != "f" or np.isfinite(data).all():
                continue
            if not infinite_rows or len(data) != len(finite):
                raise InputError(
                    f"the source answers NaN or infinity in output {output!r} (case {name!r})", hint="are the trained weights loaded?"
                )
            finite &= np.isfinite(data.reshape(len(data), -1)).all(axis=1)
        if finite.any():
            case = Case(name, {key: data[finite] for key, data in inputs.items()}, {key: data[finite] for key, data in outputs.items()})
            if len(finite) <= _ASKED_TWICE:
                _refuse_random(case, run(case.inputs))
            cases.append(case)
    return cases


def _refuse_random(case: Case, again: Mapping[str, Array]) -> None:
    for output, data in case.outputs.items():
        _, relative = differ("source - source", case.name, output, data, again.get(output), median_magnitude([data]))
        if relative > _RANDOM:
            raise InputError(
                f"the source answers differently when it is asked again: output {output!r} by {relative:.0e} in case {case.name!r}",
                hint="take out what draws random numbers: dropout outside of .eval(), noise, sampling",
            )


def single_rows(cases: Sequence[Case]) -> Iterable[Case]:
    """Each row of the small cases on its own: a row's answer may not depend on its neighbours, or batching changes it."""
    for case in cases:
        size = len(next(iter(case.inputs.values())))
        if 1 < size <= 16:
            for row in range(size):
                one = {name: data[row : row + 1] for name, data in case.inputs.items()}
                yield Case(f"{case.name}, row {row}", one, {name: data[row : row + 1] for name, data in case.outputs.items()})
