"""What the options of the command `partition` say of calls, servers and prices."""

import dataclasses
import math
from pathlib import Path

from recsplit.errors import InputError
from recsplit.partition.cost import CostSettings
from recsplit.plan.plan import Plan


def settings_of(
    plan: Plan,
    qps: float,
    query_size: float,
    *,
    profile: Path | None,
    call_ms: str | None,
    min_mb: float | None,
    dense_ms: float | None,
    dense_mb: float | None,
    front_mb: float | None,
    max_shards: int,
    price: str | None,
    bound_ms: float | None,
    percentile: float,
) -> CostSettings:
    """The settings that the options tell; what is given by hand goes before what the profile says. Raises InputError."""
    from recsplit.capacity import profile as profiles
    from recsplit.capacity.profile import Fit
    from recsplit.partition import measured
    from recsplit.partition.cost import CallBound, Front, Prices

    if profile is None:
        settings = CostSettings(qps)
    else:
        known = profiles.read(profile)
        if known.model != plan.name:
            raise InputError(f"{profile} is a profile of {known.model!r}, and the model is {plan.name!r}", hint="recsplit profile DIR")
        settings = measured.settings(known, qps, query_size, sum(table.size_bytes for table in plan.tables))
    fit, min_bytes = settings.fit, settings.min_bytes
    if call_ms is not None:
        a_ms, b_ms = _numbers("--call-ms", call_ms, 2, "A,B as in 10,1.524")
        fit = Fit(a_ms, b_ms, r2=1.0)
    if min_mb is not None:
        min_bytes = round(min_mb * 1e6)
    settings = dataclasses.replace(settings, max_shards=max_shards, fit=fit, min_bytes=min_bytes)
    if dense_ms is not None or dense_mb is not None:
        known_front = settings.front
        if dense_ms is None and known_front is None:
            raise InputError("--dense-mb goes with --dense-ms", hint="--dense-ms 48.5 --dense-mb 300")
        size = settings.min_bytes if known_front is None else known_front.size_bytes
        front = Front(
            dense_ms=known_front.dense_ms if dense_ms is None and known_front is not None else float(dense_ms or 0),
            row_ms=settings.fit.b_ms if known_front is None else known_front.row_ms,
            size_bytes=size if dense_mb is None else round(dense_mb * 1e6),
        )
        settings = dataclasses.replace(settings, front=front)
    if front_mb is not None:
        if settings.front is None:
            raise InputError("--front-mb limits the rows in a front server of which nothing is known", hint="--profile FILE, or --dense-ms")
        settings = dataclasses.replace(settings, front=dataclasses.replace(settings.front, most_bytes=front_mb * 1e6))
    if price is not None:
        settings = dataclasses.replace(settings, prices=Prices(*_prices(price)))
    if bound_ms is not None:
        settings = dataclasses.replace(settings, bound=CallBound(bound_ms, percentile))
    return settings


def _prices(text: str) -> tuple[float, float, float]:
    hint = "gb=0.004,core=0.03,sent=0.01; what is left out costs nothing"
    prices = dict.fromkeys(("gb", "core", "sent"), 0.0)
    for item in text.split(","):
        name, _, number = item.partition("=")
        if name.strip() not in prices:
            raise InputError(f"--price has {item!r}", hint=hint)
        (prices[name.strip()],) = _numbers("--price", number, 1, hint)
    if not any(prices.values()):
        raise InputError("--price: everything costs nothing", hint=hint)
    return prices["gb"], prices["core"], prices["sent"]


def _numbers(option: str, text: str, count: int, hint: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(item) for item in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r} can't be read", hint=hint) from error
    if len(numbers) != count or not all(math.isfinite(value) and value >= 0 for value in numbers):
        raise InputError(f"{option} {text!r} can't be read", hint=hint)
    return numbers
