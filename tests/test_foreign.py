"""`afina models save` of an adapter that plain `peft` wrote: merged with its base model, and the same answers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import afina
import toy
import toys
from afina.errors import InputError
from afina.methods._foreign import HEADS
from afina.models.find import find
from afina.models.load import load, load_tokenizer
from afina.verbs.models import save

Command = Callable[..., toy.Said]
IDS = torch.tensor([[7, 8, 9, 10, 11, 12], [9, 7, 12, 8, 15, 14]])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A BERT, a Llama and a BART, and a RoBERTa, whose head has two layers."""
    folder = toys.build(tmp_path_factory.mktemp("bases"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    roberta = tmp_path_factory.mktemp("roberta")
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **small
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(roberta)
    tokenizer.save_pretrained(roberta)
    return {
        "bert": folder,
        "llama": folder / "decoder",
        "bart": folder / "encoder_decoder",
        "roberta": roberta,
    }


def made(base: Path, folder: Path, task: str | None, *, head: str = "", labels: int = 0, **knobs: Any) -> Any:
    """Return a model with an adapter of plain peft that does something, in eval mode, saved in `folder`."""
    kind = getattr(transformers, head or HEADS[str(task)])
    plain = kind.from_pretrained(base, dtype=torch.float32, **({"num_labels": labels} if labels else {}))
    if task == "SEQ_CLS" and plain.config.model_type == "llama":
        plain.config.pad_token_id = load_tokenizer(base).pad_token_id
    make = knobs.pop("make", peft.LoraConfig)
    theirs: Any = peft.get_peft_model(plain, make(task_type=task, **knobs))
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    theirs.save_pretrained(str(folder))
    return theirs.eval()


def answers(model: Any) -> list[torch.Tensor]:
    end = model.config.eos_token_id  # by which BART finds a row's end
    ids = IDS if end is None else torch.cat([IDS, torch.full((2, 1), end)], 1)
    with torch.no_grad():
        told = model(input_ids=ids)
    return [
        told[name] for name in ("logits", "start_logits", "end_logits", "last_hidden_state") if name in told
    ]


def same(one: Any, other: Any) -> bool:
    ours, theirs = answers(one.eval()), answers(other)
    return bool(theirs) and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "task", "knobs"),
    [
        ("bert", "SEQ_CLS", {"labels": 3, "target_modules": "all-linear"}),
        ("bert", "SEQ_CLS", {"labels": 3, "make": peft.IA3Config}),
        ("roberta", "SEQ_CLS", {"labels": 3, "target_modules": "all-linear"}),
        ("llama", "SEQ_CLS", {"labels": 3, "use_dora": True}),
        ("bart", "SEQ_CLS", {"labels": 4, "modules_to_save": ["classification_head"]}),
        ("bert", "TOKEN_CLS", {"labels": 5, "use_rslora": True}),
        ("bert", "QUESTION_ANS", {}),
        ("llama", "CAUSAL_LM", {"target_modules": "all-linear"}),
        ("bart", "SEQ_2_SEQ_LM", {}),
        ("bert", "FEATURE_EXTRACTION", {}),
        (
            "bert",
            None,
            {"head": "AutoModelForTokenClassification", "labels": 3, "modules_to_save": ["classifier"]},
        ),
    ],
)
def test_it_is_written_out_with_its_base(
    name: str, task: str | None, knobs: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    theirs = made(bases[name], tmp_path / "theirs", task, **knobs)
    save(str(tmp_path / "theirs"), tmp_path / "whole", offline=True)
    head = knobs.get("head") or HEADS[str(task)]
    assert not (tmp_path / "whole" / "README.md").exists(), "peft's card is of an adapter"
    plain, info = getattr(transformers, head).from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert same(plain, theirs)
    assert same(load(find(str(tmp_path / "whole"), offline=True), head), theirs)
    assert load_tokenizer(tmp_path / "whole")("muy bueno") == load_tokenizer(bases[name])("muy bueno")


def test_its_labels_are_those_of_its_own_config(bases: dict[str, Path], tmp_path: Path) -> None:
    theirs = made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    names = {0: "mal", 1: "regular", 2: "bien"}
    theirs.config.update({"id2label": names, "label2id": {name: number for number, name in names.items()}})
    theirs.config.save_pretrained(tmp_path / "theirs")
    save(str(tmp_path / "theirs"), tmp_path / "whole")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "whole").id2label == names
    theirs.config.update({"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}})
    theirs.config.save_pretrained(tmp_path / "theirs")  # of another model
    save(str(tmp_path / "theirs"), tmp_path / "whole", overwrite=True)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "whole").num_labels == 3


def test_its_tokenizer_is_its_own_where_it_brings_one(bases: dict[str, Path], tmp_path: Path) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bases["bert"])
    tokenizer.model_max_length = 17
    tokenizer.save_pretrained(tmp_path / "theirs")
    save(str(tmp_path / "theirs"), tmp_path / "whole")
    assert load_tokenizer(tmp_path / "whole").model_max_length == 17


@pytest.mark.filterwarnings("ignore::UserWarning")  # of peft, about the base model's configuration
def test_what_is_written_out_is_a_model_for_every_verb(
    bases: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = toy.command(capfd)
    made(bases["llama"], Path("theirs"), "CAUSAL_LM")
    for asked in (
        ("predict", "theirs", "muy"),
        ("finetune", toy.table(Path("toy.csv")), "--model", "theirs"),
    ):
        assert "afina models save theirs FOLDER" in command(*asked).err
    assert command("models", "save", "theirs", "whole", "--offline").code == 0
    assert command("predict", "whole", "muy", "--max-new-tokens", "2").code == 0
    words = ("finetune", "toy.csv", "--model", "whole", "--max-steps", "1", "--quiet")
    assert command(*words).code == 0
    assert afina.Run("runs/toy").settings["model"] == "whole"


def changed(folder: Path, **knobs: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | knobs), "utf-8")


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"task_type": "IMAGES"}, r'adapter_config\.json does not say which head.*"IMAGES".*SEQ_CLS'),
        ({"task_type": None}, r"does not say which head.*null"),
        ({"peft_type": "LOHA"}, r"of the kind 'LOHA'.*LORA, IA3"),
        ({"base_model_name_or_path": None}, r"does not say which base model"),
        ({"base_model_name_or_path": "nosuch/model"}, r"needs its base model nosuch/model: .*--offline"),
        ({"base_model_name_or_path": "./gone"}, r"needs its base model \./gone: .*base_model_name_or_path"),
        ({"target_modules": ["q_proj"]}, "do not belong"),
    ],
)
def test_one_sentence_says_why_it_cannot_be_done(
    knobs: dict[str, Any], said: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    changed(tmp_path / "theirs", **knobs)
    with pytest.raises(InputError, match=said):
        save(str(tmp_path / "theirs"), tmp_path / "whole", offline=True)
    assert not (tmp_path / "whole").exists()


def test_learnt_prompts_are_not_merged(bases: dict[str, Path], tmp_path: Path) -> None:
    make: Any = peft.PromptTuningConfig
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3, make=make, num_virtual_tokens=4)
    with pytest.raises(InputError, match=r"of the kind 'PROMPT_TUNING'.*prompts and prefixes"):
        save(str(tmp_path / "theirs"), tmp_path / "whole")


def test_an_adapter_of_another_vocabulary_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3, modules_to_save=["word_embeddings"])
    file = tmp_path / "theirs" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "word_embeddings" in name)
    weights[name] = weights[name][:-1].clone()
    save_file(weights, file)
    rows = len(weights[name])
    with pytest.raises(InputError, match=rf"word_embeddings\.weight has {rows} × 32 .* {rows + 1} × 32"):
        save(str(tmp_path / "theirs"), tmp_path / "whole")


def test_pickled_weights_are_not_opened(bases: dict[str, Path], tmp_path: Path) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    file = tmp_path / "theirs" / "adapter_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError, match="holds an adapter"):
        find(str(tmp_path / "theirs"))
    with pytest.raises(InputError, match=r"no weights in safetensors.*any code"):
        save(str(tmp_path / "theirs"), tmp_path / "whole")


def test_a_file_that_was_cut_is_named(bases: dict[str, Path], tmp_path: Path) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    file = tmp_path / "theirs" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors cannot be read"):
        save(str(tmp_path / "theirs"), tmp_path / "whole")


def test_a_folder_without_what_afina_writes_is_named(bases: dict[str, Path], tmp_path: Path) -> None:
    made(bases["bert"], tmp_path / "theirs", "SEQ_CLS", labels=3)
    shutil.copytree(bases["bert"], tmp_path / "other", ignore=shutil.ignore_patterns("d*", "e*", "corpus"))
    shutil.copy(tmp_path / "theirs" / "adapter_model.safetensors", tmp_path / "other")
    with pytest.raises(InputError, match=r"no model that afina trained: afina\.json is missing\.$"):
        save(str(tmp_path / "other"), tmp_path / "whole")
