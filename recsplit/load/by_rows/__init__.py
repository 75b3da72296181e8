"""What reads rows of a stored table in another form than `Gather` along axis 0 of [rows, dim], said as such a Gather.

    tables     Gather on a table of another rank than two, or stored as [dim, rows]
    products   products with one-hot vectors
    elements   GatherElements by an id that is repeated over the row
    quantized  tables that are dequantized before they are read, or while
    uniques    each id looked up once, and what was looked up spread again

Every rewriting gives the same numbers for ids inside the table; no table is read or copied. What is no lookup in truth stays as it is.
"""

from recsplit.load.by_rows.passes import read_by_rows

__all__ = ["read_by_rows"]
