"""The page: facts on top, sections below, everything inside one HTML file that needs no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


@dataclass(frozen=True)
class Fact:
    """One number that matters, with its unit, and a word on what it is."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text; numbers are given as they shall be read."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence that says what is to be seen, pictures (SVG text) side by side, and perhaps a table."""

    title: str
    lead: str
    figures: tuple[str, ...] = ()
    table: Table | None = None
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report. `origin` names machine, versions, commit and command, as pairs of text."""

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    origin: tuple[tuple[str, str], ...]


def origin(provenance: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Of a benchmark's page: its machine, commit and command, from what machine.provenance said."""
    machine = provenance["machine"]
    return (
        ("machine", f"{machine['cpu']}, {machine['cores']} cores"),
        ("commit", str(provenance["commit"] or "outside of a checkout")),
        ("command", str(provenance["command"])),
    )


def render(page: Page) -> str:
    """The page as HTML. Everything but the pictures is escaped: names come from users' models."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # A picture says of itself that it takes the page's whole width, or that it is for a phone, in the place of the wide one beside it.
    environment.tests |= {"is_wide": lambda figure: "data-wide" in figure, "is_narrow": lambda figure: "data-narrow" in figure}
    source = (resources.files("recsplit") / "templates" / "report" / "page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(page=page, picture=Markup)
