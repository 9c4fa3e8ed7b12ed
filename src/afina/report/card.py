"""The model card: what somebody must know who is handed the weights and nothing else."""

import re
from pathlib import Path
from typing import Any

from afina.names import find
from afina.report import page, terms, words
from afina.report.record import Record

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
LANGUAGES = re.compile(r"afina/.*?((?:-[a-z]{2})+)")


def write(run: Path, folder: Path) -> None:
    """Write the card of `run` as `folder/README.md`, in the current language.

    Holds labels and figures but no text of the data. Raises InputError where `run` holds no run.
    """
    record = Record.of(run)
    body = (
        page.environment(html=False)
        .get_template("card.md.j2")
        .render(record=record, verdict=words.verdict(record), base=_base_model(record), whole=_whole(record))
    )
    library = "peft" if (folder / "adapter_config.json").is_file() else "transformers"
    page.save(folder / "README.md", f"---\n{_front_matter(record, library)}\n---\n\n{body}")


def _front_matter(record: Record, library: str) -> str:
    """Return the YAML that the Hub reads; what is not known is left out rather than guessed."""
    from huggingface_hub import EvalResult, ModelCardData

    data = Path(str(record.settings.get("data") or record.path.name)).name
    results = [
        EvalResult(
            task_type=record.about.pipeline,
            dataset_type=data,
            dataset_name=data,
            dataset_split=record.part,
            metric_type=metric,
            metric_name=terms.METRICS.get(metric, metric),
            metric_value=round(figure["value"], 4),
        )
        for metric, figure in record.scores.items()
        if figure.get("value") is not None
    ]
    card = ModelCardData(
        language=_languages(record),
        license="unknown",  # the Hub's own word where nobody has chosen one
        library_name=library,
        pipeline_tag=record.about.pipeline,
        base_model=_base_model(record),
        tags=["afina", *([record.results["method"]] if record.results.get("method") else [])],
        model_name=record.path.resolve().name if results else None,
        eval_results=results or None,
    )
    return card.to_yaml()


def _whole(record: Record) -> bool:
    """Whether the folder holds the whole model, or only what was trained beside its base."""
    return not record.results.get("method") or bool(find("methods", record.results["method"]).whole)


def _base_model(record: Record) -> str | None:
    """Return the model's name where it is one: a folder on this machine or fresh weights have none."""
    model = record.model
    fresh: Any = record.settings.get("random_weights")
    if record.get("stages") and not _whole(record):
        return None  # what lies below it is what the stages have left
    if fresh or not model or not HUB_NAME.fullmatch(model) or Path(model).exists():
        return None
    return model


def _languages(record: Record) -> list[str] | None:
    """Return the languages of an embedded model, which its name ends with; others are not known here."""
    found = LANGUAGES.fullmatch(record.model or "")
    return found.group(1).strip("-").split("-") if found else None
