"""Make before break, as the paper's adapter does it: a variant of another size is a new deployment, which takes the old one's place."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action
from recsplit_controller.values.settings import Target
from recsplit_perf.benchmarks.infadapter.inputs import ACCURACY, CORES, Line

#: Seconds until cores that were asked for serve: of a new deployment, and of a container that is resized in place.
READY_S, RESIZE_S = 10.0, 1.0
GROUP = "resnet"
#: A deployment that takes another's place runs beside it: each variant has two places.
GENERATIONS = ("a", "b")


def part(name: str, line: Line, count: int, weight: float, *, in_place: bool) -> Part:
    """A place of a variant, with `count` cores and a share of the queries."""
    units = Units(line.service_s, start_s=READY_S, blocks=False, resize_s=RESIZE_S if in_place else None)
    target = Target(name, name, "front", "replica", 0, CORES, max_qps=line.slope, group=GROUP, accuracy=ACCURACY[line.name])
    return Part(target, units, count, weight)


def place(name: str, generation: int) -> str:
    """What a generation of a variant is called."""
    return f"{name}/{GENERATIONS[generation]}"


@dataclass
class Deployments:
    """`running`: by variant its generation and cores. While others come, and while what was running is drained, nothing else begins."""

    running: dict[str, tuple[int, int]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    coming: dict[str, tuple[int, int]] | None = None
    leaving: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether something else may begin."""
        return self.coming is None and not self.leaving

    def cores(self, name: str) -> int:
        """Of a variant that runs; 0: it doesn't."""
        return self.running.get(name, (0, 0))[1]

    def begin(self, plant: Plant, cores: Mapping[str, int], shares: Mapping[str, float], at_s: float) -> None:
        """Start what is to run at another size."""
        self.coming, self.shares = {}, shares
        for name, count in cores.items():
            generation, present = self.running.get(name, (1, 0))
            self.coming[name] = (generation if present == count else 1 - generation, count)
            if present != count:
                plant.begin(Action("scale", place(name, 1 - generation), count, at_s, "chosen"))

    def step(self, plant: Plant, at_s: float) -> None:
        """Switch the router where all that come serve, and let go of what it has turned away from and is done."""
        for name in list(self.leaving):
            if plant.idle(name):
                plant.begin(Action("scale", name, 0, at_s, "drained"))
                self.leaving.remove(name)
        if self.coming is None:
            return
        counts = plant.counts()
        cores_by_place = {place(name, generation): count for name, (generation, count) in self.coming.items()}
        if any((counts[name].serving or 0) < count for name, count in cores_by_place.items()):
            return
        weights = dict.fromkeys(counts, 0.0) | {place(name, generation): self.shares[name] for name, (generation, _) in self.coming.items()}
        plant.begin(Action("route", GROUP, 0, at_s, "switched", weights=weights))
        self.leaving = [name for name, count in counts.items() if count.asked and name not in cores_by_place]
        self.running, self.coming = self.coming, None
