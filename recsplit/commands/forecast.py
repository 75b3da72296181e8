"""The command `forecast`: forecasters back-tested on a trace of requests per second."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsplit.commands.output import Cell, example, json_option, progress, refuse_output, show_json, show_table
from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit_controller.simulated.backtest import Test
    from recsplit_controller.simulated.play import Played

#: What really came, told beforehand: no forecaster can do better.
ORACLE = "oracle"


@click.command(
    epilog=example(
        "recsplit forecast half-hourly-bursts",
        "recsplit forecast half-hourly-bursts --forecaster ewm --start-s 10 --json",
    )
)
@click.argument("trace", metavar="TRACE", type=click.Path(path_type=Path))
@click.option("--column", metavar="NAME", help="TRACE is a CSV file, and this column counts.")
@click.option(
    "--forecaster",
    "forecasters",
    metavar="NAME",
    multiple=True,
    help="last_max, ewm, holt, seasonal, lstm:FILE; again for more. All without.",
)
@click.option("--train", metavar="FILE", type=click.Path(path_type=Path), help="Train an LSTM too, and write its weights there (torch).")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=0.35,
    show_default=True,
    help="Of the trace, its end, that is forecast; training takes the rest.",
)
@click.option(
    "--period-s", type=click.IntRange(1), default=60, show_default=True, help="What is forecast is the next period's largest rate."
)
@click.option(
    "--service-ms", type=click.FloatRange(0, min_open=True), default=40.0, show_default=True, help="That a query takes an instance."
)
@click.option("--bound-ms", type=click.FloatRange(0, min_open=True), help="Slower queries miss; five times --service-ms without.")
@click.option("--busy-share", type=click.FloatRange(0, 1, min_open=True), default=0.6, show_default=True, help="Of instances, aimed at.")
@click.option("--start-s", type=click.FloatRange(0), default=1.0, show_default=True, help="Until a new instance serves.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals within each second, and of training.")
@json_option
def command(
    trace: Path,
    column: str | None,
    forecasters: tuple[str, ...],
    train: Path | None,
    test_share: float,
    period_s: int,
    service_ms: float,
    bound_ms: float | None,
    busy_share: float,
    start_s: float,
    seed: int,
    as_json: bool,
) -> None:
    """Back-test the controller's forecasters on TRACE: how far off they are, and what that costs queries.

    TRACE has the requests of each second, a line each or with spaces between; .gz will do; half-hourly-bursts comes with recsplit.
    The end of it is forecast, period by period, from what came before. It is also played, query by query, to simulated instances:
    with counts that follow the forecast alone, set once a period, and under the controller, which looks at the present as well.
    "seasonal" knows the time of day after a day.
    """
    from recsplit.capacity.shipped import shipped
    from recsplit_controller import forecast
    from recsplit_controller.forecast import trace as traces
    from recsplit_controller.simulated import backtest
    from recsplit_controller.simulated.station import Units
    from recsplit_controller.values.settings import Settings

    if train is not None:
        refuse_output(train)
    names = list(dict.fromkeys(forecasters or forecast.FORECASTERS))
    for name in names:
        forecast.named(name)
    with progress(f"Reading {trace}"):
        rates = traces.read(shipped(trace, ".txt"), column)
    bound_ms = 5 * service_ms if bound_ms is None else bound_ms
    settings = Settings(busy_share=busy_share, period_s=period_s)
    units = Units(service_s=service_ms / 1000, start_s=start_s)
    test = backtest.end_of(rates, test_share, settings, units, bound_ms=bound_ms, seed=seed)
    periods = len(test.came())
    seconds = periods * period_s
    if train is not None:
        names.append(_trained(test, train))
    with progress(f"Playing {seconds} seconds", backtest.seconds_of(test, len(names))) as advance:
        ranking = backtest.compare(test, names, advance)
    scores, oracle = ranking.scores, ranking.oracle
    rows = [
        {"forecaster": score.forecaster, **vars(score.errors), "alone": _played(score.alone), "controlled": _played(score.controlled)}
        for score in scores
    ]
    result = {
        "trace": trace,
        "seconds": seconds,
        "queries": oracle.queries,
        "period_s": period_s,
        "service_ms": service_ms,
        "bound_ms": bound_ms,
        "busy_share": busy_share,
        "start_s": start_s,
        "forecasters": rows,
        ORACLE: _played(oracle),
    }
    if as_json:
        show_json(result)
        return
    columns = (
        "forecaster",
        "error",
        "short",
        "over",
        "periods > 10 % short",
        "misses alone",
        "instances",
        "misses controlled",
        "instances",
    )
    table: list[list[Cell]] = [
        [
            *(score.forecaster, score.errors.error, score.errors.short, score.errors.over, f"{score.errors.short_share:.1%}"),
            *(f"{score.alone.miss_share:.3%}", score.alone.mean_units, f"{score.controlled.miss_share:.3%}", score.controlled.mean_units),
        ]
        for score in scores
    ]
    table.append([ORACLE, 0.0, 0.0, 0.0, "0.0%", f"{oracle.miss_share:.3%}", oracle.mean_units, None, None])
    show_table(columns, table, title=f"{trace.name}: {periods} periods of {period_s} s, {oracle.queries} queries, bound {bound_ms:g} ms")
    if train is not None:
        click.echo(f"The weights are in {train}; the controller takes them as the forecaster lstm:{train}")


def _trained(test: "Test", path: Path) -> str:
    """Train on what comes before the test, write the weights, and return the forecaster's name."""
    from recsplit.disk.files import whole_file
    from recsplit_controller.forecast import training

    rounds = 30
    with progress("Training an LSTM", rounds) as advance:
        weights = training.train(test.known(), rounds=rounds, seed=test.seed, advance=advance)
    try:
        with whole_file(path) as file:
            file.write(training.packed(weights))
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}", hint="choose another place") from error
    return f"lstm:{path}"


def _played(played: "Played") -> dict[str, float]:
    return {
        "misses": played.misses,
        "miss_share": played.miss_share,
        "mean_instances": played.mean_units,
        "instance_seconds": played.unit_s,
    }
