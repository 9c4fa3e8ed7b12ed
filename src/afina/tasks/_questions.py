"""Questions to a text with the answers that stand in it, as they come out of SQuAD's files and flat rows."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Self, TypeGuard

from afina.core import Row, Splits, Table, Task
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting

ARTICLES = 10  # titles; with fewer a draw by title would be too coarse, and paragraphs are kept together
YES = ("true", "1", "1.0", "yes", "sí", "si")


class Questions(Task):
    """A task over questions to a text, with answers that are stretches of it, or none.

    A cleaned row is `question`, `context`, `answers` [{text, answer_start}] in characters, empty where the text holds
    none, and the `id` and `title` that the file gives.
    """

    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    gold: ClassVar[tuple[str, ...]] = ("answers", "answer_start")

    question: str | None = setting(None, N_("Column that holds the question (default: guessed and said)."))
    context: str | None = setting(
        None, N_("Column that holds the text with the answer (default: guessed and said).")
    )
    answers: str | None = setting(None, N_("Column that holds the answers (default: guessed and said)."))
    answer_start: str | None = setting(
        None,
        N_("Column that says at which character of the context the answer begins (default: by its name)."),
    )
    title: str | None = setting(
        None,
        N_(
            "Column of the article: its questions stay on one side of the split (default: by its name, where there "
            "are ten articles; else those of a paragraph stay together)."
        ),
    )

    def choose_columns(self, table: Table) -> Self:
        from afina.data.columns import guess, named_like

        task = self.choose_inputs(table)
        question, context = task.question or "", task.context or ""
        start = named_like(table, "answer_start", self.answer_start)
        answers = guess(table, "answers", self.answers, taken=[question, context, start or ""])
        if len({question, context, answers}) < 3:
            raise InputError(
                _("One column cannot serve two ends: question '{question}', context '{context}', answers '{answers}'.")
                .format(question=question, context=context, answers=answers)
            )  # fmt: skip
        title = named_like(table, "title", self.title)
        if title in (question, context, answers) or (
            self.title is None and len({row[title] for row in table.rows if title}) < ARTICLES
        ):
            title = None
        return task.replace(answers=answers, answer_start=start, title=title)

    def choose_inputs(self, table: Table) -> Self:
        from afina.data.columns import guess

        question = guess(table, "question", self.question)
        return self.replace(
            question=question, context=guess(table, "context", self.context, taken=[question])
        )

    def clean(self, row: Row) -> Row | None:
        from afina.tasks._gold_answers import read

        question, context = row.get(self.question or "question"), row.get(self.context or "context")
        if not _is_text(question) or not _is_text(context):
            return None
        identity = str(row.get("id") or "")
        try:
            answers = read(
                row.get(self.answers or "answers"), row.get(self.answer_start or "answer_start"), context
            )
        except InputError as error:
            named = _("Question {id}: {error}").format(id=identity, error=error) if identity else str(error)
            raise InputError(named) from None
        if str(row.get("is_impossible") or "").strip().lower() in YES:
            answers = []
        if answers is None:
            return None
        title = str(row.get(self.title or "title") or "")
        return {"id": identity, "title": title, "question": question, "context": context, "answers": answers}

    def check(self, splits: Splits) -> None:
        if not any(row["answers"] for row in splits.train):
            raise InputError(_("No training question has an answer; there is nothing to learn."))

    def group(self, row: Row) -> str | None:
        return None

    def key(self, row: Row) -> Any:
        return row["question"], row["context"]

    def cluster(self, row: Row) -> str:
        return str(row["context"])

    def together(self, row: Row) -> Any:
        return row["title"] if self.title and row["title"] else row["context"]


def gold_texts(row: Row) -> list[str]:
    """Return the answers that count as right, none where the text holds none."""
    return [answer["text"] for answer in row["answers"]]


def one_gold(row: Row) -> tuple[int, int] | None:
    """Return where the answer to learn stands: of several the most frequent, (-1, -1) where none is known."""
    if row.get("answers") is None:
        return -1, -1
    if not row["answers"]:
        return None
    places = Counter((answer["answer_start"], len(answer["text"])) for answer in row["answers"])
    (start, length), _times = places.most_common(1)[0]
    return start, start + length


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())
