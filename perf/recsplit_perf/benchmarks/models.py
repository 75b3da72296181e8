"""The models under measurement, as factories that `recsplit build` takes."""

from recsplit.zoo.dlrm import dlrm as zoo_dlrm
from recsplit.zoo.layers import Model


def dlrm() -> Model:
    """8 tables of 100,000 x 32 FP32 (102 MB), bags of 20 ids, 13 dense features; bottom 512-256-32, top 512-256-1.

    Ids are one input [batch, 160], a table's 20 after another's: both exporters make its batch dynamic, and with one
    tensor in place of eight the number of inputs favours nobody.
    """
    return zoo_dlrm(tables=8, rows=100_000, dim=32, bag=20, dense=13, bottom=(512, 256), top=(512, 256))
