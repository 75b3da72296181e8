"""The command `render prometheus`: what Prometheus and Grafana read to watch a build."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option, show_json, show_table

TARGET_HELP = (
    "A server's metrics port; of a fleet with its part, as front=10.0.0.1:8002 or 0=10.0.0.2:8002. Repeatable. Default: 127.0.0.1:8002."
)

JOB_HELP = "The scrape job that reads the servers, as NAMESPACE/NAME of a PodMonitor. Repeatable. Default: recsplit."


@click.command(
    epilog=example(
        "recsplit render prometheus model_repository/ -o /tmp/watch --p95-bound-ms 50",
        "promtool check config /tmp/watch/prometheus.yml",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Where the files go.")
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--target", "targets", metavar="[PART=]HOST:PORT", multiple=True, help=TARGET_HELP)
@click.option("--controller", "controllers", metavar="HOST:PORT", multiple=True, help="A controller's metrics port. Repeatable.")
@click.option("--p95-bound-ms", type=click.FloatRange(0, min_open=True), help="Bound of a query's latency. Without it no alert on latency.")
@click.option("--scrape-interval-s", type=click.IntRange(1), default=2, show_default=True, help="Seconds between two scrapes.")
@click.option("--window-s", type=click.IntRange(2), default=10, show_default=True, help="How far back rates look.")
@click.option("--job", "jobs", metavar="NAME", multiple=True, help=JOB_HELP)
@json_option
def command(
    repository: Path,
    output: Path,
    model: str | None,
    targets: tuple[str, ...],
    controllers: tuple[str, ...],
    p95_bound_ms: float | None,
    scrape_interval_s: int,
    window_s: int,
    jobs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write what watches the build in DIR: Prometheus' scrape configuration, recording rules and alerts, and a dashboard for Grafana.

    The controller reads the recorded series (recsplit control --prometheus URL). docs/monitoring.md says what each means. FOLDER can be
    rendered again; targets.json then stays as it is, unless --target is given.
    """
    from recsplit.monitoring import names
    from recsplit.monitoring.rendering import FOLDER, TARGETS, render
    from recsplit.monitoring.watching import Scraped, Watching
    from recsplit.rendering import rendered_folder
    from recsplit.repository.find import find

    servers = []
    for target in targets or ("127.0.0.1:8002",):
        part, mark, address = target.rpartition("=")
        servers.append(Scraped(address, part if mark else None))
    watching = Watching(
        servers=tuple(servers),
        controllers=controllers,
        interval_s=scrape_interval_s,
        window_s=window_s,
        bound_ms=p95_bound_ms,
        jobs=jobs or (names.JOB,),
    )
    texts = render(find(repository, model).plan, watching)
    if not targets and (output / TARGETS).is_file():
        del texts[TARGETS]
    rendered_folder.write(output, texts, FOLDER)
    if as_json:
        show_json({"folder": str(output), "files": sorted(texts)})
        return
    show_table(("file", "what"), [(name, WHAT[name]) for name in texts])
    click.echo(f"\nRun it: prometheus --config.file={output / 'prometheus.yml'}")


WHAT = {
    "prometheus.yml": "scrapes the servers, names the other files",
    "targets.json": "the servers' addresses: yours to edit, Prometheus sees it at once",
    "rules.yml": "records rates, busy instances, waiting and latencies by model",
    "alerts.yml": "queries slow or failing, stuck loads, dead stubs, a stalled controller",
    "prometheusrule.yaml": "rules and alerts as one object of prometheus-operator, for kubectl apply",
    "dashboard.json": "for Grafana: import it, and choose the Prometheus",
}
