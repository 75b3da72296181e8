"""What a setting is worth by a profile: the simulator in place of a server."""

from collections.abc import Callable

from recsplit.capacity import drive, served
from recsplit.capacity.profile import Profile
from recsplit.capacity.search import Throughput, search
from recsplit.capacity.service import Service, measured
from recsplit.capacity.simulate import Pool
from recsplit.capacity.workload import Workload
from recsplit.tuning.setting import Setting

#: Simulated in one trial of a search: with fewer a p95 differs by more than the settings do.
QUERIES = 20_000
PRECISION = 0.03
MOST_TRIALS = 16
#: A pool that batches may do so many times what it does request by request.
BATCHING = 20


def pools(profile: Profile, setting: Setting) -> tuple[Pool, ...]:
    """The server that was profiled, with other settings. The profile is of an ensemble whose parts have one thread.

    Threads of an instance share its rows evenly, as the engine's workers do. The fused model takes what both parts take together; what its
    client and Triton compute is the ensemble's, which is more than it is: between forms a real server decides.
    """
    embedding, dense = profile.part("embedding"), profile.part("dense")
    outside = served.outside(profile)
    if setting.form == "fused":
        both = _sum(measured(embedding.alone), measured(dense.alone))
        cores = max(embedding.cores, dense.cores)
        return (*outside, _pool("fused", both, setting.embedding_instances, cores, setting, outside[-1].name))
    return (
        *outside,
        _pool("embedding", measured(embedding.alone), setting.embedding_instances, embedding.cores, setting, outside[-1].name),
        _pool("dense", measured(dense.alone), setting.dense_instances, dense.cores, setting, "embedding"),
    )


def evaluator(
    profile: Profile, workload: Workload, cores: float, *, queries: int = QUERIES, seed: int | None = None
) -> Callable[[Setting], Throughput]:
    """What answers for a setting: its latency-bounded throughput on `cores` cores. The same again under the same seed, the workload's by
    default."""
    machine = served.cores(profile, cores)

    def evaluate(setting: Setting) -> Throughput:
        stages = pools(profile, setting)
        most = drive.capacity(stages, workload.sizes, split_rows=setting.max_batch_size, cores=machine)
        measure = drive.measure(
            stages,
            workload.sizes,
            workload.arrivals,
            workload.latency,
            queries=queries,
            split_rows=setting.max_batch_size,
            cores=machine,
            seed=workload.seed if seed is None else seed,
        )
        return search(
            measure,
            workload.latency,
            first=0.7 * most,
            least=0.01 * most,
            most=BATCHING * most,
            precision=PRECISION,
            max_trials=MOST_TRIALS,
        )

    return evaluate


def _pool(name: str, service: Service, instances: int, cores: float, setting: Setting, after: str) -> Pool:
    threads = setting.threads
    return Pool(
        name,
        (_shared(service, threads),) * instances,
        setting.max_batch_size,
        setting.queue_delay_us / 1e3,
        (after,),
        cores=cores * threads,
    )


def _shared(service: Service, threads: int) -> Service:
    """The same work by several threads: the time of a row is that of one, `threads` times the rows take the time of one thread's."""
    if threads == 1:
        return service
    rows = (1, *(count * threads for count in service.rows))
    return Service(rows, (service.middle_ms[0], *service.middle_ms), (service.spreads_ms[0], *service.spreads_ms))


def _sum(first: Service, second: Service) -> Service:
    """One after the other, measured at the same rows."""
    middle_ms = tuple(one + other for one, other in zip(first.middle_ms, second.middle_ms, strict=True))
    spreads_ms = tuple(
        tuple(one[place % len(one)] + other[place % len(other)] for place in range(max(len(one), len(other))))
        for one, other in zip(first.spreads_ms, second.spreads_ms, strict=True)
    )
    return Service(first.rows, middle_ms, spreads_ms)
