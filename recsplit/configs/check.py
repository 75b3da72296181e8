"""Triton model configs as values: parse a config.pbtxt, and check that those of one build agree.

The proof that Triton makes only at load time, made before anything is written: the texts parse, and the ensemble's
tensors flow through its steps with the same names, types and shapes throughout.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from recsplit.errors import InputError, RecsplitError
from recsplit.plan import strict_json
from recsplit.plan.files import (
    BUILD_PARAMETER,
    CLIENT_PARAMETER,
    CONFIG_FILE,
    ENGINE_BACKEND,
    ENGINE_FILE,
    ENSEMBLE_PARAMETER,
    LOOKUPS_PARAMETER,
    MODEL_FILE,
    PARTS_PARAMETER,
)
from recsplit.plan.plan import Plan, Submodel, Tensor

# A shape as the config has it: Triton type name and dims without the batch.
Shape = tuple[str, tuple[int, ...]]
#: How protobuf quotes a line.
_LINE = re.compile(r"(?<=: )'.*'(: )?", re.DOTALL)
_MOST_WORDS = 200


def parse(text: str, *, origin: str) -> Any:
    """A config.pbtxt as tritonclient's ModelConfig message. Raises InputError, with the line, where it doesn't parse."""
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(
            f"{origin}, line {error.GetLine()}, is not a Triton model config: {_problem(error)}",
            hint="the fields are listed in Triton's model_config.proto",
        ) from error


def _problem(error: text_format.ParseError) -> str:
    """What is wrong, with no line of the file, which may be no config at all: protobuf quotes the whole one, or a token of it."""
    words = _LINE.sub("", str(error))
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."


def parameter(config: Any, key: str) -> str | None:
    """A config's parameter, None where it has none. (Indexing the protobuf map would create it.)"""
    config_parameter = config.parameters.get(key)
    return None if config_parameter is None else str(config_parameter.string_value)


def versions(config: Any) -> tuple[int, ...]:
    """The versions that a config names; () where its policy names none."""
    return tuple(config.version_policy.specific.versions)


def parts_of(config: Any) -> tuple[str, ...]:
    """The models that an ensemble or a fused model is made of, in order; () for any other."""
    text = parameter(config, PARTS_PARAMETER)
    if text is None:
        return tuple(step.model_name for step in config.ensemble_scheduling.step)
    hint = "build the model again"
    names: tuple[str, ...] = strict_json.read(
        tuple[str, ...], strict_json.parse(text, origin=PARTS_PARAMETER, again=hint), PARTS_PARAMETER, hint
    )
    return names


def check(plan: Plan, texts: Mapping[str, str], *, templates: Path | None = None) -> None:
    """Refuse config texts (by path relative to the repository) that don't fit the plan or each other.

    Raises RecsplitError that lists everything wrong; InputError where `templates`, the user's own, took part.
    """
    try:
        configs = {path: parse(text, origin=path) for path, text in texts.items()}
        wrong = list(_disagreements(plan, configs))
    except InputError as error:
        wrong = [str(error)]
    if wrong:
        message = "the rendered configs don't hold together:" + "".join(f"\n  {line}" for line in wrong)
        if templates is not None:
            raise InputError(message, hint=f"look at the templates in {templates}")
        raise RecsplitError(message, hint="this is a fault of recsplit; please report it with the model's `recsplit inspect`")


def _disagreements(plan: Plan, configs: Mapping[str, Any]) -> Iterator[str]:
    parts: dict[str, Any] = {}
    for name in (plan.name, *(model.name for model in plan.submodels)):
        path = f"{name}/{CONFIG_FILE}"
        if path not in configs:
            yield f"{path} is missing"
            continue
        config = parts[name] = configs[path]
        if config.name != name:
            yield f"{path}: name is {config.name!r}, and must be its folder's"
        if config.max_batch_size != plan.max_batch_size:
            yield f"{path}: max_batch_size is {config.max_batch_size}, and the plan's is {plan.max_batch_size}"
        key, expected = (BUILD_PARAMETER, plan.build) if name == plan.name else (ENSEMBLE_PARAMETER, plan.name)
        if parameter(config, key) != expected:
            yield f"{path}: parameter {key} is {parameter(config, key)!r}, and the plan's is {expected!r}"
        if versions(config) != (plan.version,):
            yield f"{path}: version_policy must be specific {{ versions: [ {plan.version} ] }}, or answers may be made of two builds"
    if len(parts) < 1 + len(plan.submodels):
        return
    for model in plan.submodels:
        yield from _submodel(model, parts[model.name])
    for name, key in ((plan.embedding.name, LOOKUPS_PARAMETER), (plan.name, CLIENT_PARAMETER)):
        if parameter(parts[name], key) is None:
            yield f"{name}/config.pbtxt: parameter {key} is missing"
    if plan.form == "ensemble":
        yield from _ensemble(plan, parts)
    else:
        yield from _fused(plan, parts[plan.name])


def _submodel(model: Submodel, config: Any) -> Iterator[str]:
    """Do backend, file, inputs and outputs fit the graph? NVIDIA's backend would refuse to load anything else."""
    where = f"{model.name}/{CONFIG_FILE}"
    backend = {"tensorrt": "tensorrt", "native": ENGINE_BACKEND}.get(model.runtime, "onnxruntime")
    file = ENGINE_FILE if model.runtime == "tensorrt" else MODEL_FILE
    if config.backend != backend:
        yield f"{where}: backend is {config.backend!r}, and the model is made for {backend!r}"
    if config.default_model_filename != file:
        yield f"{where}: default_model_filename is {config.default_model_filename!r}, and the build writes {file!r}"
    yield from _compare(where, "input", model.inputs, _declared(config.input, reshaped=True))
    yield from _compare(where, "output", model.outputs, _declared(config.output, reshaped=True))


def _fused(plan: Plan, config: Any) -> Iterator[str]:
    """Is it the engine's, and does it take and give what the plan says?"""
    where = f"{plan.name}/{CONFIG_FILE}"
    if config.backend != ENGINE_BACKEND:
        yield f"{where}: backend is {config.backend!r}, and a fused model is made for {ENGINE_BACKEND!r}"
    if parts_of(config) != tuple(model.name for model in plan.submodels):
        yield f"{where}: parameter {PARTS_PARAMETER} is {parameter(config, PARTS_PARAMETER)!r}, and the plan's parts are others"
    if parameter(config, LOOKUPS_PARAMETER) is None:
        yield f"{where}: parameter {LOOKUPS_PARAMETER} is missing"
    yield from _compare(where, "input", plan.inputs, _declared(config.input, reshaped=True))
    yield from _compare(where, "output", plan.outputs, _declared(config.output, reshaped=True))


def _ensemble(plan: Plan, parts: Mapping[str, Any]) -> Iterator[str]:
    """Do tensors flow from inputs to outputs?

    Cases: (1) the ensemble's own inputs and outputs are the plan's; (2) steps name known models, their version and tensors; (3) every
    input is mapped, from something produced, of the same type and shape; (4) nothing is produced twice, (5) or for
    nothing; (6) steps don't wait for each other.
    """
    config, where = parts[plan.name], f"{plan.name}/{CONFIG_FILE}"
    # Triton refuses empty dims, and an ensemble can't reshape, so there [batch] is [batch, 1].
    for field, tensors, declared in (("input", plan.inputs, config.input), ("output", plan.outputs, config.output)):
        outside = [Tensor(tensor.name, tensor.dtype, tensor.dims or (1,)) for tensor in tensors]
        yield from _compare(where, field, outside, _declared(declared, reshaped=False))  # case 1
        if any(item.HasField("reshape") for item in declared):
            yield f"{where}: an ensemble's {field} can't have a reshape"

    shapes = _declared(config.input, reshaped=False)
    times_produced, used = Counter(list(shapes)), set[str]()
    steps = [step for step in config.ensemble_scheduling.step if step.model_name in parts and step.model_name != plan.name]
    for step in config.ensemble_scheduling.step:
        if step not in steps:
            yield f"{where}: a step names the model {step.model_name!r}, which this build doesn't write"  # case 2
        elif step.model_version != plan.version:
            yield f"{where}: step {step.model_name!r} names version {step.model_version}, and the plan's is {plan.version}"
    produced = [(tensor, step, name) for step in steps for name, tensor in step.output_map.items()]
    for tensor, step, name in produced:
        outputs = _declared(parts[step.model_name].output, reshaped=False)
        times_produced[tensor] += 1
        if name in outputs:
            shapes.setdefault(tensor, outputs[name])
        else:
            yield f"{where}: step {step.model_name!r} maps the output {name!r}, which that model doesn't have"  # case 2
    for step in steps:
        inputs = _declared(parts[step.model_name].input, reshaped=False)
        for name in sorted(set(step.input_map) - set(inputs)):
            yield f"{where}: step {step.model_name!r} maps the input {name!r}, which that model doesn't have"  # case 2
        for name, shape in inputs.items():
            tensor = step.input_map.get(name)
            used.add(tensor or "")
            if tensor is None:
                yield f"{where}: step {step.model_name!r} gets nothing for its input {name!r}"  # case 3
            elif tensor not in shapes:
                yield f"{where}: nothing produces {tensor!r}, which step {step.model_name!r} takes as {name!r}"
            elif not _same(shapes[tensor], shape):
                yield f"{where}: {tensor!r} is {_show(shapes[tensor])}, and step {step.model_name!r} takes {_show(shape)} as {name!r}"
    for name, shape in _declared(config.output, reshaped=False).items():
        used.add(name)
        if name not in times_produced or name in _declared(config.input, reshaped=False):
            yield f"{where}: no step produces the output {name!r}"
        elif name in shapes and not _same(shapes[name], shape):
            yield f"{where}: the output {name!r} is declared {_show(shape)}, and its step gives {_show(shapes[name])}"
    for tensor, times in times_produced.items():
        if times > 1:
            yield f"{where}: {tensor!r} is produced {times} times"  # case 4
        if tensor not in used:
            yield f"{where}: {tensor!r} is produced and nobody uses it"  # case 5
    for step in steps:
        for name in sorted(set(_declared(parts[step.model_name].output, reshaped=False)) - set(step.output_map)):
            yield f"{where}: the output {name!r} of step {step.model_name!r} is not mapped"  # case 5
    yield from _circle(where, steps, set(_declared(config.input, reshaped=False)))  # case 6


def _circle(where: str, steps: list[Any], ready: set[str]) -> Iterator[str]:
    step_outputs = {tensor for step in steps for tensor in step.output_map.values()}
    waiting = list(steps)
    while able := [step for step in waiting if set(step.input_map.values()) & step_outputs <= ready]:
        ready |= {tensor for step in able for tensor in step.output_map.values()}
        waiting = [step for step in waiting if step not in able]
    if waiting:
        yield f"{where}: the steps {[step.model_name for step in waiting]} wait for each other"


def _declared(items: Any, *, reshaped: bool) -> dict[str, Shape]:
    """Names, types and dims of `input` or `output`: as the model sees them (`reshaped`), or as requests carry them."""
    types = model_config_pb2.DataType
    return {
        item.name: (
            types.Name(item.data_type).removeprefix("TYPE_").replace("STRING", "BYTES"),
            tuple(item.reshape.shape if reshaped and item.HasField("reshape") else item.dims),
        )
        for item in items
    }


def _compare(where: str, field: str, tensors: Any, declared: Mapping[str, Shape]) -> Iterator[str]:
    expected = {tensor.name: (tensor.dtype, tensor.dims) for tensor in tensors}
    for name in expected.keys() | declared.keys():
        if name not in declared:
            yield f"{where}: {field} {name!r} is missing"
        elif name not in expected:
            yield f"{where}: {field} {name!r} is not in the plan"
        elif declared[name] != expected[name]:
            yield f"{where}: {field} {name!r} is {_show(declared[name])}, and the plan has {_show(expected[name])}"


def _same(one: Shape, other: Shape) -> bool:
    """Triton's rule between steps: the same type and rank, and dims equal or variable."""
    same_rank = len(one[1]) == len(other[1])
    return one[0] == other[0] and same_rank and all(a == b or -1 in (a, b) for a, b in zip(one[1], other[1], strict=True))


def _show(shape: Shape) -> str:
    return f"{shape[0]} [{', '.join(['batch', *map(str, shape[1])])}]"
