"""Triton's config.pbtxt texts, from a plan: pure, and checked before they are handed out.

Text is rendered and then parsed, not printed from a protobuf: a printed one has no comments, and leaves out zeros
that Triton wants spelt out.
"""

import dataclasses
import functools
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from recsplit.configs import tensorrt_shapes
from recsplit.configs.check import check
from recsplit.errors import InputError
from recsplit.plan.files import CONFIG_FILE
from recsplit.plan.plan import Plan, Submodel, Tensor
from recsplit.rendering import templating

#: The templates, one a model; a folder given with --templates may replace any of them.
TEMPLATES = ("ensemble.pbtxt.j2", "fused.pbtxt.j2", "embedding.pbtxt.j2", "shard.pbtxt.j2", "dense.pbtxt.j2", "macros.pbtxt.j2")

_OURS = Path(__file__).parents[1] / "templates" / "triton"


def render(plan: Plan, *, templates: Path | None = None) -> dict[str, str]:
    """The config.pbtxt texts of the plan's models, by path relative to the model repository.

    `templates` is a folder whose files replace ours of the same name (TEMPLATES). Raises InputError, with file and
    line, where one of them can't be rendered; InputError for a runtime that the plan's settings rule out;
    RecsplitError where the texts don't parse or don't agree (see configs.check).
    """
    _refuse_impossible(plan)
    if templates is not None:
        check_templates(templates)
    environment = _our_environment() if templates is None else _environment_of(templates, _OURS)
    context = _context(plan)
    texts: dict[str, str] = {}
    texts[f"{plan.name}/{CONFIG_FILE}"] = _render_one(environment, f"{plan.form}.pbtxt.j2", context)
    for model in plan.submodels:
        model_context = {"model": model, "warmup_batch_sizes": warmup_batch_sizes(plan, model)}
        texts[f"{model.name}/{CONFIG_FILE}"] = _render_one(environment, f"{model.role}.pbtxt.j2", {**context, **model_context})
    check(plan, texts, templates=templates)
    return texts


def _refuse_impossible(plan: Plan) -> None:
    dense = plan.dense
    other = next((model for model in plan.submodels[:-1] if model.runtime not in ("onnxruntime", "native")), None)
    if other is not None:
        raise InputError(
            f"the {other.role} model can't run on {other.runtime!r}: its tables stay in files that ONNX Runtime maps",
            hint="choose another runtime for the dense model only",
        )
    if dense.runtime not in ("onnxruntime", "native") and dense.kind != "gpu":
        raise InputError(f"the dense runtime {dense.runtime!r} needs a GPU, and the dense model is placed on CPU", hint="--dense-kind gpu")
    if dense.runtime == "tensorrt":
        tensorrt_shapes.texts(tensorrt_shapes.shapes(dense, plan.max_batch_size))  # else no plan can be built for it


def _context(plan: Plan) -> dict[str, object]:
    """What every template sees; those of sub-models see their own `model` and `warmup_batch_sizes` as well."""
    rows = {table.name: table.rows for table in plan.tables}
    lookups = [
        {
            "input": ", ".join(lookup.inputs),
            "columns": lookup.columns,
            "table": lookup.table,
            "rows": rows[lookup.table],
            "shift": lookup.shift,
            "direct": lookup.direct,
            "width": lookup.width,
        }
        for lookup in plan.lookups
    ]
    return {
        "plan": plan,
        "steps": plan.submodels,
        "lookups": lookups,
        "client": client_of(plan),
        "profiles": _profiles(plan),
        # Bags of other lengths meet in a batch of the engine's, which reads them as they come; ONNX Runtime takes one length for all.
        "fused": plan.fused,
        "parts": [model.name for model in plan.submodels],
        "warmup_batch_sizes": warmup_batch_sizes(plan, plan.embedding),
        "ragged": [name for bags in plan.bags for name in (bags.values, bags.weights)] if plan.embedding.runtime == "native" else [],
        # With the build's id, for ONNX Runtime's cache knows an engine by its graph and not by its weights (onnxruntime #6455); one
        # folder in /tmp, for it makes only the last part of the path.
        "engine_cache": f"/tmp/recsplit-engines-{plan.dense.name}-{plan.build}",
    }


def client_of(plan: Plan) -> dict[str, object]:
    """What recsplit.client must know of a model."""
    return {
        "bags": [dataclasses.asdict(bags) for bags in plan.bags],
        "max_batch_size": plan.max_batch_size,
        "flat": [tensor.name for tensor in plan.outputs if not tensor.dims],
    }


def render_one(name: str, context: Mapping[str, object]) -> str:
    """One of our own templates with these values."""
    return _render_one(_our_environment(), name, context)


def warmup_batch_sizes(plan: Plan, model: Submodel) -> tuple[int, ...]:
    """Batch sizes of the warm-up requests, all zeros: one row, and many; none where id 0 is outside a table and so an error.

    Triton makes a warm-up batch of one-row requests, and 2048 of them take a second: 64 warm the arenas well enough.
    """
    rows = {table.name: table.rows for table in plan.tables}
    zero_is_unknown = plan.unknown_ids == "error" and any(
        lookup.limit is not None and (lookup.limit < 1 or (lookup.direct and not 0 <= lookup.shift < rows[lookup.table]))
        for lookup in plan.lookups
    )
    if model.role == "embedding" and zero_is_unknown:
        return ()
    return (1, min(64, plan.max_batch_size)) if plan.max_batch_size > 1 else (1,)


def _profiles(plan: Plan) -> dict[str, str] | None:
    """Shapes for ONNX Runtime's TensorRT; None where it isn't used, or has to learn them from requests."""
    fixed = all(dim >= 0 for tensor in plan.dense.inputs for dim in tensor.dims)
    if plan.dense.runtime != "onnxruntime-tensorrt" or not fixed:
        return None
    return dict(zip(("min", "opt", "max"), tensorrt_shapes.texts(tensorrt_shapes.shapes(plan.dense, plan.max_batch_size)), strict=True))


def quote(value: object) -> str:
    """`value` as a string literal of protobuf's text format, in the quotes that need fewer escapes.

    Grammar: https://protobuf.dev/reference/protobuf/textformat-spec/#string. A literal is ASCII here: other
    characters are written as the octal escapes of their UTF-8 bytes, which every parser reads alike.
    """
    text = str(value)
    mark = "'" if '"' in text and "'" not in text else '"'
    escapes = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("\\"): "\\\\", ord(mark): "\\" + mark}
    body = "".join(escapes.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in text.encode())
    return f"{mark}{body}{mark}"


def _warmup_dims(tensor: Tensor) -> Sequence[int]:
    return [max(dim, 1) for dim in tensor.dims] or [1]


def check_templates(templates: Path) -> None:
    """Raise InputError, without a plan, where a folder of templates can't be used: none in it is ours, or one doesn't parse."""
    if not templates.is_dir():
        raise InputError(
            f"there is no folder {templates}", hint="--templates takes a folder; recsplit's own are in recsplit/templates/triton"
        )
    if not any((templates / name).is_file() for name in TEMPLATES):
        raise InputError(f"{templates} holds no template to replace ours", hint=f"name the files in it {', '.join(TEMPLATES)}")
    environment = _environment_of(templates, _OURS)
    for name in TEMPLATES:
        _get(environment, name)


@functools.lru_cache(1)
def _our_environment() -> jinja2.Environment:
    """Of our own templates alone, which don't change: they are compiled once."""
    return _environment_of(_OURS)


def _environment_of(*folders: Path) -> jinja2.Environment:
    return templating.environment(
        folders,
        {
            "string": quote,  # for the grammar that strings stand in
            "json": json.dumps,
            "data_type": lambda dtype: "TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}",
            "instance_kind": lambda kind: f"KIND_{kind.upper()}",
            "warmup_dims": _warmup_dims,
        },
    )


def _get(environment: jinja2.Environment, name: str) -> jinja2.Template:
    try:
        return environment.get_template(name)
    except Exception as error:  # jinja's own, and those of reading a file
        raise _broken(name, error) from error


def _render_one(environment: jinja2.Environment, name: str, context: Mapping[str, object]) -> str:
    template = _get(environment, name)
    try:
        return template.render(context)
    except Exception as error:  # an expression in a user's template may raise anything
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> InputError:
    """The error for a template, with file and line where they are known."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".j2")]
    if isinstance(error, jinja2.TemplateSyntaxError):
        where = f"{error.filename or error.name}, line {error.lineno}"
    else:
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else name
    return InputError(
        f"{where}: {error or type(error).__name__}",
        hint="docs of the template language: https://jinja.palletsprojects.com/templates; start from a copy of recsplit's own template",
    )
