"""`recsplit update`: a running server takes the build that its repository holds now."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option
from recsplit.commands.switched import KEY_HELP, URL_HELP, switch_all


@click.command(
    epilog=example("recsplit build recsplit.zoo.tiny:dlrm -o model_repository/ --name tiny", "recsplit update model_repository/")
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--grpc-url", metavar="HOST:PORT", help=URL_HELP)
@click.option("--control-key", metavar="FILE", type=click.Path(path_type=Path), help=KEY_HELP)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=300, show_default=True, metavar="S", help="Bound of each step.")
@json_option
def command(repository: Path, model: str | None, grpc_url: str | None, control_key: Path | None, timeout: float, as_json: bool) -> None:
    """Let the servers that serve DIR take the build that DIR holds now, while they answer.

    The new build is loaded beside the one that serves; then it takes its place; the old one goes when its last request is answered. No
    request fails by that, and none is answered by both. Where the new build can't be loaded, the old one serves on.
    """
    from recsplit.serving.switching.update import update

    switch_all(update, repository, model, grpc_url, control_key, as_json=as_json, timeout_s=timeout)
