"""All that the benchmark reckons, as frozen values, and as plain ones for JSON."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recsplit.capacity.profile import Fit, Profile
from recsplit_perf.benchmarks.elasticrec import gains, inputs, measured, micro, paper, ramp
from recsplit_perf.benchmarks.elasticrec.cases import Answer, answer, question
from recsplit_perf.benchmarks.elasticrec.gains import Gain
from recsplit_perf.benchmarks.elasticrec.inputs import Speed, Step
from recsplit_perf.benchmarks.elasticrec.micro import Bar
from recsplit_perf.benchmarks.elasticrec.ramp import Way


@dataclass(frozen=True)
class Measured:
    """The questions of one profile, a direct call of its embedding model, and what the profile says of where it was taken."""

    model: str
    embedding: Fit
    gathers_per_row: float
    provenance: Mapping[str, Any]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """Everything: `answers` are those of paper.CASES, in their order."""

    provenance: Mapping[str, Any]
    answers: tuple[Answer, ...]
    steps: tuple[Step, ...]
    speeds: tuple[Speed, ...]
    micro: tuple[Bar, ...]
    ramp: tuple[Way, ...]
    measured: tuple[Measured, ...]
    gains: tuple[Gain, ...]


def reckon(profiles: list[Profile], provenance: Mapping[str, Any], stage: Callable[[str, int], Any]) -> Result:
    """Everything, stage by stage; `stage(text, total)` is a context that yields a function, called with the steps done."""
    measurements = tuple(_measured(profile) for profile in profiles)
    # RM2 has three times RM1's tables, all alike, and takes minutes for the same answer.
    asked = [question(case) for case in paper.CASES if case.model is not paper.RM2]
    asked += [one.question for each in measurements for one in each.answers if one.question.whole_cores > 1]
    with stage("Cutting the paper's models", len(paper.CASES)) as advance:
        answers = []
        for case in paper.CASES:
            answers.append(answer(question(case)))
            advance(1)
    with stage("Exchanging inputs", 0):
        steps, speeds, bars = inputs.steps(), inputs.speeds(), micro.panels()
    ways = []
    for name, kinds in ramp.plays(answers[0]).items():
        with stage(f"Half an hour of load: {name}", ramp.SYNCS) as advance:
            ways.append(ramp.run(name, kinds, advance=advance))
    with stage("Comparing algorithms", gains.count(asked)) as advance:
        gained = gains.gains(asked, advance)
    return Result(provenance, tuple(answers), tuple(steps), tuple(speeds), tuple(bars), tuple(ways), measurements, tuple(gained))


def _measured(profile: Profile) -> Measured:
    return Measured(
        profile.model,
        profile.part("embedding").client.fit,
        profile.gathers_per_row,
        profile.provenance,
        tuple(answer(asked) for asked in measured.questions(profile)),
    )


def plain(result: Result) -> dict[str, Any]:
    """For JSON: numbers, texts, lists and objects."""
    return {
        "benchmark": "elasticrec",
        **result.provenance,
        "cases": [
            {**_plain(case_answer), "paper": {**dataclasses.asdict(case.bars), "utility_ratio": case.bars.utility_ratio}}
            for case, case_answer in zip(paper.CASES, result.answers, strict=True)
        ],
        "inputs": [{**dataclasses.asdict(step), "mean": step.mean} for step in result.steps],
        "speeds": [dataclasses.asdict(speed) for speed in result.speeds],
        "figure_12": [dataclasses.asdict(bar) for bar in result.micro],
        "figure_19": [
            {
                "name": way.name,
                "peak_gb": way.peak_gb,
                "gb_hours": way.gb_hours,
                "missed_share": way.missed_share,
                "time_s": way.time_s.tolist(),
                "memory_gb": way.memory_gb.tolist(),
                "missed": way.missed.tolist(),
                "p95_ms": way.p95_ms.tolist(),
                "replicas": way.replicas,
            }
            for way in result.ramp
        ],
        "measured": [
            {**{key: value for key, value in vars(one).items() if key not in ("answers", "embedding")}, "embedding": vars(one.embedding)}
            | {"answers": [_plain(case_answer) for case_answer in one.answers]}
            for one in result.measured
        ],
        "algorithms": [dataclasses.asdict(gain) for gain in result.gains],
    }


def _plain(case_answer: Answer) -> dict[str, Any]:
    asked = case_answer.question
    return {
        "question": asked.name,
        "target_qps": asked.target_qps,
        "gather_ms": {"a": asked.gather.a_ms, "b": asked.gather.b_ms},
        "whole": {"replicas": case_answer.whole_replicas, **dataclasses.asdict(case_answer.whole)},
        "shards": {"dense_replicas": case_answer.dense_replicas, **dataclasses.asdict(case_answer.shards)},
        "one_table": [
            {"rows": shard.segments[0].last - shard.segments[0].first, "gathers": shard.gathers_per_query, "replicas": shard.replicas}
            | {"utility": share}
            for shard, share in zip(case_answer.one_table, case_answer.utilities, strict=False)
        ],
        "memory_ratio": case_answer.memory_ratio,
        "utility_ratio": case_answer.utility_ratio,
        "servers_ratio": case_answer.servers_ratio,
    }
