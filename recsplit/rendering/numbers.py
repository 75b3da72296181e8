"""Numbers as people read them, the same in tables of the terminal and in reports."""


def number_text(value: float) -> str:
    """Three digits that count: 0.00123, 9.15, 1,110. An exponent only where zeros would be all to see: under 1e-4, from 1e15 on."""
    rounded = float(f"{value:.3g}") + 0.0  # no -0
    return f"{rounded:,.0f}" if 1000 <= abs(rounded) < 1e15 else f"{rounded:g}"
