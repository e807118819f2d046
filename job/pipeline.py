"""One attempt at a run: the stages in order, from features to the model in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from job import __version__
from job.errors import AccessDenied, CorruptFeatures, Interrupted, Superseded, TrainingError, WriteConflict, headline
from job.evaluation.predictions import logits_of, predictions_table
from job.executors import Executor
from job.features.cache_plan import Plan, choose_plan, read_plan, write_plan
from job.features.extract import extract
from job.features.featurize import Overflow
from job.features.store import forget_part
from job.libraries import import_tensorflow
from job.model.anatomy import Anatomy, anatomy_of, read_anatomy, write_anatomy
from job.registry import retrain_policy
from job.registry.current import read_current
from job.registry.promotion import judge
from job.registry.retrain_policy import Decision
from job.registry.warm import plan_in_use, warm_start
from job.run.interrupts import Interrupts
from job.run.run import Run
from job.run.state import read_state
from job.run.timings import Clock
from job.storage import Store, read_json
from job.storage.scratch import forget_scratch
from job.telemetry.event_files import recorded
from job.telemetry.run_metrics import measured
from job.telemetry.run_progress import kept
from job.training.context import Recipe

Say = Callable[..., None]
"""(kind, fields): what a person is told on the way."""
MAX_CORRUPT = 8
"""Parts of the feature store that one attempt computes again because their bytes are not what was written."""
UNFINISHED = 3600.0
"""Seconds after which a feature that is still half written is nobody's any more."""


class Attempt:
    """One attempt at a run, which it has taken."""

    def __init__(self, run: Run, attempt: int, executor: Executor, interrupts: Interrupts, clock: Clock) -> None:
        self.run, self.job, self.store, self.attempt = run, run.job, run.store, attempt
        self.executor, self.interrupts, self.clock, self.say = executor, interrupts, clock, clock.say

    def go(self, phase: str, network: Callable[[], Any]) -> dict[str, Any]:
        """Extracts, trains, evaluates and exports what is left; `network` makes what only the plan needs."""
        if phase == "fine_tune" and not self._has_head():
            raise TrainingError(
                f"--phase fine_tune: {self.run.uri} has no checkpoint of a converged head "
                "to start from. Run `thaw run` with --phase head first, or without --phase for both."
            )
        forget_scratch()
        self._tidy(self.run.keys.folder, seconds=0)
        result = read_json(self.store, self.run.keys.result)
        if result is not None:  # an attempt before this one came so far
            with self._watched():
                return self._reported(self._judged(result))
        decision = self._decision()
        if decision.train is False:
            return self._left_alone(decision)
        plan = self._plan(network)
        with self._watched():
            if decision.train is None:
                plan = self._extract(plan, self.say)
                decision = self._decision_by_features(decision)
            if not decision.train:
                return self._left_alone(decision)
            until = "head" if phase == "head" or self.job.phases.fine_tune is None else "fine_tune"
            store, run, attempt = self.store, self.run.id, self.attempt
            with (
                kept(self.say, store, run, attempt, until == "fine_tune") as say,
                recorded(say, store, run, attempt) as say,
            ):
                self._train(plan, until, say)
            return self._reported(self._judged(self._finish(stop_at_head=phase == "head")))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What Prometheus reads of the run is there."""
        with measured(self.run.id, self.run.snapshot, self.say, self.executor) as self.say:
            yield

    def _decision(self) -> Decision:
        """Whether to train, as far as that is known before features are computed. A run that was begun goes on."""
        stored = retrain_policy.recorded(self.store, self.run.id)
        if self.job.retrain_when is None or (stored and stored.train) or self._checkpoints():
            return Decision(True, "")
        return self._told(retrain_policy.decide(self.job, self.store, self.run.snapshot))

    def _decision_by_features(self, decision: Decision) -> Decision:
        self.clock.begin("comparing")
        self.say("stage", text="comparing the features of the new examples with those of the others")
        return self._told(retrain_policy.decide_by_features(self.run, decision))

    def _told(self, decision: Decision) -> Decision:
        """Written down, unless the features are to decide."""
        if decision.train is not None:
            retrain_policy.record(self.store, self.run.id, decision)
        self.say("stage", text=f"train? {decision.reason}")
        return decision

    def _left_alone(self, decision: Decision) -> dict[str, Any]:
        self.say("stage", text="nothing is trained (--set retrain_when=null trains nevertheless)")
        return {
            "run": self.run.uri,
            "snapshot": self.run.snapshot.id,
            "state": "not worth it",
            "metrics": {"head": None, "fine_tune": None},
            "classes": self.run.snapshot.classes,
            "model": None,
            "promotion": None,
            "decision": asdict(decision),
        }

    def _plan(self, network: Callable[[], Any]) -> Plan:
        """What was decided before; else that of the model in use, whose features are stored; else one that is new."""
        plan = read_plan(self.store, self.run.id)
        if plan is None:
            plan = plan_in_use(self.job, self.run.id, self.store, self.run.base, self.run.snapshot)
            current = read_current(self.store, self.job.name) if plan else None
            anatomy = read_anatomy(self.store, current.run) if current else None
            if plan is None:
                plan = choose_plan(self.job, made := network(), self.run.snapshot)
                anatomy = anatomy_of(made, plan.cut)
            if anatomy:
                write_anatomy(self.store, self.run.id, anatomy)
            write_plan(self.store, self.run.id, plan)
        self._warn_of_end(read_anatomy(self.store, self.run.id))
        self.say("stage", text=f"cache: {plan.reason}")
        description = self.job.model_dump_json(indent=1, by_alias=True)
        self.store.write(self.run.keys.job, description.encode())
        return plan

    def _warn_of_end(self, anatomy: Anatomy | None) -> None:
        if anatomy and anatomy.classifier and self.job.model.end_at is None:
            self.say("warning", text=f"model.end_at: {anatomy.classifier.told(self.job.model.backbone)}")

    def _judged(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result with what was decided about promotion."""
        rules = self.job.promote
        if rules is None or result["model"] is None:
            return {**result, "promotion": None}
        self.clock.begin("promotion")
        judged = judge(self.run, rules, result, self.executor, self.say)
        return {**result, "promotion": judged}

    def _reported(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result, once the report is made of it: a run whose report can't be made is finished nevertheless."""
        if result["model"] is None:
            return result
        from job.evaluation.documents import read_documents
        from job.report.finished import write_report
        from job.report.record import versions_here

        self.clock.begin("report")
        self.say("stage", text="making the report")
        try:
            documents = read_documents(self.store, self.run.id)
            uri = write_report(documents, lambda text: self.say("warning", text=text), versions_here())
            return {**result, "report": uri}
        except (Interrupted, Superseded):
            raise
        except Exception as error:
            text = f"The report could not be made ({headline(error)}). The run is finished; `thaw report "
            self.say("warning", text=f"{text}{self.run.uri}` tries again.")
            return {**result, "report": None}

    def _tidy(self, prefix: str, seconds: float) -> None:
        """Deletes what killed attempts left half written there, so many seconds ago or longer."""
        try:
            self.store.forget_unfinished(prefix, seconds)
        except AccessDenied as error:
            self.say("note", text=f"{error} What earlier attempts left half written stays.")

    def _train(self, plan: Plan, until: str, say: Say) -> None:
        """Extracts and trains; what is found to be corrupt is computed again, and training goes on where it was."""
        warm = warm_start(self.run)
        if self.job.phases.head.warm_start:
            self.say("stage", text=warm.reason)
        for tries in range(MAX_CORRUPT + 1):
            try:
                plan = self._extract(plan, say)
                recipe = Recipe(
                    job=self.job,
                    run=self.run.id,
                    attempt=self.attempt,
                    until=until,
                    snapshot=self.run.snapshot,
                    base=self.run.base,
                    cut=plan.cut,
                    warm_start=warm.source,
                )
                self.clock.begin("workers", self.job.scaling.max_workers)
                self.executor.train(recipe, self.interrupts, say)
                if self.interrupts.asked:  # as the last step was made
                    raise self.interrupts.interrupted()
                return
            except CorruptFeatures as error:
                if tries == MAX_CORRUPT:
                    raise
                self.say("warning", text=f"{error} It is computed again.")
                forget_part(self.store, error.featurizer, error.part)
                self.store.delete(self.run.keys.dataset)

    def _extract(self, plan: Plan, say: Say) -> Plan:
        """Makes the run's data set complete; returns the plan, which has another type where float16 was too small."""
        self.clock.begin("features", self.executor.featurizers)
        if self.store.stat(self.run.keys.dataset) is not None:
            return plan
        self._tidy("features/", UNFINISHED)
        try:
            rejects = extract(self.run, plan, self.executor, say)
        except Overflow as error:
            say("warning", text=f"{error}: they are stored as bfloat16")
            plan = replace(plan, dtype="bfloat16")
            write_plan(self.store, self.run.id, plan)
            rejects = extract(self.run, plan, self.executor, say)
        total = sum(self.run.snapshot.rejects.values()) + len(rejects)
        if total:
            reasons = [f"{key}: {reason}" for key, _, reason in rejects[:3]]
            say("rejects", total=total, listing=self.run.snapshot.rejects, decoding=reasons)
        return plan

    def _has_head(self) -> bool:
        return any(entry["phase"] == "fine_tune" or entry["finished"] for entry in self._checkpoints())

    def _checkpoints(self) -> list[dict[str, Any]]:
        found = read_state(self.store, self.run.id)
        return found[0]["checkpoints"] if found else []

    def _finish(self, stop_at_head: bool) -> dict[str, Any]:
        """Evaluates and exports. The result is written last: its existence means that the run is finished."""
        store, run = self.store, self.run
        metrics = _test_metrics(store, run.id)
        result: dict[str, Any] = {
            "run": run.uri,
            "snapshot": self.run.snapshot.id,
            "state": "head" if stop_at_head else "finished",
            "metrics": {"head": metrics.get("head"), "fine_tune": metrics.get("fine_tune")},
            "classes": self.run.snapshot.classes,
            "model": None,
        }
        if self.job.task == "text":
            words = read_json(store, run.keys.words)
            result |= {"task": "text", **({"words": words} if words else {})}
        if stop_at_head:
            return result
        self.clock.begin("export")
        self.say("stage", text="exporting the model")
        import_tensorflow()
        from job.export.exporter import export_model

        training = json.loads(store.read(run.keys.training))
        result |= {"kept": (kept := training["kept"]), "thawed": training["thawed"]}
        if tests := training["range_tests"]:
            from job.report.curves import range_curves

            store.write(run.keys.range_tests, range_curves(tests))
        result["model"] = export_model(run, self.attempt, kept=kept, metrics=metrics, card=self._card(result))
        key = run.keys.result
        try:
            store.write_if_unchanged(key, json.dumps(result, indent=1).encode(), None)
        except WriteConflict:  # an attempt that stood still was faster after all, or the answer to our write was lost
            result = json.loads(store.read(key))
        return result

    def _card(self, result: dict[str, Any]) -> str | None:
        """The model card; None where it can't be made, which is no reason to lose the model."""
        from job.evaluation.documents import documents_of
        from job.export.model_card import model_card

        try:
            return model_card(documents_of(self.store, self.run.id, result), __version__)
        except (Interrupted, Superseded):
            raise
        except Exception as error:
            self.say("warning", text=f"The model card could not be made: {headline(error)}")
            return None


def _test_metrics(store: Store, run: str) -> dict[str, Any]:
    from job.evaluation.metrics import evaluate

    table = predictions_table(store, run)
    labels = table["label"].to_numpy()
    models = [name.removeprefix("logits_") for name in table.column_names if name.startswith("logits_")]
    return {name: evaluate(logits_of(table, name), labels) for name in models}
