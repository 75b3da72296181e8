"""What goes wrong, in words for the person at the keyboard.

    RecsplitError            exit code 1: the work failed
        InputError           exit code 2: what the user gave can't be used as it is
            MissingExtra     exit code 2: an optional package isn't installed

Every error says what failed and what to try next. The command line shows them in one place (cli.py);
no other module prints or exits.
"""


class RecsplitError(Exception):
    """Something failed. `str()` is one sentence; `hint` says what to try; `detail` holds a log tail, if any."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.detail = detail


class InputError(RecsplitError):
    """The user's input (a path, a model, an option) can't be used as it is."""

    exit_code = 2


def extras_by_package() -> dict[str, str]:
    """By package, the first extra that brings it, of those whose import is named as they are; none of what every installation has."""
    import re  # only where something is missing
    from importlib import metadata

    try:
        requirements = metadata.requires("recsplit") or []
    except metadata.PackageNotFoundError:  # run from a checkout that isn't installed
        return {}
    extras: dict[str, str] = {}
    for matched in filter(None, (re.match(r"([\w.-]+)[^;]*(?:;.*extra == ['\"](\w+)['\"])?", text) for text in requirements)):
        if matched[2] != "dev":
            extras.setdefault(matched[1], matched[2] or "")
    return {package: extra for package, extra in extras.items() if extra}


class MissingExtra(InputError):
    """An optional package is absent; the hint holds the pip command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{package} is not installed, and {purpose} needs it",
            hint=f"pip install 'recsplit[{extra}]'",
        )
