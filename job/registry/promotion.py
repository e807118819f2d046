"""Promotion: a finished run's model becomes the one in use where it is better on the same test examples, beyond noise.

runs/<run>/promotion.json   written last: {promoted, reason, at, against, …}; a run is judged once
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from job.config import Job, Promotion
from job.errors import ObjectMissing, StorageError, WriteConflict
from job.evaluation.paired import Comparison, compare
from job.evaluation.run_documents import report_uri
from job.executors import Executor
from job.registry.champion import ChampionAnswers, answers
from job.registry.current import Current, Entry, current_key, entry_of, now, put_current, read_current
from job.run.events import Announced, Emit, PromotionDecided, StageStarted
from job.run.run import Run
from job.storage import TRIES, Store, read_json
from job.storage.run_keys import RunKeys


def finished_result(job: Job, store: Store, run: str) -> dict[str, Any] | None:
    """The result of a run with nothing left to do; None for other runs. It includes `promotion`, the decision, or None
    with promote: null; and `report`, the URI of the page, or None where it could not be made.
    """
    result = read_json(store, RunKeys(run).result)
    if result is None:
        return None
    judged = read_json(store, RunKeys(run).promotion)
    if judged is None and job.promote is not None:
        return None
    return {**result, "promotion": judged, "report": report_uri(store, run)}


def promoted(run: Run, result: dict[str, Any], executor: Executor, *, emit: Emit) -> dict[str, Any]:
    """The result with `promotion`: the decision; None with promote: null, or where there is no model."""
    if run.job.promote is None or result["model"] is None:
        return {**result, "promotion": None}
    emit(StageStarted("promotion"))
    return {**result, "promotion": judge(run, run.job.promote, result, executor=executor, emit=emit)}


def judge(run: Run, rules: Promotion, result: dict[str, Any], *, executor: Executor, emit: Emit) -> dict[str, Any]:
    """Compares the run's model with the one in use, puts it into use where it is better, and returns the decision.

    Where another run's model has come into use meanwhile, it is compared with that one.
    """
    name, store, asked = run.job.name, run.store, dict[str, ChampionAnswers]()

    def against(champion: str) -> ChampionAnswers:
        if champion not in asked:
            emit(Announced(f"comparing with the model in use ({champion})"))
            asked[champion] = answers(run, result["kept"], champion, executor=executor, emit=emit)
        return asked[champion]

    for _ in range(TRIES):
        current = read_current(store, name)
        is_own = current is not None and current.run == run.id  # an earlier attempt has promoted it already
        champion = _before(current) if is_own else current.entry if current else None
        decided = _decided(run, rules, champion, against=against)
        if decided["promoted"] and not is_own:
            try:
                put_current(store, name, entry_of(run.id, result, "run"), before=current)
            except WriteConflict:
                continue
        decided |= {"promoted": decided["promoted"] or is_own, "at": now()}
        store.write(run.keys.promotion, json.dumps(decided, indent=1).encode())
        emit(PromotionDecided(promoted=decided["promoted"], reason=decided["reason"]))
        return decided
    raise StorageError(f"{store.uri}{current_key(name)} could not be changed: others write it all the time.")


def _before(current: Current | None) -> Entry | None:
    return current.previous[0] if current and current.previous else None


def _decided(
    run: Run, rules: Promotion, champion: Entry | None, *, against: Callable[[str], ChampionAnswers]
) -> dict[str, Any]:
    """The decision: {promoted, reason, run, against}, and the figures that it is based on."""
    named = {"run": run.id, "against": champion.run if champion else None}
    if champion is None:
        return {"promoted": True, "reason": "it is the first model of this job", **named}
    try:
        answered = against(champion.run)
    except ObjectMissing as error:
        reason = f"it can't be compared with {champion.run}: {error} `thaw promote` puts it into use nevertheless"
        return {"promoted": False, "reason": reason, **named}
    classes = run.snapshot.classes
    compared = compare(
        answered.labels,
        answered.candidate,
        answered.champion,
        classes=len(classes),
        metric=rules.metric,
        resamples=rules.resamples,
        seed=run.job.train.seed,
    )
    promoted, reason = verdict(compared, rules, classes)
    support = np.bincount(answered.labels, minlength=len(classes)).tolist()
    drops = [None if np.isnan(drop) else float(drop) for drop in compared.drops]
    return {
        "promoted": promoted,
        "reason": f"{reason}, on the same {len(answered.labels)} test examples as {champion.run}",
        **named,
        "rules": rules.model_dump(),
        "examples": len(answered.labels),
        "candidate": compared.candidate,
        "current": compared.reference,
        "least_gain": compared.least_gain(rules.confidence),
        "classes": [
            {"class": label, "examples": count, "recall_drop": drop}
            for label, count, drop in zip(classes, support, drops, strict=True)
        ],
    }


def verdict(compared: Comparison, rules: Promotion, classes: list[str]) -> tuple[bool, str]:
    """Whether to promote, and the reason in one line."""
    metric, least = rules.metric.replace("_", " "), compared.least_gain(rules.confidence)
    comparison = f"{metric} {compared.candidate:.4f} against {compared.reference:.4f}, a gain above {least:+.4f} with "
    comparison += f"{rules.confidence:.0%} confidence"
    if least <= rules.min_gain:
        return False, f"{comparison}, and {rules.min_gain:+g} (promote.min_gain) must be exceeded"
    fallen = compared.fallen(rules.max_class_drop, rules.confidence)
    if fallen:
        falls = ", ".join(f"{classes[label]} by {compared.drops[label]:.4f}" for label in fallen)
        return (
            False,
            f"{comparison}, but recall falls by more than promote.max_class_drop ({rules.max_class_drop:g}): {falls}",
        )
    return True, comparison
