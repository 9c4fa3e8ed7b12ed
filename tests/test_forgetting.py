"""Forgetting: the checkpoint's own head on the body that training has changed."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

import toys
from afina.batching.plan import generator
from afina.errors import InputError
from afina.models.heads import hidden_states, vocabulary
from afina.models.load import load
from afina.names import find, known
from afina.verbs._forgetting import LANGUAGES, before, forgetting, language_model, losses, neutral, typical

SMALL = {"vocab_size": 60, "num_hidden_layers": 1, "num_attention_heads": 2}
WIDE = {"hidden_size": 16, "intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXTS = {name: rows[:12] for name, rows in neutral(None).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("model"), initializer_range=0.2)


def disturbed(case: toys.Case) -> Any:
    """Return the model as a training would leave it: what the method trains has other values."""
    model = case.model().eval()
    names = None if case.method.whole else case.method.trained(model)  # type: ignore[attr-defined]
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if names is None or name in names:
                weight.add_(0.3 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("name", known("methods"))
def test_a_method_that_is_switched_off_has_forgotten_nothing(name: str, folder: Path) -> None:
    case = toys.case(f"classification-{name}", folder)
    model = disturbed(case)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    known_losses = before(folder, TEXTS)
    found = forgetting(model, case.method, folder, TEXTS, known_losses)
    assert found is not None and known_losses is not None and list(found) == [*LANGUAGES]
    for language, loss in found.items():
        assert loss["before"] == known_losses[language]
        if case.method.whole:
            assert loss["off"] is None
        else:
            assert loss["off"] == pytest.approx(loss["before"], abs=1e-6)
        body_changed = abs(loss["after"] - loss["before"]) > 1e-3  # type: ignore[operator]
        assert body_changed == (name != "head")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_the_figures_are_those_of_plain_transformers(folder: Path) -> None:
    """Before: the loss that the model itself tells. After: the old head, embeddings and all, on the new body."""
    case = toys.case("classification-full", folder)
    trained, texts = disturbed(case), {"es": TEXTS["es"][:5]}
    own = language_model(folder)
    assert own is not None
    task = own.task.replace(nsp=False)  # type: ignore[call-arg]
    encoded = task.encode(texts["es"], own.tokenizer, own.max_length)
    batch = task.collate([(row, generator(0, 0, i)) for i, row in enumerate(encoded)], own.tokenizer)
    given = {name: batch.tensors[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    labels = batch.tensors["labels"]
    share = (labels != -100).sum() / (batch.tokens - 2 * len(encoded))
    assert 0.1 < share < 0.2 and batch.counts.keys() == {"mlm"}
    base = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        told = base(**given, labels=labels).loss
        words = base.cls(trained.bert(**given).last_hidden_state)
        after = cross_entropy(words.flatten(0, 1), labels.flatten())
    found = forgetting(trained, case.method, folder, texts, before(folder, texts))
    assert found is not None
    assert found["es"]["before"] == pytest.approx(float(told), rel=1e-5)
    assert found["es"]["after"] == pytest.approx(float(after), rel=1e-5)


def test_a_decoder_is_asked_for_the_next_token_with_its_own_trained_head(folder: Path) -> None:
    case = toys.case("causal_lm-full", folder)
    base = folder / "decoder"
    model = case.model().eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)  # type: ignore[operator]
    found = forgetting(model, case.method, base, TEXTS, before(base, TEXTS))
    assert found is not None
    assert all(abs(loss["after"] - loss["before"]) > 1e-3 for loss in found.values())  # type: ignore[operator]


def test_a_decoder_is_measured_on_the_next_token(folder: Path) -> None:
    own = language_model(folder / "decoder")
    assert own is not None
    text = "Hoy llueve."
    ids = torch.tensor([[*own.tokenizer(text)["input_ids"], own.tokenizer.eos_token_id]])
    with torch.no_grad():
        told = own.model(input_ids=ids, labels=ids).loss
    assert losses(own, own.model, {"es": [{"text": text}]})["es"] == pytest.approx(float(told), rel=1e-5)


def test_a_checkpoint_without_a_head_cannot_be_measured(folder: Path, tmp_path: Path) -> None:
    load(folder, "AutoModel").save_pretrained(tmp_path)  # type: ignore[operator]
    toys.load_tokenizer(folder).save_pretrained(tmp_path)
    assert before(tmp_path, TEXTS) is None
    case = toys.case("classification-full", folder)
    assert forgetting(case.model(), case.method, tmp_path, TEXTS, None) is None
    assert before(folder / "encoder_decoder", TEXTS) is None


@pytest.mark.parametrize(
    "made",
    [
        ("DistilBert", {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 60}),
        ("ModernBert", SMALL | WIDE | {"cls_token_id": 1, "sep_token_id": 2}),
        ("Electra", SMALL | WIDE | {"embedding_size": 8}),
        ("Albert", SMALL | WIDE | {"embedding_size": 8}),
        ("Roberta", SMALL | WIDE),
        ("Bert", SMALL | WIDE),
    ],
    ids=lambda made: made[0],
)
def test_every_kind_of_head_gives_what_its_model_gives(made: tuple[str, dict[str, Any]]) -> None:
    name, settings = made
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForMaskedLM")(getattr(transformers, f"{name}Config")(**settings))
    given = {"input_ids": torch.randint(5, 60, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    with torch.no_grad():
        wanted = model.eval()(**given).logits
        found = vocabulary(model, hidden_states(model, given).flatten(0, 1))
    assert torch.equal(found.view_as(wanted), wanted)


def test_the_text_that_ships_is_varied() -> None:
    found = neutral(None)
    assert list(found) == ["es", "en"]
    for rows in found.values():
        assert len({row["text"] for row in rows}) == len(rows) >= 400


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Una frase.\n\nOtra frase, algo más larga.\n", encoding="utf-8")
    assert neutral(str(file)) == {
        "neutral": [{"text": "Una frase."}, {"text": "Otra frase, algo más larga."}]
    }
    file.write_text("\n".join(f"Frase {i}." for i in range(2000)), encoding="utf-8")
    chosen = [row["text"] for row in neutral(str(file))["neutral"]]
    assert len(chosen) == 500 and chosen[0] in {f"Frase {i}." for i in range(4)}
    file.write_text(" \n", encoding="utf-8")
    with pytest.raises(InputError, match="empty"):
        neutral(str(file))
    with pytest.raises(InputError, match="no file"):
        neutral(str(tmp_path / "none.txt"))


def test_what_is_typical_of_several_runs() -> None:
    runs = [{"es": {"before": 3.0, "after": after, "off": None}} for after in (3.5, 4.0, 9.0)]
    assert typical([*runs, None]) == {"es": {"before": 3.0, "after": 4.0, "off": None}}
    assert typical([None]) is None and typical([]) is None


def test_every_method_says_what_it_changes() -> None:
    said = {name: find("methods", name).change for name in known("methods")}
    assert said["full"] == said["gradual"] == "all weights" and said["head"] == "head only"
    assert all(0 < len(words) <= 20 for words in said.values())
