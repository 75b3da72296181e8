"""The cut as a picture: tables sized by their bytes and shaded by how often a row of a query reads them, and the two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from recsplit.disk.files import size_text
from recsplit.plan.dtypes import SIZE_BYTES
from recsplit.plan.plan import Plan, Submodel, Tensor

WIDTH, HEIGHT = 1040, 400
#: Tables that get a bar of their own; the others share the last one.
BARS = 12
_TOP, _BOTTOM = 40, 26
#: Names above an arrow: more don't fit into the picture.
_LINES = 8
_GAP = 3
_COLD, _HOT = (209, 231, 228), (15, 118, 110)


@dataclass(frozen=True)
class Bar:
    """A table, or several: bytes, and how many of its rows one row of a query reads."""

    name: str
    size_bytes: int
    reads: float


def bars(plan: Plan) -> list[Bar]:
    """The plan's tables, largest first; those beyond BARS as one."""
    reads = {table.name: 0.0 for table in plan.tables}
    for lookup in plan.lookups:
        reads[lookup.table] += lookup.width
    table_bars = sorted((Bar(table.name, table.size_bytes, reads[table.name]) for table in plan.tables), key=lambda bar: -bar.size_bytes)
    if len(table_bars) <= BARS:
        return table_bars
    largest, rest = table_bars[: BARS - 1], table_bars[BARS - 1 :]
    return [*largest, Bar(f"{len(rest)} more tables", sum(bar.size_bytes for bar in rest), sum(bar.reads for bar in rest))]


def draw(plan: Plan) -> str:
    """The picture as SVG text."""
    head = f'viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg" font-family="inherit" role="img" data-wide=""'
    tip = '<path d="M0 0L8 4L0 8z" fill="#5b6878"/>'
    parts = [
        f'<svg {head} aria-label="The cut of {escape(plan.name)}">',
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">{tip}</marker></defs>',
    ]
    parts += _model(plan.embedding, 170, 400, "#0f766e")
    parts += _tables(bars(plan), 186, 368)
    parts += _model(plan.dense, 700, 190, "#4338ca")
    parts.append(_text(795, HEIGHT / 2 + 5, "layers, interactions", size=13, color="#5b6878", anchor="middle"))
    parts += _arrow(20, 170, ["ids"], _sizes(_ids(plan)))
    parts += _arrow(570, 700, ["embeddings"], _sizes(plan.boundary))
    parts += _arrow(890, 1030, [tensor.name for tensor in plan.outputs], _sizes(plan.outputs))
    dense = [tensor for tensor in plan.inputs if tensor.name in {item.name for item in plan.dense.inputs}]
    if dense:
        parts.append('<path d="M95 368 V394 H730 V372" fill="none" stroke="#5b6878" stroke-width="1.4" marker-end="url(#tip)"/>')
        parts.append(_text(24, 364, f"{', '.join(tensor.name for tensor in dense[:2])}, {_sizes(dense)}", size=12, color="#5b6878"))
    return "\n".join([*parts, "</svg>"])


def _ids(plan: Plan) -> list[Tensor]:
    names = {tensor.name for tensor in plan.embedding.inputs}
    return [tensor for tensor in plan.inputs if tensor.name in names]


def _sizes(tensors: Sequence[Tensor]) -> str:
    """Bytes of a row where all dims are known, else the number of tensors."""
    if any(size < 0 for tensor in tensors for size in tensor.dims):
        return f"{len(tensors)} tensors" if len(tensors) > 1 else "varying length"
    total = sum(math.prod(tensor.dims) * SIZE_BYTES[tensor.dtype] for tensor in tensors)
    return f"{size_text(total)} a row"


def _model(part: Submodel, x: float, width: float, color: str) -> list[str]:
    height = HEIGHT - 26 - _BOTTOM - 8
    plural = "instance" if part.instances == 1 else "instances"
    return [
        f'<rect x="{x}" y="26" width="{width}" height="{height}" rx="10" fill="#fff" stroke="{color}" stroke-width="1.6"/>',
        _text(x + 14, 18, _short(part.name, 24), size=14.5, color=color, weight=650),
        _text(
            x + width / 2,
            HEIGHT - _BOTTOM + 8,
            f"{part.instances} {plural}, {part.kind.upper()}",
            size=12,
            color="#5b6878",
            anchor="middle",
        ),
    ]


def _tables(table_bars: list[Bar], x: float, width: float) -> list[str]:
    """One bar a table. Heights follow the bytes, with a least height that keeps the name readable."""
    if not table_bars:
        return []
    room = HEIGHT - _TOP - _BOTTOM - 20 - _GAP * (len(table_bars) - 1)
    least = min(19.0, room / len(table_bars))
    total = sum(bar.size_bytes for bar in table_bars) or 1
    spare = room - least * len(table_bars)
    most = max(bar.reads for bar in table_bars) or 1
    parts, y = [], float(_TOP)
    for bar in table_bars:
        height = least + spare * bar.size_bytes / total
        share = bar.reads / most
        fill = "#" + "".join(f"{round(cold + (hot - cold) * share):02x}" for cold, hot in zip(_COLD, _HOT, strict=True))
        ink = "#ffffff" if share > 0.55 else "#16202e"
        reads = f"{bar.reads:g} read{'' if bar.reads == 1 else 's'} a row"
        parts += [
            f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{height:.1f}" rx="4" fill="{fill}"/>',
            _text(x + 10, y + height / 2 + 4.2, _short(bar.name), size=12, color=ink),
            _text(x + width - 10, y + height / 2 + 4.2, f"{size_text(bar.size_bytes)} · {reads}", size=12, color=ink, anchor="end"),
        ]
        y += height + _GAP
    return parts


def _arrow(x1: float, x2: float, labels: Sequence[str], note: str) -> list[str]:
    """An arrow with its labels above it, a line each, and below it how much it carries."""
    y, middle = HEIGHT / 2, (x1 + x2) / 2
    lines = [*labels] if len(labels) <= _LINES else [*labels[: _LINES - 1], f"and {len(labels) - _LINES + 1} more"]
    return [
        f'<path d="M{x1} {y} H{x2 - 2}" stroke="#5b6878" stroke-width="1.4" marker-end="url(#tip)"/>',
        *(
            _text(middle, y - 9 - 16 * (len(lines) - 1 - place), _short(line, 20), size=13, color="#16202e", anchor="middle")
            for place, line in enumerate(lines)
        ),
        _text(middle, y + 19, note, size=12, color="#5b6878", anchor="middle"),
    ]


def _short(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _text(x: float, y: float, text: str, *, size: float, color: str, anchor: str = "start", weight: int = 400) -> str:
    style = f'font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
