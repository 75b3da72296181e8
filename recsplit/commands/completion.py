"""`recsplit completion`: print the script that teaches a shell to complete recsplit's commands and options."""

import click
from click.shell_completion import get_completion_class

from recsplit.commands.output import example


@click.command(epilog=example("recsplit completion bash > ~/.local/share/bash-completion/completions/recsplit"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    bash loads it from the file in the example; in zsh say `eval "$(recsplit completion zsh)"` in ~/.zshrc; fish
    wants it in ~/.config/fish/completions/recsplit.fish.
    """
    completion = get_completion_class(shell)
    assert completion is not None  # the choices are click's own
    click.echo(completion(ctx.find_root().command, {}, "recsplit", "_RECSPLIT_COMPLETE").source())
