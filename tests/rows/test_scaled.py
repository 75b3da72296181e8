"""Scaled rows: what their numbers may differ by, and what can't be one."""

import numpy as np
import pytest

from recsplit.rows import scaled

BITS = (8, 4)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 6e4])
def test_no_number_is_off_by_more_than_half_a_scale(bits: int, size: float) -> None:
    random = np.random.default_rng(bits)
    for dim in (1, 2, 3, 16, 31, 128):
        for offset in (0.0, -3.0, 100.0):
            rows = (random.standard_normal((200, dim)) * size / 8 + offset * (size < 1e3)).astype(np.float32).clip(-65504, 65504)
            encoded = scaled.encode(rows, bits)
            assert encoded.shape == (200, scaled.row_bytes(dim, bits))
            scale, bias = scaled.headers(encoded)
            gap = np.abs(scaled.decode(encoded, dim, bits).astype(np.float64) - rows)
            rounding = 2.0**-22 * (np.abs(bias) + 255 * scale)[:, None]  # of the product and of the sum, in FP32
            assert (gap <= scale[:, None] / 2 + rounding).all()


@pytest.mark.parametrize("bits", BITS)
def test_rows_of_one_number_that_halves_have_are_kept(bits: int) -> None:
    rows = np.repeat(np.array([[0.0], [-0.0], [1.0], [-2.5], [65504.0], [-65504.0], [2.0**-24]], np.float32), 5, axis=1)
    np.testing.assert_array_equal(scaled.decode(scaled.encode(rows, bits), 5, bits), rows)


@pytest.mark.parametrize("bits", BITS)
def test_ends_of_a_row_are_reached(bits: int) -> None:
    """As many steps as there are codes: a scale that is one step too coarse would show here."""
    steps = (1 << bits) - 1
    rows = np.arange(steps + 1, dtype=np.float32)[None] - 3
    encoded = scaled.encode(rows, bits)
    assert scaled.headers(encoded)[0][0] == 1.0
    np.testing.assert_array_equal(scaled.decode(encoded, steps + 1, bits), rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7e4, -7e4, 3e38])
def test_what_halves_cant_scale_is_refused(bad: float) -> None:
    rows = np.zeros((3, 4), np.float32)
    rows[1, 2] = bad
    for bits in BITS:
        if bad == 7e4:  # its scale is one that FP16 has
            gap = np.abs(scaled.decode(scaled.encode(rows, bits), 4, bits) - rows)
            assert gap.max() <= scaled.headers(scaled.encode(rows, bits))[0].max()
            continue
        with pytest.raises(ValueError, match="FP16"):
            scaled.encode(rows, bits)


def test_no_rows_are_no_rows() -> None:
    assert scaled.encode(np.empty((0, 3), np.float32), 8).shape == (0, 7)
