"""What one Ray Train worker does."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Job
from job.data.snapshot import Snapshot, read_snapshot
from job.errors import ClusterError, CorruptFeatures, Interrupted, Replaced, ThawError, headline
from job.libraries import import_tensorflow
from job.storage import Store, open_store
from job.storage.scratch import forget_scratch
from job.train.checkpoint import Checkpoint
from job.train.runstate import GuardedStore, RunState, Ticket
from job.train.watch import Laps

NAMED = 4
"""Examples of a batch that an error names itself."""


def train_worker(config: dict[str, Any]) -> None:
    """`config`: job, run (id), attempt, until, snapshot, base, cut, warm_start ({run, classes, fine_tuned} of the
    model to start from, or None), cpus, events (a Ray queue), ledger (a Ray actor).

    An error that the user can mend goes to the driver as an event. The worker then fails, so that Ray ends those that
    wait for it, and says in the ledger that it is over, so that a group started anew does nothing.
    """
    import ray
    import ray.train

    rank, ledger, events = ray.train.get_context().get_world_rank(), config["ledger"], config["events"]

    def say(kind: str, **fields: Any) -> None:
        if rank == 0:
            events.put({"kind": kind, **fields})

    try:
        _train(config, rank, say)
    except Interrupted:  # once a checkpoint is kept
        ray.get(ledger.stopped.remote())
    except Replaced:  # nobody is waiting for it, and those who took its place go on
        raise
    except ThawError as error:
        part = (error.featurizer, error.part) if isinstance(error, CorruptFeatures) else ()
        events.put({"kind": "error", "type": type(error).__name__, "arguments": (str(error), *part)})
        ray.get(ledger.end.remote())
        raise
    except Exception as error:
        ray.get(ledger.failed.remote(f"rank {rank}: {headline(error)}", follows=_follows(error)))
        raise


def _follows(error: Exception) -> bool:
    """Whether a worker fails because another one is gone."""
    import_tensorflow()
    import tensorflow as tf

    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
    return isinstance(error, (*lost, tf.errors.DeadlineExceededError))


def _train(config: dict[str, Any], rank: int, say: Callable[..., None]) -> None:
    job, run = Job.model_validate(config["job"]), config["run"]
    store = open_store(job.store)
    state = RunState(store, run, Ticket(config["attempt"]))
    watchdog = _watchdog(job, config, GuardedStore(store, state), rank)
    began, laps = time.time(), Laps()

    def done(part: str) -> None:
        watchdog.beat()
        laps.lap(part)

    from job.train.strategy import make_strategy, prepare_process

    prepare_process(job, config["cpus"])
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero
    from safetensors.numpy import load

    from job.data.arena import Arena, NodeCache
    from job.data.dataset import load_dataset
    from job.model.freezing import described_blocks
    from job.model.resolved import ResolvedBase
    from job.train.control import Control
    from job.train.keeper import Keeper, load_checkpoint
    from job.train.meter import Meter
    from job.train.networks import network_of_run
    from job.train.phases import Inputs, WarmStart, train_phases
    from job.train.task import Team
    from job.train.watch import listen

    done("imports")
    context = ray.train.get_context()
    if context.get_local_rank() == 0:
        forget_scratch()
    begun, resumed = _begin(config, state, store, say) if rank == 0 else (None, None)
    begun = broadcast_from_rank_zero(begun)
    done("group")
    if begun is None:
        watchdog.end()
        return
    strategy = make_strategy(job)
    snapshot = Snapshot(**config["snapshot"])
    data = load_dataset(store, run, snapshot.classes, job.train.class_weights)
    cache = NodeCache(None, job.train.cache_limit, context.get_local_world_size())
    pooled, fine_tune = ([Arena(store, data, found, cache) for found in sets] for sets in (data.pooled, data.inputs))
    network = network_of_run(job, store, run, ResolvedBase(**config["base"]), len(snapshot.classes))
    warm = None
    if source := config["warm_start"]:
        trained_before = [f"runs/{source['run']}/{name}.safetensors" for name in ("head", "fine_tuned")]
        tensors = [load(store.read(key)) for key in trained_before[: 1 + source["fine_tuned"]]]
        warm = WarmStart(source["classes"], snapshot.classes, *tensors)
    if begun["entry"] and resumed is None:
        resumed = load_checkpoint(store, run, begun["entry"])
    done("restore")
    group = RunState(store, run, Ticket(config["attempt"], begun["group"]))
    meter = Meter(run, rank, say)
    keeper = Keeper(store, group, job.checkpoint.keep, say, meter.checkpoint) if rank == 0 else None
    stop = threading.Event()
    listen(stop, config["ledger"], rank)
    busy = keeper.is_busy if keeper else lambda: False

    def ready() -> None:
        laps.lap("first step")
        restart = {"restart": round(began - begun["noticed"], 2)} if begun["noticed"] else {}
        say("ready", at=time.time(), seconds={**restart, **laps.seconds})

    control = Control(job.checkpoint, rank, stop, busy, watchdog.beat, ready)
    save = keeper.save if keeper else lambda checkpoint, wait: None
    names = _names(store, run, snapshot, data)
    team = Team(rank, context.get_world_size(), strategy, control, save, say, names, meter.steps)
    progress = resumed and resumed.progress
    say("start", workers=team.world_size, resumed=progress and [progress.phase, progress.epoch, progress.step])
    inputs = Inputs(pooled, fine_tune, config["cut"])
    trained = train_phases(job, config["until"], network, data, inputs, team, resumed, warm)
    watchdog.end()
    if rank == 0:
        keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows[trained.examples])
        blocks = described_blocks(network.base, network.head, config["cut"])
        _write_result(GuardedStore(store, group), run, trained, data, keys, blocks)
        say("trained", kept=trained.kept, fine_tuned=trained.fine_tuned is not None)
        ray.get(config["ledger"].end.remote())


def _begin(
    config: dict[str, Any], state: RunState, store: Store, say: Callable[..., None]
) -> tuple[dict[str, Any] | None, Checkpoint | None]:
    """What rank 0 tells all: the number of this group, the entry of the checkpoint that it goes on from (or None), and
    when the end of the group before it was noticed; and that checkpoint, which it has read to choose it.

    Nothing is told where there is nothing to do. Raises ClusterError where the same failure has come too often.
    """
    import ray

    from job.train.keeper import forget_unlisted, latest_checkpoint

    ledger = config["ledger"]
    if ray.get(ledger.is_over.remote()):
        return None, None
    group = state.begin_group()
    latest = latest_checkpoint(store, group, say)
    entry, checkpoint = latest or (None, None)
    start = ray.get(ledger.begin.remote(entry["name"] if entry else ""))
    if start.refused:
        raise ClusterError(f"{start.refused} (--debug shows the workers' logs).")
    time.sleep(start.pause)
    forget_unlisted(store, group)
    return {"group": group.ticket.group, "entry": entry, "noticed": start.noticed}, checkpoint


def _watchdog(job: Job, config: dict[str, Any], store: Store, rank: int) -> Any:
    """Writes `runs/<run>/stacks/<attempt>-<rank>-<time>.txt` before it ends a worker that does not get on."""
    from job.train.watch import Watchdog

    def report(stacks: str) -> None:
        key = f"runs/{config['run']}/stacks/{config['attempt']}-{rank}-{int(time.time())}.txt"
        store.write(key, stacks.encode())
        text = f"worker {rank} made no step for {job.recovery.stall_timeout:g} s and is ended; its stacks: "
        config["events"].put({"kind": "warning", "text": f"{text}{store.uri}{key}"})

    return Watchdog(job.recovery.stall_timeout, report)


def _names(store: Store, run: str, snapshot: Snapshot, data: Any) -> Callable[[np.ndarray], str]:
    def names(examples: np.ndarray) -> str:
        keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows[examples]).to_pylist()
        named = ", ".join(keys[:NAMED])
        if len(keys) <= NAMED:
            return named
        key = f"runs/{run}/batch.txt"
        store.write(key, ("\n".join(keys) + "\n").encode())
        return f"{named} and {len(keys) - NAMED} more (all of them: {store.uri}{key})"

    return names


def _write_result(
    store: Store, run: str, trained: Any, data: Any, keys: pa.ChunkedArray, blocks: list[dict[str, Any]]
) -> None:
    """The trained variables and the logits on validation and test, and last what was decided (training.json)."""
    import json

    from safetensors.numpy import save

    store.write(f"runs/{run}/head.safetensors", save(trained.head))
    if trained.fine_tuned is not None:
        store.write(f"runs/{run}/fine_tuned.safetensors", save(trained.fine_tuned))
    sides = np.full(len(data.labels), "", object)
    for split, members in data.splits.items():
        sides[members] = split
    columns = {
        "key": keys,
        "split": pa.array(sides[trained.examples]),
        "label": pa.array(data.labels[trained.examples]),
        **{f"logits_{name}": pa.array(list(logits)) for name, logits in trained.logits.items()},
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    store.write(f"runs/{run}/predictions.parquet", buffer.getvalue())
    decided = {name: getattr(trained, name) for name in ("kept", "converged", "thawed", "history")}
    decided |= {"range_tests": trained.progress.range_tests, "blocks": blocks}
    sets = {"head": trained.head, "fine_tune": trained.fine_tuned or {}}
    decided["parameters"] = {phase: sum(value.size for value in tensors.values()) for phase, tensors in sets.items()}
    store.write(f"runs/{run}/training.json", json.dumps(decided).encode())
