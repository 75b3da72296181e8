"""The eight models of DeepRecSys (Gupta et al., ISCA 2020) with the layer sizes of its repository, and without its faults.

Every one takes INT64 ids [batch, lookups], one table's after the other, behind FP32 dense [batch, dense] where the model
has dense features. What is ours, and why, stands in the catalogue's notes.
"""

from functools import partial

import torch
from torch import Tensor, nn

from recsplit.zoo.catalogue.catalogue import DIEN_STATE, DIEN_STEPS, DIN_BEHAVIOURS
from recsplit.zoo.catalogue.published import Bags, Factory, GroupedLinear, PublishedDLRM, published_model
from recsplit.zoo.catalogue.shapes import Published
from recsplit.zoo.layers import Model, mlp


class NCF(nn.Module):
    """INT64 ids [batch, 4] -> FP32 [batch, 1]: the first two vectors multiplied, beside a perceptron over the other two."""

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        self.deep = mlp(*model.stack("deep").widths)
        self.final = mlp(*model.stack("final").widths)
        self.score = mlp(*model.stack("score").widths)

    def forward(self, ids: Tensor) -> Tensor:
        one, two, three, four = self.bags(ids)
        deep = torch.relu(self.deep(torch.cat([three, four], dim=1)))
        return torch.sigmoid(self.score(torch.relu(self.final(torch.cat([one * two, deep], dim=1)))))


class WideAndDeep(nn.Module):
    """FP32 dense [batch, 512], INT64 ids [batch, 27] -> FP32 [batch, 1]: raw dense features join the vectors."""

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        self.deep = mlp(*model.stack("deep").widths)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        return torch.sigmoid(self.deep(torch.cat([dense, *self.bags(ids)], dim=1)))


class MultiTaskWideAndDeep(nn.Module):
    """FP32 dense [batch, 512], INT64 ids [batch, 43] -> FP32 [batch, tasks]: a shared perceptron, and one a task on top of it."""

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        self.shared = mlp(*model.stack("shared").widths)
        tasks, scores = model.stack("tasks"), model.stack("scores")
        self.tasks = nn.ModuleList(mlp(*tasks.widths, *scores.widths[1:]) for _ in range(tasks.copies))

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        shared = torch.relu(self.shared(torch.cat([dense, *self.bags(ids)], dim=1)))
        return torch.sigmoid(torch.cat([task(shared) for task in self.tasks], dim=1))


class DIN(nn.Module):
    """INT64 ids [batch, 759] -> FP32 [batch, 2], the probabilities of no click and a click.

    A behaviour's attention unit sees its vector, the ad's and the sum of both, and gives what it adds to the interest:
    96-1-32, which joins the weight and the weighted sum of the DIN paper in one perceptron (DeepRecSys's own form).
    The tables are the user's profile, the behaviours, the ad and the context.
    """

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        narrow, _, wide = model.stack("attention").widths
        self.weigh = GroupedLinear(DIN_BEHAVIOURS, narrow, 1)
        self.widen = GroupedLinear(DIN_BEHAVIOURS, 1, wide)
        self.predict = mlp(*model.stack("predict").widths)

    def forward(self, ids: Tensor) -> Tensor:
        profile, *behaviours, ad, context = self.bags(ids)
        behaviour = torch.cat(behaviours, dim=1).unflatten(1, (DIN_BEHAVIOURS, -1)).transpose(0, 1)  # one product covers all units
        ads = ad.unsqueeze(0).expand_as(behaviour)
        weights = torch.relu(self.weigh(torch.cat([behaviour, ads, behaviour + ads], dim=2)))
        interest = torch.relu(self.widen(weights)).sum(dim=0)
        return torch.softmax(self.predict(torch.cat([profile, interest, ad, context], dim=1)), dim=1)


class GRU(nn.Module):
    """A gated recurrent unit: FP32 [batch, steps, width] -> its states, FP32 [batch, steps, state].

    Unrolled, so that no Loop is exported. With `attention`, FP32 [batch, steps], a step's update gate is scaled by it: the
    AUGRU of DIEN (Zhou et al., AAAI 2019), section "Interest Evolving Layer".
    """

    def __init__(self, width: int, state: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.inputs = nn.Linear(width, 3 * state)
        self.states = nn.Linear(state, 3 * state, bias=False)

    def forward(self, sequence: Tensor, attention: Tensor | None = None) -> Tensor:
        # Of all steps at once, since they do not wait for each other; one Split each, where [:, step] would be two nodes a step.
        gates = [gate.flatten(1).chunk(self.steps, dim=1) for gate in self.inputs(sequence).chunk(3, dim=2)]
        weights = () if attention is None else attention.chunk(self.steps, dim=1)
        state = torch.zeros_like(gates[0][0])
        seen = []
        for step in range(self.steps):
            to_update, to_reset, to_want = self.states(state).chunk(3, dim=1)
            update = torch.sigmoid(gates[0][step] + to_update)
            reset = torch.sigmoid(gates[1][step] + to_reset)
            candidate = torch.tanh(gates[2][step] + reset * to_want)
            state = state + (update if attention is None else update * weights[step]) * (candidate - state)
            seen.append(state)
        return torch.cat(seen, dim=1).unflatten(1, (self.steps, -1))


class DIEN(nn.Module):
    """INT64 ids [batch, 43] -> FP32 [batch, 2], the probabilities of no click and a click.

    A GRU reads 40 behaviours; its states are weighed by softmax(h W e) against the ad e, and an AUGRU reads them by that
    weight (DIEN, sections "Interest Extractor Layer" and "Interest Evolving Layer"; the auxiliary loss is for training
    only). The tables are the user's profile, the behaviours, the ad and the context.
    """

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        self.interest = GRU(model.dim, DIEN_STATE, DIEN_STEPS)
        self.attention = nn.Linear(model.dim, DIEN_STATE, bias=False)
        self.evolution = GRU(DIEN_STATE, DIEN_STATE, DIEN_STEPS)
        self.predict = mlp(*model.stack("predict").widths)

    def forward(self, ids: Tensor) -> Tensor:
        profile, *behaviours, ad, context = self.bags(ids)
        interests = self.interest(torch.cat(behaviours, dim=1).unflatten(1, (DIEN_STEPS, -1)))
        likeness = interests @ self.attention(ad).unsqueeze(2)
        evolved = self.evolution(interests, torch.softmax(likeness.squeeze(2), dim=1))[:, -1]
        return torch.softmax(self.predict(torch.cat([profile, evolved, ad, context], dim=1)), dim=1)


_MODULES = {
    "ncf": NCF,
    "wide_and_deep": WideAndDeep,
    "mt_wide_and_deep": MultiTaskWideAndDeep,
    "mt_wide_and_deep_8": MultiTaskWideAndDeep,
    "din": DIN,
    "dien": DIEN,
}


def _deeprecsys(name: str, *, rows_scale: float | None = None, batch: int = 4, seed: int = 0) -> Model:
    return published_model(name, _MODULES.get(name, partial(PublishedDLRM, interaction="cat")), rows_scale, batch, seed)


ncf: Factory = partial(_deeprecsys, "ncf")
wide_and_deep: Factory = partial(_deeprecsys, "wide_and_deep")
mt_wide_and_deep: Factory = partial(_deeprecsys, "mt_wide_and_deep")
mt_wide_and_deep_8: Factory = partial(_deeprecsys, "mt_wide_and_deep_8")
dlrm_rmc1: Factory = partial(_deeprecsys, "dlrm_rmc1")
dlrm_rmc2: Factory = partial(_deeprecsys, "dlrm_rmc2")
dlrm_rmc3: Factory = partial(_deeprecsys, "dlrm_rmc3")
din: Factory = partial(_deeprecsys, "din")
dien: Factory = partial(_deeprecsys, "dien")
