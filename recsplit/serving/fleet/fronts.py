"""The fronts of fleets that run on this machine, by the build that they serve."""

from pathlib import Path

from recsplit.plan.plan import Plan
from recsplit.serving import notes


def running(repository: Path, plan: Plan) -> tuple[notes.Note, ...]:
    """The notes of this user's fronts of this build: a front's model repository is made for the run (placement), and has a link to the
    version folder of the build's embedding model, which no shard's has."""
    name, version = plan.embedding.name, str(plan.version)
    target = (repository / name / version).resolve()
    links = (Path(name, version), Path(plan.name, version, name))
    return tuple(
        note
        for note in notes.running()
        if any((Path(note.repository) / link).resolve() == target for link in links) and Path(note.repository) != repository.resolve()
    )
