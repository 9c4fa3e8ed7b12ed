"""Is it overfitting? What the curves of a run say, in words."""

from typing import Any

from afina.messages import _
from afina.messages.numbers import number

GAP = 0.10  # a training score this much above the validation score is called a gap
FALL = 0.02  # a validation score this much below its best is called a fall
WEAK = 0.75  # a training score below this, with little gap, means that not enough was learnt


def judge(evaluations: list[dict[str, Any]], metric: str, steps: int, direction: int = 1) -> dict[str, Any]:
    """Return the verdict (`underfit`, `fits`, `overfit`), the best step, its scores, and sentences with what to try.

    `evaluations` are the evaluation lines of `steps.jsonl`, in order; a training whose last one lies before the last of
    its `steps` was stopped early. `direction` is -1 where less of the metric is better, as of a loss.
    """
    if not evaluations:
        return {
            "steps": 0,
            "best_step": None,
            "best_epoch": None,
            "train": None,
            "validation": None,
            "stopped": "end",
            "verdict": None,
            "words": [],
        }
    best = next(line for line in reversed(evaluations) if line["best"])
    last = evaluations[-1]
    stopped = last["step"] < steps
    train, seen, end = best["train"][metric], best["validation"][metric], last["validation"][metric]
    # A loss has no fixed scale, so its gap and its rise are shares of it, and no level of it is weak.
    gap, fall = (train - seen, seen - end) if direction > 0 else (1 - train / seen, end / seen - 1)
    weak = direction > 0 and train < WEAK
    words = [
        _("Best validation score in epoch {epoch} (step {step}): {score}, on training rows {train}.").format(
            epoch=number(best["epoch"], 1),
            step=number(best["step"]),
            score=number(best["validation"][metric], 3),
            train=number(best["train"][metric], 3),
        )
    ]
    if gap > GAP:
        words.append(
            _(
                "The model does {gap} better on rows it has seen than on new ones: it overfits. Try more data, "
                "a higher --dropout, a higher --weight-decay or fewer epochs."
            ).format(gap=number(gap, 2) if direction > 0 else f"{number(100 * gap)}\u00a0%")
        )
    elif weak:
        words.append(
            _(
                "Even on rows it has seen the score is low: the model underfits. Try more epochs, a higher "
                "--learning-rate, a larger model, or look for wrong labels."
            )
        )
    else:
        words.append(_("Seen and new rows score alike: no overfitting shown."))
    if fall > FALL:
        fell = _(
            "After epoch {epoch} the validation score fell, to {score} at the end. The weights kept are "
            "those of the best step; early stopping (--early-stopping-patience) saves the time."
        )
        rose = _(
            "After epoch {epoch} the validation loss rose, to {score} at the end. The weights kept are those of the "
            "best step; early stopping (--early-stopping-patience) saves the time."
        )
        words.append(
            (fell if direction > 0 else rose).format(epoch=number(best["epoch"], 1), score=number(end, 3))
        )
    if stopped:
        words.append(
            _("Training stopped early, in epoch {epoch}: no better score came.").format(
                epoch=number(last["epoch"], 1)
            )
        )
    verdict = "overfit" if gap > GAP else "underfit" if weak else "fits"
    return {
        "steps": last["step"],
        "best_step": best["step"],
        "best_epoch": best["epoch"],
        "train": train,
        "validation": seen,
        "stopped": "early" if stopped else "end",
        "gap": gap,
        "verdict": verdict,
        "words": words,
    }
