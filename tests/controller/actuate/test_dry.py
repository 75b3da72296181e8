"""A dry run reads, and tells what it would do. What it reads is made up here: there is nothing to act on."""

from collections.abc import Mapping, Sequence

from recsplit_controller.actuate.dry import DryActuator
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count


class Reading:
    """Two targets, one of them ill; whoever acts on them fails the test."""

    def counts(self) -> Mapping[str, Count]:
        return {"dense": Count(1, 2), "embedding": Count()}

    def ill(self) -> Mapping[str, str]:
        return {"dense": "dead"}

    def begin(self, action: Action) -> None:
        raise AssertionError

    def outcomes(self) -> Sequence[Outcome]:
        raise AssertionError

    def close(self) -> None:
        pass


def test_it_reads_and_tells_and_does_nothing() -> None:
    messages: list[str] = []
    dry: Actuator = DryActuator(Reading(), messages.append)
    assert dry.counts() == {"dense": Count(1, 2), "embedding": Count()}
    assert dry.ill() == {"dense": "dead"}
    actions = [Action("scale", "dense", 4, 1.0, "busy", 2), Action("heal", "dense", 2, 1.0, "dead")]
    for action in actions:
        dry.begin(action)
    assert messages == ["dense would go to 4 units of 2 threads: busy", "dense would replace all 2 units: dead"]
    assert dry.outcomes() == [Outcome(action, None, 0.0) for action in actions]
    assert dry.outcomes() == []
    dry.close()
