"""Which tags there are, how rare each is and whether they can be learnt: what the training rows tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self

from afina.core import Row, Splits
from afina.errors import InputError
from afina.messages import N_, _
from afina.scoring import entities as spans_of
from afina.settings import setting
from afina.tasks._tagged import Tagged


class TagSet(Tagged):
    """A task over tagged words whose tags are those of the training rows, in the order of the model's outputs."""

    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)

    def learn(self, rows: Sequence[Row]) -> Self:
        counts = Counter(tag for row in rows for tag in self._gold(row))
        if self.kind == "entities":
            counts.update(
                {f"{begins}-{label}": 0 for row in rows for label in self.counted(row) for begins in "BI"}
            )
        # The first is what is said of a word that the model does not see: nothing, or the most frequent tag.
        first = spans_of.OUTSIDE if self.kind == "entities" else counts.most_common(1)[0][0]
        labels = (first, *sorted(counts.keys() - {first}))
        total = sum(counts.values())
        balanced = tuple(total / (len(labels) * max(counts[label], 1)) for label in labels)
        return self.replace(labels=labels, weights=balanced if self.class_weight == "balanced" else ())

    def check(self, splits: Splits) -> None:
        counts = Counter(label for row in splits.train for label in self.counted(row))
        if self.kind == "entities" and not counts:
            raise InputError(_("No training row has an entity; there is nothing to find."))
        if self.kind == "words" and len(counts) < 2:
            raise InputError(
                _("All training words have the same tag '{tag}'; there is nothing to tell apart.").format(
                    tag=next(iter(counts), "")
                )
            )
        items = sum(len(row["words"]) for row in splits.train)
        if len(counts) > 50 and len(counts) > items / 10:
            raise InputError(
                _(
                    "Column '{column}' has {labels} different tags in {words} words: it holds no tags. Name another "
                    "with --label."
                ).format(column=self.label, labels=len(counts), words=items)
            )

    def warn(self, splits: Splits) -> list[str]:
        known = {label for row in splits.train for label in self.counted(row)}
        notes = []
        if self.kind == "words" and all(label.isdecimal() for label in known):
            notes.append(
                _(
                    "The tags are numbers, so they are scored word by word. For entities give their names: B-PER, I-PER, O."
                )
            )
        for name, part in ((_("validation"), splits.validation), (_("test"), splits.test)):
            unseen = Counter(label for row in part for label in self.counted(row) if label not in known)
            if unseen:
                notes.append(
                    _(
                        "The {part} part has labels that no training row has; each counts as an error: {labels}."
                    ).format(
                        part=name, labels=", ".join(f"{label} ({n})" for label, n in unseen.most_common(10))
                    )
                )
        return notes

    def config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    def prior(self, rows: Sequence[Row]) -> list[float]:
        from afina.tasks._prior import log_shares

        place = {label: i for i, label in enumerate(self.labels)}
        found = [place[tag] for row in rows for tag in self._gold(row) if tag in place]
        return log_shares(found, len(self.labels), self.weights)

    def group(self, row: Row) -> str | None:
        return " ".join(self._gold(row))
