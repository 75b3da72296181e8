"""The config.pbtxt of a router: the inputs and outputs of the models behind it, which are all alike, and queries of any size."""

from recsplit.configs.check import parse
from recsplit.configs.render import client_of, render_one
from recsplit.errors import InputError
from recsplit.plan.files import CONFIG_FILE
from recsplit.plan.plan import Plan

#: Rows of a query: a message of gRPC's, 2 GiB, has room for few more.
MOST_ROWS = 1 << 20


def router_config(name: str, version: int, build: str, plans: dict[str, Plan]) -> str:
    """The text, for `plans` of the models behind it by name. Raises InputError where clients would have to ask one of them otherwise."""
    first = next(iter(plans.values()))
    for model, plan in plans.items():
        if (plan.inputs, plan.outputs, plan.bags) != (first.inputs, first.outputs, first.bags):
            raise InputError(
                f"{model!r} has other inputs or outputs than {first.name!r}",
                hint="one router's models are asked alike: build them with one signature",
            )
    client = {**client_of(first), "max_batch_size": MOST_ROWS}
    text = render_one("router.pbtxt.j2", {"plan": first, "name": name, "version": version, "build": build, "client": client})
    parse(text, origin=f"{name}/{CONFIG_FILE}")
    return text
