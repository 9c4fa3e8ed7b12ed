"""What figures, parts and systems are called in a report, and what each figure means."""

from afina.core import About
from afina.messages import N_, _
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


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def meanings(record: Record) -> dict[str, str]:
    """Return what the metrics mean for what is counted in this run."""
    if record.task.direction < 0:
        return OF_TEXTS
    return OF_WORDS if record.unit == "words" else MEANINGS
