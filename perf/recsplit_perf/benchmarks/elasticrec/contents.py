"""What the benchmark says: sections of tables and pictures, the same for the page and for docs/elasticrec.md."""

from collections.abc import Sequence

import numpy as np

from recsplit.partition.algorithms import ALGORITHMS
from recsplit_perf.benchmarks.elasticrec import gains, measured, micro, paper, pictures, ramp
from recsplit_perf.benchmarks.elasticrec.cases import mean
from recsplit_perf.benchmarks.elasticrec.gains import Gain
from recsplit_perf.benchmarks.elasticrec.inputs import Step
from recsplit_perf.benchmarks.elasticrec.result import Measured, Result
from recsplit_perf.report.page import Fact, Section, Table

RATIOS = {"memory": "memory allocated", "utility": "memory utility", "servers": "servers"}


def facts(result: Result) -> tuple[Fact, ...]:
    """The three means of the abstract, from the published rates."""
    first_steps: dict[str, Step] = {step.ratio: step for step in reversed(result.steps)}
    return (
        Fact("Memory, model-wise over shards", *_fact(first_steps["memory"])),
        Fact("Memory utility, shards over model-wise", *_fact(first_steps["utility"])),
        Fact("Servers, model-wise over shards", *_fact(first_steps["servers"])),
    )


def _fact(step: Step) -> tuple[str, str]:
    return f"{step.mean:.2f}x", f"mean of six; the paper's abstract: {step.abstract:g}x"


def sections(result: Result) -> list[Section]:
    """All of them."""
    page_sections = [_bars(result), _replicas(result), _inputs(result), _speeds(result), _micro(result), _ramp(result)]
    if result.measured:
        page_sections.append(_measured(result.measured))
    page_sections.append(_gains(result.gains, paper_cases=True))
    if result.measured:
        page_sections.append(_gains(result.gains, paper_cases=False))
    return page_sections


def _bars(result: Result) -> Section:
    columns = ("model", "GB whole", "shards", "ratio", "utility whole", "shards", "ratio", "servers whole", "shards", "ratio")
    rows: list[tuple[str, ...]] = []
    for case, answer in zip(paper.CASES, result.answers, strict=True):
        bars, whole, shards = case.bars, answer.whole, answer.shards
        rows.append(
            (
                case.name,
                f"{whole.memory_bytes / 1e9:,.0f} ({bars.whole_gb:,.0f})",
                f"{shards.memory_bytes / 1e9:,.0f} ({bars.shards_gb:,.0f})",
                f"{answer.memory_ratio:.2f} ({bars.whole_gb / bars.shards_gb:.2f})",
                f"{whole.utility or 0:.1%} ({bars.whole_utility:.0f} %)",
                f"{shards.utility or 0:.0%} ({bars.utility_ratio * bars.whole_utility:.0f} %)",
                f"{answer.utility_ratio:.2f} ({bars.utility_ratio:.2f})",
                f"{whole.packing.servers} ({bars.whole_servers})",
                f"{shards.packing.servers} ({bars.shards_servers})",
                f"{answer.servers_ratio:.2f} ({bars.whole_servers / bars.shards_servers:.2f})",
            )
        )
    means = [mean([getattr(answer, f"{ratio}_ratio") for answer in result.answers]) for ratio in RATIOS]
    abstract = (paper.MEMORY_RATIO, paper.UTILITY_RATIO, paper.SERVERS_RATIO)
    cells = [(" ", " ", f"{here:.2f} ({there:g})") for here, there in zip(means, abstract, strict=True)]
    rows.append(("mean (abstract)", *(cell for group in cells for cell in group)))
    lead = (
        "Figures 13 to 18. In brackets the paper's bars; all else follows from its layer rates (figure 5), its shards' rates (figure "
        f"9), a two-level law of access (P = 90 %), {paper.ITEMS} items a query and 0.3 GB a container beside its rows. The whole "
        "model's layers run one after the other. A CPU-only server has two sockets, of which a whole or a dense model takes one; "
        "shards reserve memory only."
    )
    return Section("Memory, utility and servers", lead, pictures.bars(result), Table(columns, tuple(rows)))


def _replicas(result: Result) -> Section:
    rows = []
    for case, answer in zip(paper.CASES, result.answers, strict=True):
        bars = case.bars
        here = ", ".join(f"{shard.replicas} ({share:.0%})" for shard, share in zip(answer.one_table, answer.utilities, strict=False))
        there = ", ".join(f"{count} ({share:g} %)" for count, share in zip(bars.shard_replicas, bars.shard_utility, strict=True))
        cuts = ", ".join(f"{shard.segments[0].last / 1e6:.2f}M" for shard in answer.one_table[:-1])
        rows.append(
            (
                case.name,
                f"{answer.whole_replicas}",
                f"{case.copies} x {bars.whole_replicas}" if case.copies > 1 else f"{bars.whole_replicas}",
                f"{answer.dense_replicas}",
                here,
                there,
                cuts,
            )
        )
    columns = ("model", "whole", "paper", "dense", "shards of a table: replicas (utility)", "paper", "cut behind rank")
    lead = "Figures 14 and 17: shards of one table, hottest first. A plotted CPU-only replica of the whole holds the tables' bytes twice."
    return Section("Replicas", lead, (pictures.replicas(result),), Table(columns, tuple(rows)))


def _inputs(result: Result) -> Section:
    rows = tuple(
        (RATIOS[step.ratio], step.inputs, *(f"{value:.2f}" for value in step.values), f"{step.mean:.2f}", f"{step.abstract:g}")
        for step in result.steps
    )
    columns = ("ratio of", "with", *(case.name for case in paper.CASES), "mean", "abstract")
    lead = "Each row exchanges one input. A mean that the first row of its ratio misses is kept from it by what the later rows change."
    return Section("Which input decides", lead, (), Table(columns, rows), note=_prevents(result))


def _prevents(result: Result) -> str:
    numbered_steps = {
        (step.ratio, number): step for ratio in RATIOS for number, step in enumerate(s for s in result.steps if s.ratio == ratio)
    }
    memory, plotted = numbered_steps["memory", 0], numbered_steps["memory", 1]
    utility, zipf = numbered_steps["utility", 0], numbered_steps["utility", 2]
    servers, one_core = numbered_steps["servers", 0], numbered_steps["servers", 1]
    return (
        f"Memory: {memory.mean:.2f}x from the published rates, {plotted.mean:.2f}x with the containers that the paper plots for the "
        f"whole model: {memory.abstract:g}x hangs on how many these are, and figure 5's rates don't give the plotted numbers (RM2 "
        "needs 16 for its dense layers alone, 12 are plotted; RM1 and RM3 on GPU servers need 4 and 3, and 7 and 6 are plotted). "
        f"Utility: {utility.mean:.1f}x. A two-level law can't reach {utility.abstract:g}x: its hot tenth is nine times as dense as the "
        f"mean row, times the share of replicas that hold it. With Zipf's law of the same P it is {zipf.mean:.1f}x. The law and the "
        "items of a query aren't printed; the plotted utilities (95, 69.5, 22, 1 %) fall within what a two-level law makes even. "
        f"Servers: {servers.mean:.2f}x where shards reserve no cores, {one_core.mean:.2f}x where each container reserves one: the "
        "cores of a shard's container aren't printed, nor are those of a server."
    )


def _speeds(result: Result) -> Section:
    rows = tuple(
        (speed.case, f"{speed.figure_5:.2f}x", "more than any tried" if speed.needed is None else f"{speed.needed:.2f}x")
        for speed in result.speeds
    )
    lead = (
        "Shards' rates are known from figure 9 for the CPU-only servers; figure 5's sparse layers say how much faster the GPU servers "
        "gather. The last column is the speed at which the cut takes no more memory than the paper's bar."
    )
    note = (
        "RM1 and RM2 have the same tables, gathers, locality and target, so that Algorithm 1 must cut them alike: 14.5 GB a table. "
        "The paper plots 9, 7, 3, 2 replicas and 14.7 GB a table for RM1, but 10, 5, 1 and 11.7 GB for RM2. On GPU servers the bars "
        "ask for shards that are 3.6 to 4 times as fast as figure 9's, where figure 5 has 2.8 and 2.0; for RM3 it is the other way "
        "round. Figure 13 has 147 GB for RM1, figure 12a 161 and figure 12b 145, for one configuration."
    )
    table = Table(("model", "gathers faster than figure 9, by figure 5", "needed for the paper's memory"), rows)
    return Section("What the paper's own numbers don't agree on", lead, (), table, note=note)


def _micro(result: Result) -> Section:
    columns = ("panel", "setting", "shards a table", "GB whole", "paper", "GB shards", "paper")
    rows = tuple(
        (
            bar.panel,
            bar.setting,
            f"{bar.shards}",
            "-" if bar.paper_whole_gb is None else f"{bar.whole_gb:,.0f}",
            "-" if bar.paper_whole_gb is None else f"{bar.paper_whole_gb:,.0f}",
            f"{bar.shards_gb:,.0f}",
            f"{bar.paper_shards_gb:,.0f}",
        )
        for bar in result.micro
    )
    lead = "Figure 12: RM1 on CPU-only servers at 100 queries/s, one thing changed at a time."
    note = (
        "The rates of the small and the large MLP aren't printed; here dense time follows multiply-adds, and the paper's bars rise "
        "far less, so that their dense layers have costs that don't. At P = 50 % the paper's shards take less than the two-level law "
        "allows. With 16 shards containers' own memory outweighs what whole replicas still save; the paper counts fractions of "
        "replicas, for which more shards always look cheaper."
    )
    return Section("One thing at a time", lead, pictures.micro(result.micro, micro.TITLES), Table(columns, rows), note=note)


def _ramp(result: Result) -> Section:
    columns = ("served", "peak GB", "GB hours", "queries over 400 ms", "minutes with more than 1 % over")
    rows = tuple(
        (way.name, f"{way.peak_gb:,.0f}", f"{way.gb_hours:,.0f}", f"{way.missed_share:.2%}", f"{way.minutes_missed}") for way in result.ramp
    )
    lead = (
        "Figure 19: RM1, CPU-only, Kubernetes' rule (15 s sync, tolerance 0.1, at most doubled a step, down after 300 s). Shards "
        f"follow queries a second at {ramp.HEADROOM:.0%} of what one sustains; the whole and the dense model follow p95 at 65 % of 400 "
        f"ms, as in the paper, or queries too. A container serves {ramp.START_S:g} s after it is asked for, and after its rows came at "
        f"10 Gbit/s: {result.ramp[0].start_s['whole']:.0f} s for the whole, {result.ramp[1].start_s['shard 1']:.0f} to "
        f"{max(result.ramp[1].start_s.values()):.0f} s for shards."
    )
    note = (
        f"The paper's peaks are {paper.FIGURE_19_PEAK[0]} and {paper.FIGURE_19_PEAK[1]} GB at 200 queries/s, less than twice what its "
        "figure 13 has at 100. A rule on latency is blind below its bound: with nobody waiting the whole answers in 90 ms, which "
        "reads as a third of the servers being enough, and five minutes later there are too few; then one queue of seconds asks for "
        "all the servers there are. Shards have the same rule for their dense model, whose containers start in 10 s and cost 0.3 GB. "
        "With the text's own target, all that a shard sustains, queues that built up while containers started never go, as arrivals "
        "don't show them."
    )
    return Section("Half an hour of load", lead, pictures.ramp(result.ramp), Table(columns, rows), note=note)


def _measured(profiles: Sequence[Measured]) -> Section:
    rows = []
    for one in profiles:
        for asked in one.answers:
            question = asked.question
            shards = ", ".join(str(shard.replicas) for shard in asked.one_table)
            rows.append(
                (
                    question.name,
                    f"{question.target_qps:,.0f}",
                    f"{question.gather.a_ms:.2f}",
                    f"{1000 * question.gather.b_ms:.1f}",
                    f"{question.gather.a_ms / question.gather.b_ms:.3g}",
                    shards,
                    f"{asked.whole.memory_bytes / 1e9:,.0f}",
                    f"{asked.shards.memory_bytes / 1e9:,.0f}",
                    f"{asked.memory_ratio:.2f}",
                    f"{asked.utility_ratio:.2f}",
                    f"{asked.servers_ratio:.2f}",
                )
            )
    columns = ("question", "queries/s", "a, ms", "b, µs", "a/b", "replicas", "GB whole", "GB shards", "memory", "utility", "servers")
    one = profiles[0]
    machine = one.provenance["machine"]
    load = machine["load_average"][0]
    lead = (
        f"The same with a profile of recsplit's own servers in place of figures 5 and 9 ({machine['cpu']}, {machine['cores']} cores, "
        f"load average {load:g}, commit {str(one.provenance['commit'])[:9]}): a direct call of the embedding model takes a client "
        f"{one.embedding.a_ms:.2f} ms + {1e3 * one.embedding.b_ms:.0f} µs an item, which gathers {one.gathers_per_row:,.0f} rows, and "
        f"a shard's container takes {one.answers[0].question.overhead_bytes / 1e9:.2f} GB beside its rows, with buffers for the "
        "largest batch. It has one core."
    )
    note = (
        "a/b decides: how many rows of a table an item must gather for the gathering to take as long as the call. The paper has 6.6. "
        f"With {measured.ITEMS[0]} items a query calls outweigh gathers, and the best cut is coarse; with {measured.ITEMS[1]:,} the "
        "table says a/b. As much depends on how large a whole container is. With one core it holds all tables for little traffic, "
        f"and shards win ({_ratios(one, 1)}x). With a socket's cores, whose instances share one copy of the tables (recsplit maps "
        f"them), the ratio is {_ratios(one, measured.CORES[-1])}: below 1, one-core shards take more than they save, as each of many "
        "small containers has memory of its own. With shards' containers as large as the whole's, and as many times the traffic, the "
        "rows of one core hold. In the paper a whole container gathers as fast as 47 of its shards' (figure 5 against figure 9), and "
        f"one of those takes 0.3 GB beside its rows. The target asks for {measured.WHOLE} whole containers in each row. The tables "
        "were scaled to a hundredth for the profile: caches hold more of them than of 20 million rows. Other work on the machine "
        "makes both a and b larger; the load average tells."
    )
    return Section("With recsplit's own profile", lead, pictures.measured(profiles), Table(columns, tuple(rows)), note=note)


def _ratios(one: Measured, cores: int) -> str:
    return " and ".join(f"{answer.memory_ratio:.2f}" for answer in one.answers if answer.question.whole_cores == cores)


def _gains(all_gains: Sequence[Gain], *, paper_cases: bool) -> Section:
    names = {case.name for case in paper.CASES}
    kept = [gain for gain in all_gains if (gain.question in names) == paper_cases]
    relative = gains.relative(kept)
    asked = list(dict.fromkeys(gain.question for gain in kept))
    rows = []
    for objective in (gains.MEMORY, gains.PRICE, gains.BOUND):
        for algorithm in ALGORITHMS:
            values = [relative[question, objective, algorithm] for question in asked]
            row_gains = [gain for gain in kept if gain.objective == objective and gain.algorithm == algorithm]
            calls = [gain.calls for gain in row_gains if gain.calls is not None]
            rows.append(
                (
                    objective,
                    algorithm,
                    *("none" if np.isnan(value) else f"{value:.2f}" for value in values),
                    "-" if np.isnan(values).any() else f"{mean(values):.2f}",
                    f"{min(calls)} to {max(calls)}" if calls else "-",
                )
            )
    columns = ("cost", "algorithm", *asked, "mean", "calls a query")
    lead = (
        "Cost over that of the paper's algorithm by one objective, less is better: memory allocated; memory, cores and traffic "
        "between servers at cloud prices; memory where all shards of 95 % of the queries answer in what the dense model leaves of 400 "
        f"ms. Up to {gains.MOST_SHARDS} shards a table. “none”: no such partition keeps the bound. RM2 is left out: its tables are RM1's."
    )
    note = " ".join(f"{name}: {algorithm.text}." for name, algorithm in ALGORITHMS.items())
    title = "Better than the paper's algorithm" if paper_cases else "Better than the paper's algorithm, with the measured profile"
    return Section(title, lead, (pictures.gains(relative, asked, title),), Table(columns, tuple(rows)), note=note)
