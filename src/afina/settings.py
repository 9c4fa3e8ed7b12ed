"""One definition per setting: it feeds the flag, the file, the check, the help and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from afina.errors import InputError
from afina.messages import N_, _
from afina.names import unknown

# Settings that name a file or a folder, or several in a list: they are looked for, and compared, by where they lie.
FILES = ("data", "texts", "validation", "test", "model", "neutral", "replay_text", "task_data", "tokenizer")


class Settings(BaseModel):
    """A frozen set of named values; an unknown name or a wrong value is an InputError in the person's language."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, str_min_length=1
    )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Any:
        """Check `values` and return the settings; raises InputError with one sentence for each thing wrong."""
        try:
            return cls.model_validate(
                {name: str(value) if isinstance(value, PurePath) else value for name, value in values.items()}
            )
        except ValidationError as error:
            raise InputError(_explain(error, list(cls.model_fields))) from None

    def replace(self, **values: Any) -> Any:
        """Return a copy with other values."""
        return type(self).of(self.model_dump() | values)

    def asked(self) -> Any:
        """Return a copy that holds what a person may set and nothing that was learnt from the data."""
        return type(self).of({name: getattr(self, name) for name in knobs(type(self))})


def setting(default: Any, sentence: str, *, found: bool = False, in_file: bool = False, **limits: Any) -> Any:
    """Declare a setting: its default, the sentence that says what it does, its limits.

    `found` marks a value that is learnt from the data and saved with the model: it is no flag. `in_file` marks one
    that is more than a flag can say, and is written in a file or given from Python.
    """
    return Field(
        default, description=sentence, json_schema_extra={"found": found, "in_file": in_file}, **limits
    )


def is_found(field: FieldInfo) -> bool:
    """Whether the field is learnt from the data and so no flag."""
    return _marked(field, "found")


def is_flag(field: FieldInfo) -> bool:
    """Whether the field can be set on the command line."""
    return not (_marked(field, "found") or _marked(field, "in_file"))


def _marked(field: FieldInfo, mark: str) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(mark))


def knobs(cls: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of `cls` that a person may set."""
    return {name: field for name, field in cls.model_fields.items() if not is_found(field)}


def divide(values: Mapping[str, Any], *owners: type[Settings]) -> list[dict[str, Any]]:
    """Share flat `values` out among settings classes by field name; a name that none has is an InputError."""
    names = {name for owner in owners for name in knobs(owner)}
    for name in values:
        if name not in names:
            raise InputError(unknown(name, sorted(names), "settings"))
    return [{name: values[name] for name in knobs(owner) if name in values} for owner in owners]


def flag(name: str) -> str:
    """Return the command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def _explain(error: ValidationError, names: list[str]) -> str:
    """Say in the person's language what pydantic found, a sentence a finding."""
    sentences = []
    for found in error.errors():
        name = str(found["loc"][0]) if found["loc"] else ""
        value, limits = found["input"], found.get("ctx", {})
        kind = found["type"]
        if kind == "extra_forbidden":
            sentences.append(unknown(name, sorted(names), "settings"))
            continue
        if kind == "missing":
            sentences.append(_("Setting '{name}' is missing.").format(name=name))
            continue
        if "expected" in limits:  # pydantic's own list, in English: 'es' or 'en'
            or_ = " " + _("or") + " "
            limits = limits | {"expected": limits["expected"].replace(" or ", or_)}
        wanted = _(_WANTED.get(kind, _OTHER)).format(**limits)
        sentences.append(
            _("Setting '{name}' is {value!r}, but must be {wanted}.").format(
                name=name, value=value, wanted=wanted
            )
        )
    return " ".join(dict.fromkeys(sentences))


_OTHER = N_("another value")
_WANTED = {
    "int_parsing": N_("a whole number"),
    "int_parsing_size": N_("a shorter number"),
    "int_type": N_("a whole number"),
    "int_from_float": N_("a whole number"),
    "float_parsing": N_("a number"),
    "float_type": N_("a number"),
    "finite_number": N_("a finite number"),
    "bool_parsing": N_("true or false"),
    "bool_type": N_("true or false"),
    "string_type": N_("a text"),
    "string_too_short": N_("a text that is not empty"),
    "list_type": N_("a list"),
    "dict_type": N_("tables of settings"),
    "greater_than": N_("greater than {gt:.16g}"),
    "greater_than_equal": N_("at least {ge:.16g}"),
    "less_than": N_("less than {lt:.16g}"),
    "less_than_equal": N_("at most {le:.16g}"),
    "literal_error": N_("one of {expected}"),
}


class Common(Settings):
    """Settings of every command."""

    offline: bool = setting(False, N_("Open no network connection at all."))
    quiet: bool = setting(False, N_("Print nothing but the result and errors."))
    lang: Literal["en", "es"] | None = setting(
        None, N_("Language of messages and reports (default: the system's).")
    )


MICRO_BATCH_TOKENS = 4096  # that go through a model at once, where nothing says otherwise


class Optimisation(Settings):
    """Settings of every verb that trains; None means that the verb, the method's preset or the data decides."""

    seed: int = setting(
        0, N_("Seed of every random choice: split, order, head, dropout, masks."), ge=0, le=2**32 - 1
    )
    learning_rate: float | None = setting(
        None, N_("Peak learning rate (default: the method's preset)."), gt=0
    )
    max_steps: int | None = setting(None, N_("Stop after so many optimizer steps."), ge=1)
    micro_batch_tokens: int | None = setting(
        None,
        N_(
            "Tokens that go through the model at once, padding counted; only memory and speed depend on it (default: "
            "4096, in fine-tuning fewer where the memory that is free would not do)."
        ),
        ge=8,
    )
    max_length: int | None = setting(
        None, N_("Longest row in tokens (default: what the model can take)."), ge=8
    )
    warmup_steps: float = setting(
        0.1, N_("Steps of rising learning rate; below 1, a share of all steps."), ge=0
    )
    weight_decay: float = setting(0.01, N_("Weight decay of AdamW, on matrices only."), ge=0)
    max_grad_norm: float = setting(1.0, N_("Longer gradients are shortened to this norm."), gt=0)
    dropout: float | None = setting(
        None,
        N_("Share of activations dropped in training, attention excepted (default: the model's own)."),
        ge=0,
        lt=1,
    )
    eval_steps: int | None = setting(
        None, N_("Steps between evaluations (default: one an epoch, four to ten in a short training)."), ge=1
    )
    save_steps: int | None = setting(
        None, N_("Steps between resumable checkpoints (default: at each evaluation)."), ge=1
    )
    precision: Literal["fp32", "bf16"] = setting(
        "fp32", N_("Number format of the matrix products; bf16 only pays where the processor has it.")
    )
    activation_checkpointing: bool = setting(
        False,
        N_(
            "Keep of each block only what enters it, and compute the rest once more on the way back: less memory, more "
            "time, the same result."
        ),
    )


class Training(Optimisation):
    """Settings of training on a person's rows, pass after pass."""

    num_train_epochs: float | None = setting(
        None, N_("Passes over the training rows (default: by their number)."), gt=0
    )
    train_batch_size: int | None = setting(None, N_("Rows of one optimizer step, over all processes."), ge=1)
    early_stopping_patience: int | None = setting(
        None,
        N_("Stop after so many evaluations without a better validation score (default: by the preset)."),
        ge=1,
    )
    slow: bool = setting(
        False,
        N_(
            "Take the plain way everywhere, to doubt the fast ones: what is frozen is computed in every epoch, and "
            "low-rank updates are layers of their own."
        ),
    )


class Reading(Optimisation):
    """Settings of training on plain text, which is counted in tokens; the verb says how many."""

    validation: str | None = setting(
        None,
        N_(
            "File of held-out text (default: 1 %\u00a0of the documents, ten where there are few, a tenth of the text at "
            "most)."
        ),
    )
    short_length: int = setting(128, N_("Row length of the first part of the training."), ge=16)
    short_share: float = setting(0.9, N_("Share of the tokens that are learnt in short rows."), ge=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "one_cycle", "warmup_stable_decay"] = setting(
        "linear",
        N_(
            "How the learning rate falls after its rise; one_cycle also rises in a curve, for which --warmup-steps 0.3 is "
            "usual."
        ),
    )
    optimizer: Literal["adamw", "sophia"] = setting(
        "adamw", N_("What moves the weights: adamw, or sophia, which measures the curvature every ten steps.")
    )
    curvature: Literal["gnb", "hutchinson"] = setting(
        "gnb",
        N_("How sophia measures it: gnb (Gauss-Newton-Bartlett) or hutchinson, which takes longer."),
    )
    spike_guard: bool = setting(
        True, N_("Skip a step whose loss or gradient lies far above those before it, as a bad batch's does.")
    )
    output_dir: str | None = setting(None, N_("Folder of the run (default: runs/<file name>)."))
    resume: bool = setting(False, N_("Go on with the run that the folder holds."))
    overwrite: bool = setting(False, N_("Replace the run that the folder holds."))
    dry_run: bool = setting(False, N_("Check data and settings, say what would be done, and stop."))
