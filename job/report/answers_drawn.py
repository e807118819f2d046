"""What a finished run has answered to its test examples, for TensorBoard: confusion matrices, and the mistakes that the
page shows.

runs/<run>/tensorboard/events.out.tfevents.tested   written once: of a run that is taken up again nothing is drawn twice
"""

from __future__ import annotations

from collections.abc import Callable

from job.data.forms import form_of
from job.data.order import steps_per_epoch
from job.evaluation.run_documents import Documents
from job.report import tfevents
from job.report.drawings import SIDE, captioned, confusion_picture
from job.report.examples import Opened, ShownAnswer, ShownExamples, answer_to, opened
from job.storage.run_keys import RunKeys
from job.wording import NAMES, percent, plural, shortened


def draw_answers(documents: Documents, examples: ShownExamples, warn: Callable[[str], None]) -> None:
    """`confusion/<model>` of each model that was tested, and of the one that is kept `mistakes/<rank>`, or of texts one
    table, `mistakes`. What can't be read from the source is left out, and `warn` is told once.
    """
    store, key = documents.store, f"{RunKeys(documents.run).tensorboard}events.out.tfevents.tested"
    if store.stat(key):
        return
    last = _last_steps(documents)
    records = [tfevents.version(), *(_confusion(documents, model, last[model]) for model in documents.models)]
    form, task = form_of(documents.job), documents.job.task
    keys = documents.predictions.keys
    shown = {at: opened(examples.originals[keys[at]], form, task=task, side=SIDE) for at in examples.mistakes}
    records += (_texts if task == "text" else _pictures)(documents, shown, last[documents.kept])
    store.write(key, b"".join(records))
    if missing := [original.missing for original in shown.values() if original.missing is not None]:
        unread = f"{len(missing)} of the {plural(len(shown), 'mistake')} to be drawn for TensorBoard"
        warn(f"{unread} can't be read from {documents.job.data.source} ({shortened(missing[0], 120)}).")


def _last_steps(documents: Documents) -> dict[str, int]:
    """By model, the last step of its phase, on the axis of both phases."""
    last, steps = {}, 0
    for phase in ("head", "fine_tune"):
        epochs = documents.training.trained_epochs(phase)
        size = documents.job.train.batch_size
        steps += sum(steps_per_epoch(epoch.examples, size) for epoch in epochs if epoch.examples)
        last[phase] = steps
    return last


def _confusion(documents: Documents, model: str, step: int) -> bytes:
    caption = f"{NAMES[model]}, {plural(len(documents.predictions.labels), 'test example')}"
    confusion = documents.metrics[model].confusion
    image = confusion_picture(confusion, documents.snapshot.classes, caption)
    meaning = "True classes in rows, answers in columns; shades are shares of the row."
    return tfevents.picture(step, f"confusion/{model}", image, description=f"{caption}. {meaning}")


def _pictures(documents: Documents, mistakes: dict[int, Opened], step: int) -> list[bytes]:
    records = []
    for number, (at, original) in enumerate(mistakes.items(), start=1):
        if original.picture is None:
            continue
        answer = _mistake(documents, at)
        chance, truth_chance = percent(answer.chance), percent(answer.truth_chance)
        lines = [f"answer ({chance}): {answer.label}", f"truth ({truth_chance}): {answer.truth}", answer.key]
        label, truth, key = map(tfevents.plain_markdown, (answer.label, answer.truth, answer.key))
        description = f"answer **{label}** ({chance}), truth **{truth}** ({truth_chance}): {key}"
        records.append(
            tfevents.picture(
                step, f"mistakes/{number:02d}", captioned(original.picture, lines), description=description
            )
        )
    return records


def _texts(documents: Documents, mistakes: dict[int, Opened], step: int) -> list[bytes]:
    rows = ["| answer | | truth | | text | key |", "| --- | ---: | --- | ---: | --- | --- |"]
    for at, original in mistakes.items():
        if original.text is None:
            continue
        answer = _mistake(documents, at)
        chances = percent(answer.chance), percent(answer.truth_chance)
        cells = [answer.label, chances[0], answer.truth, chances[1], original.text, answer.key]
        rows.append(f"| {' | '.join(map(tfevents.plain_markdown, cells))} |")
    return [tfevents.text(step, "mistakes", "\n".join(rows))] if rows[2:] else []


def _mistake(documents: Documents, at: int) -> ShownAnswer:
    """The answer, with its names each in one line."""
    answer = answer_to(documents, at)
    key, truth, label = (shortened(name, 200) for name in (answer.key, answer.truth, answer.label))
    return answer._replace(key=key, truth=truth, label=label)
