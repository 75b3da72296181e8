"""Settings from a profile of this model on this machine, instead of the paper's."""

from recsplit.capacity.profile import Fit, Profile
from recsplit.partition.cost import CostSettings, Front


def settings(profile: Profile, target_qps: float, query_size: float, table_bytes: int) -> CostSettings:
    """What a partition costs by a profile, for queries of `query_size` rows in the mean, of a model with so many bytes of tables.

    A call of a shard is taken for what a direct call of the embedding model takes a client, wire and server included, with as many rows
    of its tables read: latency = a + b * rows * gathers_per_row. A shard's server takes what Triton and the embedding model took besides
    the tables. A front server takes Triton and the dense model; a table row read there costs what it costs the embedding model alone.
    Raises InputError where the profile lacks one of the two.
    """
    embedding, dense = profile.part("embedding"), profile.part("dense")
    per_row = max(profile.gathers_per_row, 1e-9)
    called = embedding.client.fit
    return CostSettings(
        target_qps,
        fit=Fit(max(called.a_ms, 0.0), max(called.b_ms, 0.0) / per_row, called.r2),
        min_bytes=profile.server_pss_bytes + max(embedding.pss_bytes - table_bytes, 0),
        front=Front(
            dense_ms=max(dense.alone.fit.ms(query_size), 0.0),
            row_ms=max(embedding.alone.fit.b_ms, 0.0) / per_row,
            size_bytes=profile.server_pss_bytes + dense.pss_bytes,
        ),
    )
