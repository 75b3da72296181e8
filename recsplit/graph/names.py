"""Names of values that nothing else in a graph has: users' models have weights, inputs and outputs of any name."""

import onnx_ir as ir


class Names:
    """The names taken in one graph, its bodies of loops and branches included. Make a new one after others named values in it."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken: set[str | None] = set()
        for scope in (graph, *graph.subgraphs()):
            self._taken.update(value.name for value in (*scope.inputs, *scope.initializers.values()))
            self._taken.update(value.name for node in scope for value in node.outputs)

    def fresh(self, name: str) -> str:
        """`name`, or, where that is taken, `name_2` or the next free one; it is taken from now on."""
        unique, number = name, 2
        while unique in self._taken:
            unique, number = f"{name}_{number}", number + 1
        self._taken.add(unique)
        return unique

    def hand_over(self, old: ir.Value, new: ir.Value, what: str) -> None:
        """`new` gets the name of `old`, which is called `<name>/<what>` from now on."""
        name = old.name or "value"
        old.name, new.name = self.fresh(f"{name}/{what}"), name
