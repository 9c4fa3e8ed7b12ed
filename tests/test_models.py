"""`models`: what is on this machine, and one of them as an ordinary Hugging Face folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import toy
from afina.models.find import EMBEDDED, embedded
from afina.names import DECODER, ENCODER

Command = Callable[..., toy.Said]
SOURCE = EMBEDDED / ENCODER.removeprefix("afina/")


@pytest.fixture
def models(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`afina models`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    command = toy.command(capfd)
    return lambda *words: command("models", *words)


def test_list(models: Command) -> None:
    said = models("list", "--json")
    assert said.code == 0
    assert {"name", "where", "mb", "languages", "license"} <= set(said.json[0])
    here = [model["name"] for model in said.json if model["where"] == "embedded"]
    assert here == embedded()
    assert {ENCODER, DECODER} == set(here)
    assert all(f"{name}\t" in models("list").out for name in here)


@pytest.mark.parametrize(("name", "most"), [(ENCODER, 16), (DECODER, 20)])
def test_what_ships_is_small_enough(name: str, most: int) -> None:
    folder = EMBEDDED / name.removeprefix("afina/")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= most * 2**20
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    assert about["languages"] == ["es", "en"] and about["tokens_seen"] > 1e6
    assert "<|" in (folder / "chat_template.jinja").read_text("utf-8") if name == DECODER else True


def test_save_writes_float32_that_plain_transformers_loads(models: Command) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForPreTraining, AutoTokenizer

    said = models("save", ENCODER, "saved", "--json")
    assert said.code == 0
    assert (said.json[0]["name"], said.json[0]["folder"]) == (ENCODER, "saved")
    model, info = AutoModelForPreTraining.from_pretrained("saved", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    ours = load_file(SOURCE / "model.safetensors")
    theirs = load_file("saved/model.safetensors")
    assert set(ours) == set(theirs)
    assert all(theirs[name].dtype == torch.float32 for name in theirs)
    assert all(torch.equal(weight.float(), theirs[name]) for name, weight in ours.items())
    text = "El niño comió jamón; the dog didn't."
    before, after = (AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for folder in (SOURCE, "saved"))
    assert before == after


def test_a_saved_model_can_be_named(models: Command, tmp_path: Path) -> None:
    toy.model(tmp_path / "tiny")
    assert models("save", "tiny", "copy").code == 0
    said = models("save", "copy", "copy", "--overwrite", "--json")
    assert said.code == 0
    assert not list(tmp_path.glob("*.old")) and not list(tmp_path.glob("*.new"))


def test_overwrite_replaces_a_model_only(models: Command, tmp_path: Path) -> None:
    toy.model(tmp_path / "tiny")
    assert models("save", "tiny", "copy").code == 0
    assert models("save", "tiny", "copy").code == 2
    assert models("save", "tiny", "copy", "--overwrite").code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    assert models("save", "tiny", "mine", "--overwrite").code == 2
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", [ENCODER, DECODER])
def test_a_text_that_names_a_control_token_is_text(name: str, tmp_path: Path) -> None:
    from afina.models.load import load_tokenizer

    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED / name.removeprefix("afina/"), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["split_special_tokens"] = False  # as Qwen's has it
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    control = {token.content: place for place, token in tokenizer.added_tokens_decoder.items()}
    read = tokenizer(" ".join(control), add_special_tokens=False)["input_ids"]
    assert not set(read) & (set(control.values()) - {tokenizer.unk_token_id})
    around = tokenizer("")["input_ids"]
    assert set(around) & set(control.values()), "those that frame a text are still put there"

    tokenizer.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not saved.get("split_special_tokens"), "a chat template's signs would be torn apart elsewhere"
