"""Promotion: a finished run's model becomes the one in use where it is better on the same test examples, beyond noise.

runs/<run>/promotion.json   written last: {promoted, reason, at, against, …}; a run is judged once
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from job.config import Job, Promotion
from job.errors import ObjectMissing, StorageError, WriteConflict
from job.evaluation.paired import Comparison, compare
from job.evaluation.run_documents import report_uri
from job.executors import Executor
from job.registry.champion import ChampionAnswers, answers
from job.registry.current import Current, Entry, current_key, entry_of, now, put_current, read_current
from job.run.events import Announced, Emit, PromotionDecided, StageStarted
from job.run.outcome import PromotionDecision, RunOutcome, RunResult
from job.run.run import Run
from job.storage import TRIES, Store
from job.storage.documents import read_document, write_document
from job.storage.run_keys import RunKeys


def finished_outcome(job: Job, store: Store, run: str) -> RunOutcome | None:
    """The outcome of a run with nothing left to do; None for other runs."""
    result = read_document(store, RunKeys(run).result, RunResult)
    if result is None:
        return None
    decided = read_document(store, RunKeys(run).promotion, PromotionDecision)
    if decided is None and job.promote is not None and not result.fake_gpu:
        return None
    return RunOutcome(result, decided, report_uri(store, run))


def promote_if_better(run: Run, result: RunResult, executor: Executor, *, emit: Emit) -> PromotionDecision | None:
    """The decision whether the model comes into use; None with promote: null, where there is no model, and where GPUs
    were fake.
    """
    if run.job.promote is None or result.model is None or result.fake_gpu:
        return None
    emit(StageStarted("promotion"))
    return judge(run, run.job.promote, result, executor=executor, emit=emit)


def judge(run: Run, rules: Promotion, result: RunResult, *, executor: Executor, emit: Emit) -> PromotionDecision:
    """Compares the run's model with the one in use, puts it into use where it is better, and returns the decision.

    Where another run's model has come into use meanwhile, it is compared with that one.
    """
    name, store, kept, asked = run.job.name, run.store, result.kept or "head", dict[str, ChampionAnswers]()

    def against(champion: str) -> ChampionAnswers:
        if champion not in asked:
            emit(Announced(f"comparing with the model in use ({champion})"))
            asked[champion] = answers(run, kept, champion, executor=executor, emit=emit)
        return asked[champion]

    for _ in range(TRIES):
        current = read_current(store, name)
        is_own = current is not None and current.run == run.id  # an earlier attempt has promoted it already
        champion = _before(current) if is_own else current.entry if current else None
        decided = _decided(run, rules, champion, against=against)
        if decided.promoted and not is_own:
            try:
                put_current(store, name, entry_of(run.id, result, "run"), before=current)
            except WriteConflict:
                continue
        decided = replace(decided, promoted=decided.promoted or is_own, at=now())
        write_document(store, run.keys.promotion, decided)
        emit(PromotionDecided(promoted=decided.promoted, reason=decided.reason))
        return decided
    raise StorageError(f"{store.uri}{current_key(name)} could not be changed: others write it all the time.")


def _before(current: Current | None) -> Entry | None:
    return current.previous[0] if current and current.previous else None


def _decided(
    run: Run, rules: Promotion, champion: Entry | None, *, against: Callable[[str], ChampionAnswers]
) -> PromotionDecision:
    if champion is None:
        return PromotionDecision(True, "it is the first model of this job", run.id, None)
    try:
        answered = against(champion.run)
    except ObjectMissing as error:
        reason = f"it can't be compared with {champion.run}: {error} `thaw promote` puts it into use nevertheless"
        return PromotionDecision(False, reason, run.id, champion.run)
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
    return PromotionDecision(
        promoted=promoted,
        reason=f"{reason}, on the same {len(answered.labels)} test examples as {champion.run}",
        run=run.id,
        against=champion.run,
        rules=rules.model_dump(),
        examples=len(answered.labels),
        candidate=compared.candidate,
        current=compared.reference,
        least_gain=compared.least_gain(rules.confidence),
        classes=[
            {"class": label, "examples": count, "recall_drop": drop}
            for label, count, drop in zip(classes, support, drops, strict=True)
        ],
    )


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
