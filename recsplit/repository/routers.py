"""Writing a router into a model repository, in front of models that are there."""

import hashlib
from pathlib import Path

from recsplit.errors import InputError
from recsplit.plan.files import CONFIG_FILE, ROUTING_FILE
from recsplit.plan.routing import Routing, from_json, to_json
from recsplit.repository.find import find, is_router, served_version, text_of
from recsplit.repository.staging import staging


def router_name(repository: Path, name: str | None) -> str:
    """`name`, or the only router there is. Raises InputError where there is none of that name, or several and no `name`."""
    if not repository.is_dir():
        raise InputError(f"{repository} is not a folder", hint="recsplit build SOURCE -o DIR writes a model repository")
    names = _names(repository)
    hint = "recsplit route DIR --name NAME --to MODEL makes one"
    if name is not None:
        if name not in names:
            raise InputError(f"{repository} holds no router {name!r}", hint=f"it holds {', '.join(names)}" if names else hint)
        return name
    if len(names) != 1:
        listing = f"several routers: {', '.join(names)}" if names else "no router"
        raise InputError(f"{repository} holds {listing}", hint="say which one with --name" if names else hint)
    return names[0]


def router_of(repository: Path, model: str | None) -> str | None:
    """`model` where that is a router; without one the only router that there is. None where a plan is meant."""
    names = _names(repository) if repository.is_dir() else []
    if model is None:
        return names[0] if len(names) == 1 else None
    return model if model in names else None


def _names(repository: Path) -> list[str]:
    return [folder.name for folder in sorted(repository.iterdir()) if is_router(folder)]


def settings_of(repository: Path, name: str) -> Routing:
    """What router `name` does, by its served version. Raises InputError where that can't be read."""
    path = repository / name / str(served_version(repository / name)) / ROUTING_FILE
    return from_json(text_of(path), origin=str(path))


def publish(repository: Path, name: str, routing: Routing, *, keep: int = 1) -> int:
    """Make `routing` the newest version of router `name`, which is returned; `keep` versions are there then.

    Raises InputError where a model isn't in the repository or isn't asked as the others are, and where `name` is another's.
    """
    from recsplit.configs.router import router_config  # Jinja: reading a router, as a controller does, needs none

    # Of models on other servers too: they serve this repository, or a copy of it.
    models = sorted({server.model for variant in routing.variants for server in variant.servers})
    plans = {model: find(repository, model).plan for model in models}
    text = to_json(routing)
    with staging(repository, name, "router") as stage:
        build = hashlib.sha256(f"{stage.version} {text}".encode()).hexdigest()[:16]
        stage.write({f"{name}/{CONFIG_FILE}": router_config(name, stage.version, build, plans)})
        stage.path(name, ROUTING_FILE).write_text(text, encoding="utf-8")
        stage.publish(build, keep=keep)
        return stage.version
