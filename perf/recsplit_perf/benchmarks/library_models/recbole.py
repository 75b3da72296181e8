"""RecBole: its context-aware, sequential, general and knowledge-aware recommenders, by `predict` and by `full_sort_predict`.

A RecBole model is made of a Config and a dataset: here a small one of recbole_data, drawn anew in every process.
"""

import functools
import importlib
from typing import Any

import torch
from torch import Tensor, nn

from recsplit_perf.benchmarks.library_models import recbole_data
from recsplit_perf.benchmarks.library_models.seeds import WEIGHTS, Factory, Sample, weighted

_CLOSED = "has no table: its scores are a matrix computed from the clicks, not trained"
LEFT_OUT = {
    **dict.fromkeys(("ADMMSLIM", "AsymKNN", "EASE", "ItemKNN", "NCEPLRec", "SLIMElastic"), _CLOSED),
    "Pop": "counts clicks",
    "Random": "answers at random",
    "LightGBM": "trees, not a torch module",
    "XGBoost": "trees, not a torch module",
    "KSR": "fails by itself: its relations are FP64 and its weights FP32",
    "KGAT": "needs dgl, which RecBole does not install",
    **dict.fromkeys(("KGIN", "MCCLK"), "needs torch-scatter, which RecBole does not install"),
}

_CONTEXT = tuple("AFM AutoInt DCN DCNV2 DeepFM DSSM EulerNet FFM FiGNN FM FNN FwFM KD_DAGFM LR NFM PNN WideDeep xDeepFM".split())
_SEQUENTIAL = tuple(
    "BERT4Rec CORE Caser DIEN DIN FDSA FEARec FOSSIL FPMC GCSAN GRU4Rec GRU4RecCPR GRU4RecF GRU4RecKG HGN HRM LightSANs NARM "
    "NPE NextItNet RepeatNet S3Rec SASRec SASRecCPR SASRecF SHAN SINE SRGNN STAMP TransRec".split()
)
_GENERAL = tuple(
    "BPR CDAE ConvNCF DGCF DMF DiffRec ENMF FISM GCMC LDiffRec LINE LightGCN MacridVAE MultiDAE MultiVAE NAIS NCL NGCF NNCF NeuMF RaCT "
    "RecVAE SGL SimpleX SpectralCF".split()
)
_KNOWLEDGE = tuple("CFKG CKE KGCN KGNNLS KTUP MKR RippleNet".split())
#: Models that answer for one item at a time only.
_ONE_ITEM = tuple("CFKG ConvNCF DIEN DIN DMF FISM KGCN KGNNLS KTUP MKR NAIS NNCF NeuMF RippleNet TransRec".split())
#: Models that have no `predict`.
_ALL_ITEMS = ("GRU4RecCPR", "SASRecCPR")

#: Settings beside the library's own, where those don't fit a small data set or name a file that isn't there.
_SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"reranker_CAN_NUM": "10"} for name in ("GRU4RecCPR", "SASRecCPR")},
    "DIEN": {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}},
    **dict.fromkeys(_KNOWLEDGE, recbole_data.KNOWLEDGE),
    "GRU4RecKG": recbole_data.PRELOADED,
}


class Answers(nn.Module):
    """A recommender by one of its methods, as a module that takes the fields of an interaction by name.

    FP32 [batch] of `predict`, [batch, items] of `full_sort_predict`, which RecBole's own trainer gives this shape too.
    """

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, fields: dict[str, Tensor]) -> Tensor:
        """The scores of these interactions."""
        interaction = importlib.import_module("recbole.data.interaction").Interaction(fields)
        scores: Tensor = getattr(self.model, self.method)(interaction)
        batch = next(iter(fields.values())).shape[0]
        return scores.view(batch, -1) if self.method == "full_sort_predict" else scores


@functools.cache
def _made(name: str) -> tuple[nn.Module, dict[str, recbole_data.Field]]:
    """The recommender, and the fields of its interactions."""
    config, train = recbole_data.prepared(name, _SETTINGS.get(name, {}))
    utils = importlib.import_module("recbole.utils")
    torch.manual_seed(WEIGHTS)
    model = utils.get_model(name)(config, train._dataset)
    return weighted(model), recbole_data.fields(train._dataset)


def _factory(name: str, method: str) -> Factory:
    def factory(batch: int, seed: int) -> Sample:
        model, fields = _made(name)
        module = Answers(model, method).eval()
        inputs = recbole_data.drawn(fields, batch, seed)
        return module, (_read(module, inputs),)

    return factory


def _read(module: Answers, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the inputs that the module reads in one call."""
    names = set[str]()

    class Reads(importlib.import_module("recbole.data.interaction").Interaction):  # type: ignore[misc]  # known when the library is there
        def __getitem__(self, name: str) -> Any:
            names.add(name)
            return super().__getitem__(name)

    with torch.no_grad():
        getattr(module.model, module.method)(Reads(inputs))
    return {name: value for name, value in inputs.items() if name in names}


MODELS: dict[str, Factory] = {
    **{name: _factory(name, "predict") for name in (*_CONTEXT, *_SEQUENTIAL, *_GENERAL, *_KNOWLEDGE) if name not in _ALL_ITEMS},
    **{
        f"{name}_full_sort": _factory(name, "full_sort_predict") for name in (*_SEQUENTIAL, *_GENERAL, *_KNOWLEDGE) if name not in _ONE_ITEM
    },
}
