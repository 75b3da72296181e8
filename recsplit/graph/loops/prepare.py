"""A loaded model made ready for the cut: loops that are bags become nodes, settled branches are inlined, faulty exports are refused."""

from dataclasses import dataclass, field

import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph import conditions, passes
from recsplit.graph.loops.branches import settle_branches
from recsplit.graph.loops.collapse import collapse_loops
from recsplit.graph.loops.faults import faults


@dataclass
class Preparing:
    """A model, and for each Loop that stays, by its name, why it isn't a bag."""

    model: ir.Model
    loops: dict[str, str] = field(default_factory=dict)


def prepare(model: ir.Model, *, refusing: bool = True) -> dict[str, str]:
    """Prepare a loaded model in place; for each Loop that stays, by its name, why it isn't a bag.

    Raises InputError for an export that lost what its source said; `refusing` false leaves that out, for a look at a model.
    """
    state = Preparing(model)
    passes.run(PREPARE if refusing else PREPARE[:-1], state, lambda state: [state.model])
    return state.loops


def _collapse(state: Preparing) -> None:
    state.loops = {loop.name: loop.reason for loop in collapse_loops(state.model) if loop.reason}


def _refuse(state: Preparing) -> None:
    faulty = faults(state.model)
    if faulty:
        raise InputError(
            f"the export is faulty: {faulty[0].what}",
            hint=faulty[0].hint,
            detail="\n".join(f"{fault.node}: {fault.what}" for fault in faulty),
        )


_LOADED = (conditions.NO_FUNCTIONS, conditions.NO_CONSTANTS, conditions.UNIQUE_NAMES, conditions.BATCHED_INPUTS)

PREPARE: tuple[passes.Pass[Preparing], ...] = (
    passes.Pass("collapse loops", _collapse, _LOADED, (conditions.UNIQUE_NAMES,)),
    passes.Pass("settle branches", lambda state: settle_branches(state.model), ensures=(conditions.UNIQUE_NAMES,)),
    passes.Pass("refuse faulty exports", _refuse),
)
