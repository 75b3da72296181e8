"""A small made-up profile."""

from recsplit.capacity.profile import PartProfile, Profile, curve
from recsplit.plan.plan import Role

X = (1, 8, 64)
LINES: dict[Role, tuple[float, float]] = {"embedding": (0.4, 0.02), "shard": (0.2, 0.01), "dense": (0.3, 0.01)}
SPREAD = (0.9, 0.92, 0.94, 0.96, 0.98, 1.0, 1.04, 1.08, 1.12, 1.16, 1.2)


def small(*, roles: tuple[Role, ...] = ("embedding", "dense"), overhead_ms: float = 0.5) -> Profile:
    """Affine parts whose samples are 0.9 to 1.2 times the line, 1 in the middle; a third slower when contended."""

    def part(role: Role) -> PartProfile:
        a, b = LINES[role]
        samples = [[(a + b * rows) * factor for factor in SPREAD] for rows in X]
        slower = [[value * 4 / 3 for value in row] for row in samples]
        seen = [[value + overhead_ms / 2 for value in row] for row in samples]
        return PartProfile(f"shop_{role}", role, 1, 1, curve(X, samples), curve(X, slower), curve(X, seen), 0.9, 50_000_000, 1.5)

    whole = [[(overhead_ms + sum(a + b * rows for a, b in map(LINES.__getitem__, roles))) * factor for factor in SPREAD] for rows in X]
    return Profile(
        model="shop",
        version=1,
        build="made up",
        max_batch_size=64,
        queue_delay_us=0,
        provenance={"machine": {"cpu": "none"}},
        parts=tuple(part(role) for role in roles),
        whole=curve(X, whole),
        cpu_ms=(overhead_ms,) * len(X),
        overhead_ms=overhead_ms,
        request_bytes_per_row=40.0,
        response_bytes_per_row=4.0,
        gathers_per_row=7.0,
        server_pss_bytes=100_000_000,
    )
