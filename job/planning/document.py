"""Makes the document of `thaw plan` from everything that was found out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from job.evaluation.duplicates import Duplicates
from job.executors.placement import head_on_cpus
from job.planning.cached import MissingFeatures
from job.planning.calibration import Speeds
from job.planning.cautions import cautions
from job.planning.costs import MemoryNeed, PhaseCosts, Range, head_layers
from job.planning.forecast_document import (
    BlockSection,
    CacheSection,
    DataSection,
    DuplicatesSection,
    ForecastDocument,
    MemorySection,
    NearCopy,
    NetworkSection,
    PhaseSection,
    PriceSection,
    RejectedExample,
    RejectsSection,
    RunSection,
    ScaleSection,
    TensorSection,
    TimeSection,
)
from job.planning.headers import Headers, interval
from job.planning.history import History
from job.planning.limited import limit_cautions, limit_sections
from job.planning.listing import Seen, chosen
from job.planning.planned import PlannedRun
from job.planning.timing import Stage, total
from job.run.state import read_state
from job.storage import Store
from job.storage.run_keys import RunKeys, run_uri

FORMAT = 1


@dataclass(frozen=True)
class Forecast:
    """Everything that the document is made from."""

    listed: Seen
    run: PlannedRun
    headers: Headers
    duplicates: Duplicates
    missing: MissingFeatures
    phases: list[PhaseCosts]
    memory: MemoryNeed
    counts: dict[str, int]
    """Examples of each split."""
    stages: list[Stage]
    speeds: Speeds | None
    history: History | None
    note: str
    """Why nothing was measured, where that is so."""


def document(store: Store, forecast: Forecast, scale: ScaleSection | None) -> ForecastDocument:
    job = forecast.run.job
    limits = limit_sections(job, store, forecast.run.run, needed=total(forecast.stages))
    return ForecastDocument(
        format=FORMAT,
        job=job.name,
        task=job.task,
        run=_run(store, forecast.run.run),
        data=_data(forecast),
        network=_network(forecast.run, len(forecast.listed.snapshot.classes)),
        cache=_cache(forecast.missing, forecast.run.anatomy.work),
        phases=[_phase(phase, forecast.counts) for phase in forecast.phases],
        time=_time(forecast),
        price=_price(forecast),
        limits=limits,
        memory=MemorySection(**vars(forecast.memory), total=forecast.memory.held),
        scale=scale,
        warnings=[*cautions(forecast), *limit_cautions(limits)],
    )


def _run(store: Store, run: str | None) -> RunSection:
    if run is None:
        return RunSection(None, None, "unknown")
    begun = read_state(store, run)
    state = "finished" if store.stat(RunKeys(run).result) else "begun" if begun else "new"
    return RunSection(run, run_uri(store, run), state)


def _data(forecast: Forecast) -> DataSection:
    job, snapshot, share, headers = forecast.run.job, forecast.listed.snapshot, forecast.listed.share, forecast.headers
    low, high = interval(headers.rejected, headers.sampled)
    rate, examples = headers.rejected / max(1, headers.sampled), snapshot.examples / share
    return DataSection(
        source=job.data.source,
        snapshot=snapshot.id if share == 1 else None,
        share=share,
        examples=snapshot.examples,
        counts=snapshot.counts,
        left_out=snapshot.left_out,
        rejects=RejectsSection(
            listing=snapshot.rejects,
            decoding=forecast.missing.rejects,
            sampled=headers.sampled,
            sample=headers.reasons,
            examples=[RejectedExample(key, reason) for key, reason in headers.named],
            expected=Range(math.floor(low * examples), round(rate * examples), math.ceil(high * examples)),
        ),
        pictures=headers.looks if job.task == "image" else None,
        duplicates=_duplicates(forecast.duplicates, forecast.listed),
    )


def _duplicates(duplicates: Duplicates, listed: Seen) -> DuplicatesSection:
    held, train = duplicates.compared
    places = sorted({place for pair in duplicates.nearest for place in pair[:2]})
    keys = {place: row.key for place, row in zip(places, chosen(listed, places), strict=True)}
    return DuplicatesSection(
        held_out_compared=held,
        train_compared=train,
        held_out_with_a_near_copy=duplicates.pairs if held else None,
        of_another_label=duplicates.other_label if held else None,
        nearest=[NearCopy(keys[a], keys[b], share) for a, b, share in duplicates.nearest],
        note=duplicates.note,
    )


def _network(run: PlannedRun, classes: int) -> NetworkSection:
    plan, anatomy = run.plan, run.anatomy
    return NetworkSection(
        backbone=run.job.model.backbone,
        features=plan.features,
        parameters=anatomy.parameters,
        head_parameters=head_layers(run.job, plan.features, classes)[0],
        blocks=[BlockSection(*block) for block in anatomy.blocks],
        thawed=list(anatomy.thawed),
        cut=plan.cut,
        shape=list(plan.shape),
        reason=plan.reason,
        work=anatomy.work,
        work_below_cut=anatomy.below,
    )


def _cache(missing: MissingFeatures, work: int) -> CacheSection:
    """`work` is that of a pass."""
    return CacheSection(
        tensors=[
            TensorSection(
                **{**vars(tensor), "shape": list(tensor.shape)},
                missing=tensor.missing,
                bytes=tensor.needed * tensor.bytes_per_example,
            )
            for tensor in missing.tensors
        ],
        examples_to_compute=missing.examples,
        passes_to_compute=missing.passes,
        bytes_to_write=missing.to_write,
        work=missing.passes * work,
    )


def _phase(phase: PhaseCosts, counts: dict[str, int]) -> PhaseSection:
    forward = phase.forward * (counts["train"] + counts["validation"])
    backward = phase.backward * counts["train"]
    return PhaseSection(
        name=phase.name,
        trainable=phase.trainable,
        epochs=phase.epochs,
        assumes=phase.assumes,
        forward_per_epoch=forward,
        backward_per_epoch=backward,
        work=(forward + backward) * phase.epochs.likely,
    )


def _time(forecast: Forecast) -> TimeSection:
    last_run = forecast.history.run if forecast.history else None
    return TimeSection(forecast.stages, total(forecast.stages), forecast.speeds, last_run, forecast.note)


def _price(forecast: Forecast) -> PriceSection:
    """Workers are counted from the first to the last second of a run, and their GPUs but for a head on CPUs."""
    job, scaling, whole = forecast.run.job, forecast.run.job.scaling, total(forecast.stages)
    held = total([stage for stage in forecast.stages if not (stage.name == "head" and head_on_cpus(job))])
    workers, price = scaling.max_workers, scaling.worker_price
    hours = whole and whole.scaled(workers / 3600)
    return PriceSection(
        workers=workers,
        worker_hours=hours,
        gpu_hours=held.scaled(workers / 3600) if held and scaling.gpu else None,
        worker_price=price,
        price=hours.scaled(price) if hours and price is not None else None,
    )
