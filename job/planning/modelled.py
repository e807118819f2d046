"""What the model of docs/scale.md says of a planned run on many workers with GPUs."""

from __future__ import annotations

from statistics import mean

from job.planning.calibration import measured_share
from job.planning.costs import PhaseCosts
from job.planning.document import Forecast
from job.planning.forecast_document import ScaleSection
from job.planning.listing import sampled
from job.planning.scale import Load, PhaseLoad, busy, modelled
from job.planning.worker_kinds import gpu_worker, without_gpu

DECODE = {"image": 5e-3, "text": 2e-5}
"""Seconds of a core for a photograph of 500 by 375 pixels, or for a text, where nothing was measured."""
IDLE = "training keeps {} workers busy, by train.batch_size and the 64 streams of an epoch's order: the others are idle"
NOTE = "a model, not a measurement: docs/scale.md has its formulas, and what it assumes of this GPU"


def scale_section(forecast: Forecast, gpu: str, workers: int) -> ScaleSection:
    """`gpu` is one of GPUS."""
    job, kind = forecast.run.job, gpu_worker(gpu)
    load = _load(forecast)
    stages = modelled(load, kind, workers, on_cpus=without_gpu(kind, job.scaling.cpus_per_worker or 1))
    held, seconds = sum(stage.seconds for stage in stages if stage.gpus), sum(stage.seconds for stage in stages)
    note = NOTE if busy(load, workers) == workers else f"{IDLE.format(busy(load, workers))}; {NOTE}"
    return ScaleSection(gpu, workers, stages, seconds, held * workers / 3600, note)


def _load(forecast: Forecast) -> Load:
    missing, job, speeds = forecast.missing, forecast.run.job, forecast.speeds
    return Load(
        objects=0 if job.data.is_packed else sum(forecast.counts.values()),
        counts=forecast.counts,
        undecoded=missing.examples,
        decode=speeds.decode * measured_share(job).cores if speeds else DECODE[job.task],
        object_bytes=mean(row.size for row in sampled(forecast.listed)),
        passes=missing.passes,
        pass_work=forecast.run.anatomy.work,
        feature_bytes=missing.to_write,
        batch=job.train.batch_size,
        phases=[_phase(forecast, phase) for phase in forecast.phases],
    )


def _phase(forecast: Forecast, phase: PhaseCosts) -> PhaseLoad:
    run, is_head, tensors = forecast.run, phase.name == "head", forecast.missing.tensors
    read = next((tensor for tensor in tensors if tensor.tap == ("pooled" if is_head else run.plan.cut)), tensors[-1])
    return PhaseLoad(
        name=phase.name,
        trainable=phase.trainable or 0,
        forward=phase.forward,
        backward=phase.backward,
        epochs=phase.epochs.likely,
        example_bytes=read.bytes_per_example,
        on_cpus=is_head and run.job.scaling.head_on == "cpu",
    )
