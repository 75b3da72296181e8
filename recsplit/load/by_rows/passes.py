"""All rewritings to lookups by rows, one after the other."""

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph.emit import Emit
from recsplit.load.by_rows.elements import rows_of_elements
from recsplit.load.by_rows.products import rows_of_products
from recsplit.load.by_rows.quantized import rows_of_quantized
from recsplit.load.by_rows.tables import rows_of_tables
from recsplit.load.by_rows.uniques import rows_of_uniques
from recsplit.load.by_rows.views import Views


def read_by_rows(model: ir.Model) -> None:
    """Rewrite, in place, what reads rows by a client's ids into Gather along axis 0 of a table [rows, dim]; the nodes come sorted."""
    emit = Emit(model, "by_rows")
    views = Views(emit)
    rows_of_uniques(emit)
    rows_of_quantized(emit)
    rows_of_products(emit, views)
    rows_of_elements(emit)
    common.TopologicalSortPass()(model)
    rows_of_tables(emit, views)
    if emit.new_nodes:
        common.TopologicalSortPass()(model)
        common.RemoveUnusedNodesPass()(model)
        views.hand_over_names()
