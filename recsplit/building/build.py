"""Building: from a source to a published, proved model repository. The stages, in order, on one page."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsplit.accuracy.ranking import Quality
from recsplit.building import id_limits, ordering, sharding
from recsplit.building.cases import judge_of, reference_cases
from recsplit.building.load_and_cut import load_and_cut
from recsplit.building.planning import make_plan
from recsplit.building.remains import remains
from recsplit.building.runtimes import choose
from recsplit.building.settings import BuildSettings
from recsplit.building.storing import Storing, wish, words
from recsplit.configs.render import render
from recsplit.disk.files import size_text
from recsplit.plan import triton_releases
from recsplit.plan.files import MODEL_FILE, PLAN_FILE, RECIPE_FILE, REFERENCES_FILE
from recsplit.plan.plan import Plan, to_json
from recsplit.plan.recipe import ModelStage
from recsplit.plan.recipe import to_json as recipe_json
from recsplit.proof import stages
from recsplit.proof.cases import record
from recsplit.proof.search import search
from recsplit.proof.stages import Difference, differences_html
from recsplit.rendering.notebook import html_table
from recsplit.rendering.progress import Progress
from recsplit.repository.staging import staging
from recsplit.write import shard_files, submodels, tensorrt


@dataclass(frozen=True, repr=False)
class Built:
    """A published build: its plan, the repository, and what the proof found. Where a path is asked for, it stands for its repository.

    `quality`: with labelled rows, what rounding tables did to the accuracy. `notes`: what the user should know;
    `warnings`: what is most likely not meant.
    """

    plan: Plan
    repository: Path
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    quality: Quality | None = None

    def __fspath__(self) -> str:
        return str(self.repository)

    def __repr__(self) -> str:
        plan, worst = self.plan, max((difference.relative for difference in self.differences), default=0.0)
        return (
            f"<Built {plan.name} version {plan.version} in {self.repository}: {len(plan.tables)} tables, {len(plan.lookups)} lookups, "
            f"{len(self.differences)} comparisons hold, largest relative difference {worst:.1e}>"
        )

    def _repr_html_(self) -> str:
        plan = self.plan
        tables = [(table.name, f"{table.rows:,}", table.dim, table.stored, size_text(table.size_bytes)) for table in plan.tables]
        title = f"{plan.name} version {plan.version} in {self.repository}"
        return html_table(title, ("table", "rows", "dim", "stored", "size"), tables) + differences_html(self.differences)


def build(settings: BuildSettings, progress: Progress) -> Built:
    """Load, cut, write, render, prove and publish. On any error the repository stays as it was.

    Raises InputError for what the user must mend, RecsplitError where the work failed or the proof did not hold.
    """
    request = None if settings.partition is None else sharding.read(settings.partition, settings.access)
    with staging(settings.out, settings.name) as stage:  # first of all: a folder that can't be written shows at once
        runtimes = choose(settings, progress)
        progress(f"loading {settings.origin}", 0, 0)
        source = load_and_cut(
            settings.source,
            example=settings.example,
            weights=settings.weights,
            unknown_ids=settings.unknown_ids,
            int32_ids=settings.int32_ids,
            bag_form=settings.bag_form if request is None else "padded",
            adding_up=request is not None,
            release=triton_releases.release(settings.triton),
            storing=Storing(
                tuple(map(wish, settings.table_dtype)),
                settings.table_budget,
                settings.evaluation,
                stage.path(settings.name, PLAN_FILE).parent,
                progress,
            ),
        )
        tables = submodels.tables(source.cut)
        shards = None if request is None else sharding.cut(request, source.cut, tables)
        known = source.cut.known()
        inputs = submodels.interface(source.cut.whole).inputs
        example = source.example_for(inputs)
        lookups = id_limits.probe(source.cut.lookups, inputs, source.cut.bags, known, references=example)
        order = None if settings.order_by is None else ordering.by_heat(settings.order_by, settings.name, tables, progress)
        plan = make_plan(settings, source, stage.version, tables, lookups, shards, runtimes, order)
        embedding, *folders, dense = (stage.path(model.name, MODEL_FILE).parent for model in plan.submodels)
        repository = embedding.parents[1]
        by_engine = runtimes.embedding == "native"
        writing = partial(progress, "writing tables")
        if shards is None:
            rows = None if order is None else order.rows
            submodels.write(source.cut, embedding, dense, order=rows, by_engine=by_engine, progress=writing)
        else:
            shard_files.write(
                shards.cut, plan.readings, shards.request.order, embedding, folders, dense, by_engine=by_engine, progress=writing
            )
        stage.write(render(plan, templates=settings.templates))
        if plan.form == "fused":
            parts = [ModelStage(model.name) for model in plan.submodels]
            stage.path(plan.name, RECIPE_FILE).write_text(recipe_json(parts), encoding="utf-8")
        notes = tensorrt.prepare(plan, dense) if plan.dense.runtime == "tensorrt" else ()
        cases, left_out = reference_cases(
            plan, source, example, known, repository, lambda case: progress(f"asking the source: {case}", 0, 0)
        )
        progress("proving the parts equal", 0, 0)
        differences = stages.parts(repository, plan, cases)
        stages.demand(differences)
        progress("searching for an input that tells the parts from the source", 0, 0)
        searched = search(judge_of(plan, source, known, repository, cases), references=example, seconds=settings.search_s)
        stages.demand(searched.differences)
        record(cases, stage.path(plan.name, REFERENCES_FILE))
        stage.path(plan.name, PLAN_FILE).write_text(to_json(plan), encoding="utf-8")
        progress("publishing", 0, 0)
        stage.publish(plan.build, keep=settings.keep)
    differences += searched.differences
    chosen = () if runtimes.note is None else (runtimes.note,)
    if by_engine and shards is None and source.cut.no_recipe:
        chosen = (*chosen, f"The engine has ONNX Runtime do the lookups: {source.cut.no_recipe}")
    if plan.resident:
        chosen = (*chosen, ordering.words(plan.resident))
    all_notes = (
        *source.loaded.notes,
        *source.stored_notes,
        *words(source.losses, source.quality),
        *chosen,
        *notes,
        *left_out,
        searched.tried,
        *remains(source.cut, tables),
    )
    return Built(plan, settings.out, tuple(differences), all_notes, source.loaded.warnings, source.quality)
