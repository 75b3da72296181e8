"""Integer arithmetic between ids and rows: whatever operators make the ids, the engine's program gives what ONNX Runtime gives."""

import numpy as np
import pytest

from recsplit.engine.compilation import unavailable
from tests.graph.small import Array, small, table

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

ROWS = 40
#: Operators of two INT64 operands of which the second is a constant that does no harm, and of one.
BINARY = ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"]
COMPARISONS = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
UNARY = ["Neg", "Abs"]


class Written:
    """A model that is written at random: values of INT64 by name, with the columns that each has."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.constants: dict[str, Array] = {}
        self.widths = {"a": 4, "b64": 4, "c1": 1}
        self.lines += ["b64=Cast<to=7>(b)", "c1=Unsqueeze(c,axis1)"]
        self.constants["axis1"] = np.array([1])

    def add(self, line: str, width: int) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name}={line}")
        self.widths[name] = width
        return name

    def constant(self, data: object) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(data, dtype=np.int64)
        return name

    def value(self) -> str:
        return str(self.random.choice(list(self.widths)))

    def number(self) -> int:
        return int(self.random.choice([1, 2, 3, 7, 40, 1000, 2**31, -1, -5]))

    def step(self) -> None:
        """One more value."""
        one, kind = self.value(), self.random.integers(8)
        width = self.widths[one]
        if kind == 0:
            self.add(f"{self.random.choice(UNARY)}({one})", width)
        elif kind == 1:
            shape = [self.number()] if self.random.integers(2) else [self.number() for _ in range(width)]
            self.add(f"{self.random.choice(BINARY)}({one},{self.constant(shape)})", width)
        elif kind == 2:
            other = self.value()
            if width == self.widths[other] or 1 in (width, self.widths[other]):
                self.add(f"{self.random.choice(['Add', 'Sub', 'Mul', 'Min', 'Max'])}({one},{other})", max(width, self.widths[other]))
        elif kind == 3:
            columns = self.random.integers(-width, width, self.random.integers(1, 6))
            self.add(f"Gather<axis=1>({one},{self.constant(columns)})", len(columns))
        elif kind == 4:
            other = self.value()
            self.add(f"Concat<axis=1>({one},{other})", width + self.widths[other])
        elif kind == 5:
            start = int(self.random.integers(width))
            bounds = [self.constant([number]) for number in (start, width, 1)]
            self.add(f"Slice({one},{','.join(bounds)})", width - start)
        elif kind == 6:
            flag = self.add(f"{self.random.choice(COMPARISONS)}({one},{self.constant([self.number()])})", width)
            self.widths.pop(flag)
            self.add(f"Where({flag},{one},{self.constant([self.number()])})", width)
        else:
            narrow = self.add(f"Cast<to={self.random.choice([6, 2, 3, 9])}>({one})", width)
            self.widths.pop(narrow)
            self.add(f"Cast<to=7>({narrow})", width)

    def model(self) -> str:
        """The text of a model that looks the last value up; one time in four as it is, else inside the table."""
        for _ in range(self.random.integers(2, 9)):
            self.step()
        last = list(self.widths)[-1]
        if self.random.integers(4):
            last = self.add(f"Mod({last},{self.constant([ROWS])})", self.widths[last])
        self.lines += [f"r=Gather(t,{last})", "y=ReduceSum<keepdims=0>(r,axis1)"]
        return f"(int64[N,4] a, int32[N,4] b, int64[N] c) => (float[N,8] y) {{ {' '.join(self.lines)} }}"


@pytest.mark.parametrize("seed", range(60))
def test_a_program_gives_what_the_operators_give(seed: int) -> None:
    model = Written(seed)
    text = model.model()
    parts = small(text, {"t": table(ROWS, 8), **model.constants})
    assert parts.engine is not None, (text, parts.cut.no_recipe)
    random = np.random.default_rng(seed)
    for low, high in ((0, ROWS), (-(2**31), 2**31 - 1), (-3, 3)):
        feeds: dict[str, Array] = {
            "a": random.integers(low, high, (6, 4)),
            "b": random.integers(low, high, (6, 4)).astype(np.int32),
            "c": random.integers(low, high, 6),
        }
        parts(feeds)  # compares the engine's answers with the operators'
