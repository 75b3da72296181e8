"""`recsplit rollback`: an earlier build of a repository is served again."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option, show_json, show_table
from recsplit.commands.switched import KEY_HELP, URL_HELP, switch_all


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name tiny",
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name tiny",
        "recsplit rollback /tmp/models",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--to", "version", type=int, metavar="VERSION", help="The version to serve. Default: the one before that is served.")
@click.option("--list", "listing", is_flag=True, help="Only show the versions that DIR holds.")
@click.option("--grpc-url", metavar="HOST:PORT", help=URL_HELP)
@click.option("--control-key", metavar="FILE", type=click.Path(path_type=Path), help=KEY_HELP)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=300, show_default=True, metavar="S", help="Bound of each step.")
@json_option
def command(
    repository: Path,
    model: str | None,
    version: int | None,
    listing: bool,
    grpc_url: str | None,
    control_key: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Serve an earlier build of DIR again: on the disk, and on the servers that serve DIR, while they answer.

    Builds that stay are those that recsplit build --keep N kept. A newer one comes back by --to; the next build has a number of its own.
    """
    from recsplit.repository.find import ensemble_name, served_version
    from recsplit.repository.kept import kept_builds
    from recsplit.serving.switching.update import rollback

    if listing:
        name = ensemble_name(repository, model)
        served = served_version(repository / name)
        rows = [(kept.version, kept.build, kept.version == served) for kept in kept_builds(repository, name)]
        if as_json:
            show_json([dict(zip(("version", "build", "served"), row, strict=True)) for row in rows])
        else:
            show_table(("version", "build", ""), [(number, build, "served" if here else "") for number, build, here in rows])
        return
    switch_all(rollback, repository, model, grpc_url, control_key, as_json=as_json, version=version, timeout_s=timeout)
