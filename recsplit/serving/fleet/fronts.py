"""The fronts of fleets that run on this machine, by the model that they serve."""

from collections.abc import Iterator
from pathlib import Path

from recsplit.plan.plan import Plan
from recsplit.serving import notes


def running(repository: Path, plan: Plan) -> tuple[notes.Note, ...]:
    """The notes of this user's fronts of the plan's model, of whichever build: a front's model repository is made for the run (placement),
    and has a link to a version folder of the embedding model, which no shard's has."""
    versions = (repository / plan.embedding.name).resolve()
    return tuple(
        note
        for note in notes.running()
        if Path(note.repository) != repository.resolve()
        and any(link.resolve().parent == versions for link in _links(Path(note.repository), plan))
    )


def _links(front: Path, plan: Plan) -> Iterator[Path]:
    yield from (front / plan.embedding.name).glob("*")
    yield from (front / plan.name).glob(f"*/{plan.embedding.name}")
