"""What the figures mean, in sentences that a student understands."""

import json
from typing import Any, NamedTuple

from afina.core import About
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.report.numbers import interval, p_value
from afina.report.record import Record

SYSTEMS = {
    "model": N_("the fine-tuned model"),
    "random_weights": N_("the same model with random weights"),
    "few_shot": N_("the untrained model with examples in its prompt"),
}
SHORT = {
    "model": N_("Model"),
    "random_weights": N_("Random weights"),
    "few_shot": N_("Few-shot"),
}
METRICS = {
    "entity_f1": N_("entity F1"),
    "entity_precision": N_("entity precision"),
    "entity_recall": N_("entity recall"),
    "macro_f1": N_("macro-F1"),
    "accuracy": N_("accuracy"),
    "weighted_f1": N_("weighted F1"),
    "macro_precision": N_("macro precision"),
    "macro_recall": N_("macro recall"),
    "weighted_precision": N_("weighted precision"),
    "weighted_recall": N_("weighted recall"),
    "mcc": N_("Matthews correlation (MCC)"),
    "positive_precision": N_("precision of the positive label"),
    "positive_recall": N_("recall of the positive label"),
    "positive_f1": N_("F1 of the positive label"),
    "f1": N_("F1 of the words"),
    "exact_match": N_("exact match"),
    "has_answer_f1": N_("F1 where there is an answer"),
    "has_answer_exact_match": N_("exact match where there is an answer"),
    "no_answer_accuracy": N_("no answer, rightly"),
    "micro_f1": N_("micro-F1"),
    "micro_precision": N_("micro precision"),
    "micro_recall": N_("micro recall"),
    "samples_f1": N_("F1 by row (samples)"),
    "subset_accuracy": N_("rows with exactly the right labels"),
    "spearman": N_("Spearman correlation"),
    "pearson": N_("Pearson correlation"),
    "rmse": N_("root mean squared error (RMSE)"),
    "mae": N_("mean absolute error (MAE)"),
    "loss": N_("loss a token"),
    "perplexity": N_("perplexity"),
    "chrf": N_("chrF"),
    "rouge_l": N_("ROUGE-L"),
}
MEANINGS = {
    "entity_f1": N_(
        "Precision and recall of whole entities in one figure (harmonic mean). An entity counts as found only where "
        "its first word, its last word and its label are all right."
    ),
    "entity_precision": N_("Of the entities that were told, the share that is right as a whole."),
    "entity_recall": N_("Of the entities in the text, the share that was found as a whole."),
    "macro_f1": N_(
        "F1 joins precision and recall in one figure for each label; macro-F1 is their plain mean, so that a "
        "rare label counts as much as a frequent one."
    ),
    "accuracy": N_("The share of rows with the right label."),
    "weighted_f1": N_("The mean F1 of the labels, each weighted by its number of rows."),
    "macro_precision": N_("Of the rows given a label, the share that has it; plain mean over the labels."),
    "macro_recall": N_("Of the rows that have a label, the share found; plain mean over the labels."),
    "weighted_precision": N_("Precision, each label weighted by its number of rows."),
    "weighted_recall": N_("Recall, each label weighted by its number of rows; the same as accuracy."),
    "mcc": N_(
        "Correlation between answers and truth: 1 is perfect, 0 is no better than guessing, also where one "
        "label is far more frequent."
    ),
    "positive_precision": N_("Of the rows called positive, the share that is."),
    "positive_recall": N_("Of the rows that are positive, the share found."),
    "positive_f1": N_("Precision and recall of the positive label in one figure (harmonic mean)."),
    "f1": N_(
        "How many words the answer shares with the true one, between 0 and 1 for each question, by the rules of "
        "SQuAD's official script; the mean over the questions."
    ),
    "exact_match": N_("The share of answers that are the true one word for word, articles and marks aside."),
    "has_answer_f1": N_("F1 over the questions that the text answers."),
    "has_answer_exact_match": N_("Exact match over the questions that the text answers."),
    "no_answer_accuracy": N_("Of the questions that the text does not answer, the share left unanswered."),
    "micro_f1": N_(
        "F1 over all answers of all labels together, so that a frequent label counts more than a rare one."
    ),
    "micro_precision": N_("Of all labels given, the share that is right."),
    "micro_recall": N_("Of all labels that the rows have, the share found."),
    "samples_f1": N_(
        "F1 of each row's labels, plain mean over the rows; a row that has no label and gets none counts 1."
    ),
    "subset_accuracy": N_("The share of rows that got all their labels and no other."),
    "spearman": N_(
        "How far the answers put the rows into the right order: 1 is the same order, 0 none, -1 the reverse."
    ),
    "pearson": N_("How close answers and truth come to one straight line: 1 is perfect, 0 is no relation."),
    "rmse": N_(
        "The size of the errors, in the unit of the numbers, large errors counting more. Lower is better."
    ),
    "mae": N_(
        "The mean distance of the answers from the truth, in the unit of the numbers. Lower is better."
    ),
    "loss": N_(
        "How surprised the model is by each token of the true text, in nats, given those before it. Lower is better."
    ),
    "perplexity": N_(
        "e to the loss: among how many equally likely tokens the model seems to choose. Lower is better."
    ),
    "chrf": N_(
        "How many short stretches of letters the written text shares with the true one, from 0 to 100, over all rows "
        "together (as sacrebleu computes it). What is missing counts more than what is too much."
    ),
    "rouge_l": N_(
        "The longest sequence of words that both texts hold in the same order, as an F between 0 and 1; the mean over "
        "the rows (as rouge-score computes it, on words with all their letters)."
    ),
}
FEW = 30  # rows; fewer are not spoken of by the hundred
LOWER = ("loss",)  # is better
OF_TEXTS = MEANINGS | {
    "exact_match": N_("The share of written texts that are the true one letter for letter, blanks aside.")
}
OUTCOMES = {
    "exact": N_("word for word"),
    "partly": N_("some of the words"),
    "wrong": N_("another place of the text"),
    "missed": N_("no answer, though there is one"),
    "invented": N_("an answer, though there is none"),
}
# What is counted where it is not the row: `unit` among the details of a part says so.
UNITS = {"rows": N_("Rows"), "entities": N_("Entities"), "words": N_("Words")}
OF_WORDS = MEANINGS | {"accuracy": N_("The share of words with the right label.")}
BY_LABEL = {
    "rows": N_(
        "Precision: of the rows given this label, the share that has it. Recall: of the rows that have it, the share "
        "found. F1 joins the two and is low where either is low."
    ),
    "entities": N_(
        "Precision: of the entities told with this label, the share that is right as a whole. Recall: of the entities "
        "that have it, the share found. F1 joins the two and is low where either is low."
    ),
    "words": N_(
        "Precision: of the words given this label, the share that has it. Recall: of the words that have it, the share "
        "found. F1 joins the two and is low where either is low."
    ),
}
CONFUSION = {
    "rows": N_(
        "Confusion matrix: how many rows of each true label (row) the model gave each label (column). Right answers "
        "are blue, mistakes orange; the stronger the colour, the larger the share of the row."
    ),
    "words": N_(
        "Confusion matrix: how many words of each true label (row) the model gave each label (column). Right answers "
        "are blue, mistakes orange; the stronger the colour, the larger the share of the row."
    ),
}
FAULTS = {
    "label": N_("the right words, another label"),
    "limits": N_("the right label, too many or too few words"),
    "both": N_("other limits and another label"),
    "missed": N_("not found at all"),
    "invented": N_("told where none is"),
}
PARTS = {
    "train": N_("Training"),
    "validation": N_("Validation"),
    "test": N_("Test"),
    "folds": N_("All folds"),
}
SCORED = {
    "folds": N_("Scores of all rows, each by a model that has not seen it"),
    "test": N_("Scores on the test rows"),
    "validation": N_("Scores on the validation rows"),
}
FITTING = {
    "underfit": N_("It has not learnt enough yet (underfitting)."),
    "fits": N_("No sign of overfitting."),
    "overfit": N_("It learns the training rows by heart (overfitting)."),
}


class Verdict(NamedTuple):
    """The report's first words: `tone` is good, even, bad or none."""

    tone: str
    title: str
    text: str


def name(names: dict[str, str], key: str) -> str:
    """Return the translated name of `key`; a key without a name is shown as it is."""
    return _(names[key]) if key in names else key.replace("_", " ")


def system(about: About, key: str) -> str:
    """Return what the model or a baseline is called in a sentence."""
    return _(about.rivals[key].name) if key in about.rivals else name(SYSTEMS, key)


def short(about: About, key: str) -> str:
    """Return what the model or a baseline is called in a table."""
    return _(about.rivals[key].short) if key in about.rivals else name(SHORT, key)


def only_measured(about: About, key: str | None) -> bool:
    """Whether a line is a baseline that cannot do the model's work."""
    return key is not None and key in about.rivals and about.rivals[key].only_measured


def forgetting(loss: dict[str, float | None]) -> str:
    """Return the loss on neutral text before and after training."""
    return f"{number(loss['before'], 3)} → {number(loss['after'], 3)}"


def no_forgetting(line: dict[str, Any]) -> str:
    """Return why a line of a comparison tells no forgetting: there is nothing to forget, or no head to ask."""
    from_the_checkpoint = line["change"] != "none" and line["method"] != "random_weights"
    return _("not measurable") if from_the_checkpoint else "–"


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def verdict(record: Record) -> Verdict:
    """Return whether the model is worth it: a baseline that wins or ties is said first."""
    if not record.scores:
        return Verdict("none", _("This run has no scores yet."), _("It was stopped, or is still under way."))
    order = list(record.systems)
    tests = sorted(
        (test for test in record.differences if test["b"] in order),
        key=lambda test: order.index(test["b"]),
    )
    for decision, tone in (("worse", "bad"), ("no difference shown", "even")):
        for test in tests:
            if test["decision"] == decision:
                rival = system(record.about, test["b"])
                title = (
                    _("A baseline wins: {baseline} is better than the model.")
                    if tone == "bad"
                    else _("No difference shown between the model and {baseline}.")
                )
                if tone == "bad" and only_measured(record.about, test["b"]):
                    advice = _(
                        "It only measures how much was learnt and cannot do the model's work: give the model more rows, "
                        "more epochs or another start."
                    )
                    return Verdict(tone, title.format(baseline=rival), f"{_measured(test)} {advice}")
                advice = (
                    _("Use the baseline, or give the model more rows, more epochs or another start.")
                    if tone == "bad"
                    else undecided(test)
                    or _("As far as these rows can tell, the cheaper one of the two is as good.")
                )
                return Verdict(tone, title.format(baseline=rival), f"{_measured(test)} {advice}")
    rivals = order[1:]
    if tests and tests[0]["b"] == rivals[0]:
        return Verdict(
            "good",
            _("The model is better than every baseline that was run."),
            f"{_nearest(record, tests[0])} {_measured(tests[0])}",
        )
    if not rivals:
        return Verdict(
            "none",
            _("No baseline was run."),
            _("So nothing says whether a simpler way would have been as good."),
        )
    best = system(record.about, rivals[0])
    if record.value(record.systems[rivals[0]]) >= record.value(record.scores):
        title = _("{baseline} scores as high as the model, or higher.").format(baseline=capital(best))
        return Verdict("bad", title, _("No paired test of the difference was recorded."))
    return Verdict(
        "none",
        _("The model scores higher than the baselines."),
        _("But no paired test was recorded that says whether by more than chance."),
    )


def difference(record: Record, test: dict[str, Any]) -> str:
    """Return one paired difference in words."""
    sentence = {
        "better": _("{model} is better than {baseline}."),
        "worse": _("{model} is worse than {baseline}."),
    }.get(test["decision"], _("Between {model} and {baseline} no difference is shown."))
    said = sentence.format(model=system(record.about, test["a"]), baseline=system(record.about, test["b"]))
    return " ".join(part for part in (capital(said), _measured(test), undecided(test)) if part)


def undecided(test: dict[str, Any]) -> str:
    """Say so where the interval leaves zero out but the test does not, which happens on few rows; empty elsewhere."""
    low, high = test.get("low"), test.get("high")
    if test["decision"] != "no difference shown" or low is None or high is None or low <= 0 <= high:
        return ""
    return _(
        "The interval leaves zero out but the test, {p}, does not agree: these rows are too few to say."
    ).format(p=p_value(test["p"]))


def _nearest(record: Record, test: dict[str, Any]) -> str:
    return _("The nearest is {baseline}.").format(baseline=system(record.about, test["b"]))


def _measured(test: dict[str, Any]) -> str:
    sentence = _("Model minus baseline: {difference} in {metric} (95 %\u00a0interval {interval}, {p}).")
    if test["metric"] in LOWER:
        sentence = _("Baseline minus model: {difference} in {metric} (95 %\u00a0interval {interval}, {p}).")
    return sentence.format(
        difference=number(test.get("difference"), 3, sign=True),
        metric=name(METRICS, test["metric"]),
        interval=interval(test.get("low"), test.get("high"), sign=True),
        p=p_value(test.get("p")),
    )


def summary(record: Record) -> list[str]:
    """Return what the model reaches, on which rows, and what to keep in mind about them."""
    if not record.scores or record.main is None:
        return []
    figure = record.scores[record.main]
    metric = capital(name(METRICS, record.main))
    if figure.get("low") is None:
        sentences = [
            _("{metric} {value} on {n} rows; too few for an interval.").format(
                metric=metric, value=number(figure["value"], 3), n=number(figure.get("n"))
            )
        ]
    else:
        sentences = [
            _("{metric} {value} on {n} rows (95 %\u00a0interval {interval}).").format(
                metric=metric,
                value=number(figure["value"], 3),
                n=number(figure.get("n")),
                interval=interval(figure["low"], figure["high"]),
            )
        ]
    accuracy = (record.scores.get("accuracy") or {}).get("value")
    if accuracy is not None:
        right = {
            "rows": _("Of 100 such rows it labels about {n} right."),
            "words": _("Of 100 words of such rows it labels about {n} right."),
        }[record.unit]
        sentences.append(right.format(n=number(100 * accuracy)))
    exact = (record.scores.get("exact_match") or {}).get("value")
    if exact is not None and record.scores["exact_match"]["n"] >= FEW:
        of_100 = _("Of 100 such questions it answers about {n} word for word.")
        if record.main in LOWER:
            of_100 = _("Of 100 such texts it writes about {n} letter for letter.")
        sentences.append(of_100.format(n=number(100 * exact)))
    if record.folds:
        sentences.append(
            _(
                "Each row was scored by the one of {k} models that had learnt from no row of its fold. The interval tells "
                "of other rows, not of other models: the {k} share most of their training rows."
            ).format(k=number(len(record.folds)))
        )
    if record.part == "validation":
        sentences.append(
            _(
                "There is no test part: these are the validation rows on which the best weights were chosen, "
                "so the figures are a little too good. Give --test for an honest score."
            )
        )
    return sentences


def stages(record: Record) -> list[str]:
    """Say what the model learnt in the stages before the run, and whether rows it is scored on were among that."""
    found = record.get("stages") or []
    if not found:
        return []
    each = [
        f"{place}. {stage['verb']}"
        + (f" {stage['task']}" if stage.get("task") else "")
        + f" ({', '.join(stage['texts']) if 'texts' in stage else stage['data']})"
        for place, stage in enumerate(found, 1)
    ]
    counts = [stage["left_out"] for stage in found]
    left_out = sum(count or 0 for count in counts)
    sentence = _("No text that it was chosen by or is scored on was among that.")
    if left_out:
        sentence = _("Texts that it was chosen by or is scored on were left out of that: {count}.")
    known = [sentence.format(count=number(left_out))] if None not in counts else []
    return [
        _("Before, it learnt in stages, each from the model that the one before had left: {stages}.").format(
            stages="; ".join(each)
        ),
        *known,
    ]


def ranked(record: Record) -> list[tuple[str, dict[str, Any]]]:
    """Return the labels with their figures, the lowest F1 first."""
    classes = record.details.get("per_class") or {}
    return sorted(classes.items(), key=lambda item: (item[1].get("f1") or 0.0, item[0]))


def meanings(record: Record) -> dict[str, str]:
    """Return what the metrics mean for what is counted in this run."""
    if record.task.direction < 0:
        return OF_TEXTS
    return OF_WORDS if record.unit == "words" else MEANINGS


def weakest(record: Record, count: int = 3) -> list[str]:
    """Return the labels with the lowest F1 in words, at most `count` and never more than half of them."""
    classes = ranked(record)
    few = classes[: min(count, len(classes) // 2)]
    return [f"{label} ({number(figures.get('f1'), 2)})" for label, figures in few]


def example(record: Record) -> str | dict[str, str]:
    """Return what the model may be asked, a text or a row of texts."""
    inputs = record.task.inputs
    alone = len(inputs) == 1 or "messages" in inputs  # what a person says stands for a conversation
    return _("your text") if alone else dict.fromkeys(inputs, "…")


def call(record: Record) -> str:
    """Return the line of Python that asks transformers' pipeline, `classify`."""
    about, length = record.about, record.get("details", "data", "length", "max_length")
    given = [json.dumps(example(record), ensure_ascii=False), "truncation=True"]
    given += ([f"max_length={length}"] if length else []) + ([about.options] if about.options else [])
    return f"classify({', '.join(given)})" + (f"  # {about.reading}" if about.reading else "")


def lengths(record: Record) -> list[str]:
    """Return how long the texts are and what the model does not see of them."""
    length = record.get("details", "data", "length") or {}
    sentences = []
    if length.get("median") is not None:
        sentences.append(
            _(
                "Half of the texts have at most {median} tokens, 95 % at most {p95}; the longest has {max}."
            ).format(**{key: number(length.get(key)) for key in ("median", "p95", "max")})
        )
    if length.get("rows_in_windows"):
        sentences.append(
            _(
                "The model reads {max_length} tokens at once. Rows that were read to their end in overlapping windows: {rows}."
            ).format(max_length=number(length["max_length"]), rows=number(length["rows_in_windows"]))
        )
    elif length.get("max_length") is not None and not length.get("rows_cut"):
        sentences.append(
            _("The model reads up to {max_length} tokens, so no text was cut.").format(
                max_length=number(length["max_length"])
            )
        )
    if length.get("max_length") is not None and length.get("rows_cut"):
        sentences.append(
            _("The model reads the first {max_length} tokens. Texts that were cut: {rows}.").format(
                max_length=number(length["max_length"]), rows=number(length["rows_cut"])
            )
        )
        if length.get("tokens_cut"):
            sentences.append(
                _("Tokens that are not seen, in all: {tokens}. A larger --max-length keeps more.").format(
                    tokens=number(length["tokens_cut"])
                )
            )
    return sentences
