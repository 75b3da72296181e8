"""What `recsplit control DIR --fleet FOLDER` acts on: the shards of a running fleet that were given room."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsplit_controller.actuate.protocol import Actuator
    from recsplit_controller.targets.targets import Asked


def shards(
    stack: contextlib.ExitStack, repository: Path, model: str | None, file: Path | None, folder: Path, *, dry_run: bool
) -> "tuple[str, Asked, Actuator]":
    """The ensemble, settings and targets, and who acts; the fleet's lease is held until `stack` ends. Raises InputError without a fleet."""
    from recsplit.repository.find import find
    from recsplit_controller.actuate.dry import DryActuator
    from recsplit_controller.actuate.fleet import FleetActuator, room
    from recsplit_controller.lease.one_machine import FileLease
    from recsplit_controller.targets.targets import Asked, of_fleet, read_settings
    from recsplit_controller.values.settings import Settings

    plan = find(repository, model).plan
    targets = of_fleet(plan, room(folder))
    asked = Asked(Settings(), targets) if file is None else read_settings(file, targets)
    acting = FleetActuator(folder, asked.targets)
    if dry_run:
        return plan.name, asked, DryActuator(acting, lambda _text: None)
    stack.enter_context(FileLease(str(folder.resolve()), f"recsplit control {repository} --fleet"))
    return plan.name, asked, acting
