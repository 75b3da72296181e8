"""The cut as a picture: tables sized by their bytes and shaded by how often a row of a query reads them, and the two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from recsplit.disk.files import size_text
from recsplit.plan.dtypes import SIZE_BYTES
from recsplit.plan.plan import Plan, Submodel, Tensor
from recsplit_perf.report.figures import INDIGO, TEAL

WIDTH, HEIGHT = 1040, 400
#: Of the picture for a phone.
NARROW = 360
#: Tables that get a bar of their own; the others share the last one.
BARS = 12
_TOP, _BOTTOM = 40, 26
#: Names above an arrow: more don't fit into the picture.
_LINES = 8
_GAP = 3
_COLD, _HOT = (209, 231, 228), (15, 118, 110)


@dataclass(frozen=True)
class Bar:
    """A table, or several: bytes, and how many of its rows one row of a query reads; None: that varies from row to row."""

    name: str
    size_bytes: int
    reads: float | None


def bars(plan: Plan) -> list[Bar]:
    """The plan's tables, largest first; those beyond BARS as one."""
    reads: dict[str, float | None] = {table.name: 0.0 for table in plan.tables}
    varying = {bags.values for bags in plan.bags} | {tensor.name for tensor in plan.inputs if any(size < 0 for size in tensor.dims)}
    for lookup in plan.lookups:
        before = reads[lookup.table]
        reads[lookup.table] = None if before is None or varying & set(lookup.inputs) else before + lookup.width
    table_bars = sorted((Bar(table.name, table.size_bytes, reads[table.name]) for table in plan.tables), key=lambda bar: -bar.size_bytes)
    if len(table_bars) <= BARS:
        return table_bars
    largest, rest = table_bars[: BARS - 1], table_bars[BARS - 1 :]
    known = [bar.reads for bar in rest if bar.reads is not None]
    reads_of_rest = sum(known) if len(known) == len(rest) else None
    return [*largest, Bar(f"{len(rest)} more tables", sum(bar.size_bytes for bar in rest), reads_of_rest)]


def draw(plan: Plan) -> str:
    """The picture as SVG text, for a page that is wide enough for it."""
    parts = _head(plan, WIDTH, HEIGHT, "tip", 'data-wide=""')
    height = HEIGHT - 26 - _BOTTOM - 8
    parts += _model(plan.embedding, 170, 26, 400, height, TEAL)
    parts += _tables(bars(plan), 186, _TOP, 368, HEIGHT - _TOP - _BOTTOM - 20)
    parts += _model(plan.dense, 700, 26, 190, height, INDIGO)
    parts.append(_text(795, HEIGHT / 2 + 5, "layers, interactions", size=13, color="#5b6878", anchor="middle"))
    parts += _arrow(20, 170, ["ids"], _sizes(_clients(plan, plan.embedding)))
    parts += _arrow(570, 700, ["embeddings"], _sizes(plan.boundary))
    parts += _arrow(890, 1030, [tensor.name for tensor in plan.outputs], _sizes(plan.outputs))
    dense = _clients(plan, plan.dense)
    if dense:
        parts.append('<path d="M95 368 V394 H730 V372" fill="none" stroke="#5b6878" stroke-width="1.4" marker-end="url(#tip)"/>')
        names = _short(", ".join(tensor.name for tensor in dense[:2]), 12)
        parts.append(_text(24, 364, f"{names}, {_sizes(dense)}", size=12, color="#5b6878"))
    return "\n".join([*parts, "</svg>"])


def draw_narrow(plan: Plan) -> str:
    """The same from top to bottom, for a phone."""
    table_bars = bars(plan)
    tables = max(60.0, 26.0 * len(table_bars), min(200.0, 60.0 * len(table_bars)))
    dense = _clients(plan, plan.dense)
    lines = _lines([tensor.name for tensor in plan.outputs])
    top, left, width = 70.0, 12.0, NARROW - 24.0
    bottom = top + tables + 28
    dense_top = bottom + 104
    end = dense_top + 48
    parts = _head(plan, NARROW, end + 70 + 16 * len(lines), "tip-narrow", 'data-narrow=""')
    parts += _down(NARROW / 2, 4, top - 22, f"ids, {_sizes(_clients(plan, plan.embedding))}", "tip-narrow")
    parts += _model(plan.embedding, left, top, width, tables + 28, TEAL)
    parts += _tables(table_bars, left + 12, top + 14, width - 24, tables)
    parts += _down(NARROW / 2 - 60, bottom + 22, dense_top - 24, f"embeddings, {_sizes(plan.boundary)}", "tip-narrow")
    if dense:
        names = ", ".join(tensor.name for tensor in dense[:2])
        parts.append(_text(NARROW - 14, dense_top - 26, _short(f"{names}, {_sizes(dense)}", 26), size=12, color="#5b6878", anchor="end"))
        parts += _down(NARROW - 60, dense_top - 20, dense_top - 2, "", "tip-narrow")
    parts += _model(plan.dense, left, dense_top, width, 48, INDIGO)
    parts.append(_text(NARROW / 2, dense_top + 29, "layers, interactions", size=13, color="#5b6878", anchor="middle"))
    parts += _down(NARROW / 2, end + 22, end + 58, _sizes(plan.outputs), "tip-narrow")
    for place, line in enumerate(lines):
        parts.append(_text(NARROW / 2, end + 78 + 16 * place, _short(line), size=13, color="#16202e", anchor="middle"))
    return "\n".join([*parts, "</svg>"])


def _head(plan: Plan, width: float, height: float, tip: str, mark: str) -> list[str]:
    """The beginning of a picture. `tip`: a name for the arrows' tip, which no other picture of the page may have."""
    head = f'viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" font-family="inherit" role="img" {mark}'
    marker = f'<marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return [
        f'<svg {head} aria-label="The cut of {escape(plan.name)}">',
        f'<defs>{marker}<path d="M0 0L8 4L0 8z" fill="#5b6878"/></marker></defs>',
    ]


def _down(x: float, y1: float, y2: float, note: str, tip: str) -> list[str]:
    """An arrow downwards, and beside it what it carries."""
    return [
        f'<path d="M{x} {y1} V{y2}" stroke="#5b6878" stroke-width="1.4" marker-end="url(#{tip})"/>',
        *([_text(x + 10, (y1 + y2) / 2 + 4, note, size=12, color="#5b6878")] if note else []),
    ]


def _lines(names: Sequence[str]) -> list[str]:
    """The names, a line each; where they are too many, how many more there are."""
    return [*names] if len(names) <= _LINES else [*names[: _LINES - 1], f"and {len(names) - _LINES + 1} more"]


def _clients(plan: Plan, part: Submodel) -> list[Tensor]:
    """The clients' inputs that a model reads itself."""
    names = {tensor.name for tensor in part.inputs}
    return [tensor for tensor in plan.inputs if tensor.name in names]


def _sizes(tensors: Sequence[Tensor]) -> str:
    """Bytes of a row where all dims are known, else the number of tensors."""
    if any(size < 0 for tensor in tensors for size in tensor.dims):
        return f"{len(tensors)} tensors" if len(tensors) > 1 else "varying length"
    total = sum(math.prod(tensor.dims) * SIZE_BYTES[tensor.dtype] for tensor in tensors)
    return f"{size_text(total)} a row"


def _model(part: Submodel, x: float, y: float, width: float, height: float, color: str) -> list[str]:
    """A box, its name above it and its instances below."""
    plural = "instance" if part.instances == 1 else "instances"
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="#fff" stroke="{color}" stroke-width="1.6"/>',
        _text(x + 14, y - 8, _short(part.name, 24), size=14.5, color=color, weight=650),
        _text(
            x + width / 2,
            y + height + 16,
            f"{part.instances} {plural}, {part.kind.upper()}",
            size=12,
            color="#5b6878",
            anchor="middle",
        ),
    ]


def _tables(table_bars: list[Bar], x: float, top: float, width: float, height: float) -> list[str]:
    """One bar a table. Heights follow the bytes, with a least height that keeps the name readable."""
    if not table_bars:
        return []
    room = height - _GAP * (len(table_bars) - 1)
    least = min(19.0, room / len(table_bars))
    total = sum(bar.size_bytes for bar in table_bars) or 1
    spare = room - least * len(table_bars)
    most = max((bar.reads for bar in table_bars if bar.reads is not None), default=0) or 1
    parts, y = [], float(top)
    for bar in table_bars:
        tall = least + spare * bar.size_bytes / total
        share = 0.5 if bar.reads is None else bar.reads / most
        fill = "#" + "".join(f"{round(cold + (hot - cold) * share):02x}" for cold, hot in zip(_COLD, _HOT, strict=True))
        ink = "#ffffff" if share > 0.55 else "#16202e"
        reads = "reads vary" if bar.reads is None else f"{bar.reads:g} read{'' if bar.reads == 1 else 's'} a row"
        parts += [
            f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{tall:.1f}" rx="4" fill="{fill}"/>',
            _text(x + 10, y + tall / 2 + 4.2, _short(bar.name, int(width / 7) - 22), size=12, color=ink),
            _text(x + width - 10, y + tall / 2 + 4.2, f"{size_text(bar.size_bytes)} · {reads}", size=12, color=ink, anchor="end"),
        ]
        y += tall + _GAP
    return parts


def _arrow(x1: float, x2: float, labels: Sequence[str], note: str) -> list[str]:
    """An arrow with its labels above it, a line each, and below it how much it carries."""
    y, middle = HEIGHT / 2, (x1 + x2) / 2
    lines = _lines(labels)
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
