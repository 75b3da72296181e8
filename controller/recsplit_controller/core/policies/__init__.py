"""Policies: from what is known to how many units each target should have. Pure functions, one a module, and the table of them.

A new policy is a module here with one function of a Context, and a line in POLICIES (in BOUNDED or GROUPED too, where it needs a
latency bound or a group); and its name in recsplit/commands/control.py, whose own list spares --help the import of the controller. A test
compares the two.
"""

from collections.abc import Mapping, Sequence

from recsplit.errors import InputError
from recsplit_controller.core.policies.elasticrec import elasticrec
from recsplit_controller.core.policies.latency import latency
from recsplit_controller.core.policies.utilization import utilization
from recsplit_controller.core.policies.variants import check, variants
from recsplit_controller.core.policies.wishes import Policy, aim_ms
from recsplit_controller.values.settings import Settings, Target

__all__ = ["POLICIES", "Policy", "policy_of"]

POLICIES: Mapping[str, Policy] = {"utilization": utilization, "latency": latency, "elasticrec": elasticrec, "variants": variants}
#: Those that aim at the latency bound, and so need one.
BOUNDED = frozenset({"latency", "elasticrec"})
#: Those that choose among the targets of a group.
GROUPED = frozenset({"variants"})


def policy_of(settings: Settings, targets: Sequence[Target]) -> Policy:
    """The policy that the settings name. Raises InputError where there is none of that name, or where it lacks a setting or something of
    a target."""
    if settings.policy not in POLICIES:
        raise InputError(f"there is no policy {settings.policy!r}", hint=f"choose one of {', '.join(POLICIES)}")
    if settings.policy in BOUNDED:
        aim_ms(settings)
    if settings.policy in GROUPED:
        check(targets)
    return POLICIES[settings.policy]
