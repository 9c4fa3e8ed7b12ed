"""Every method on every shape of model: what is trained, saved, switched off, merged, and read by plain peft."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import toys
from afina.batching.plan import generator
from afina.core import Batch, Method
from afina.errors import InputError
from afina.models.load import load
from afina.names import find, known
from afina.train.bundle import Bundle
from afina.train.loop import Objective

CLASSIFICATION = "AutoModelForSequenceClassification"
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
# Each kind of model with two blocks (T5: two and two) and the class that its file is written by.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForPreTraining", SMALL),
    "roberta": ("RobertaForMaskedLM", SMALL),
    "distilbert": ("DistilBertForMaskedLM", {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64}),
    "modernbert": ("ModernBertForMaskedLM", SMALL | {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "gpt2": ("GPT2LMHeadModel", {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}),
    "llama": ("LlamaForCausalLM", SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16},
    ),
}
# The knobs of every method that put something else into the model.
KNOBS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, layer decay": {"layer_decay": 0.8},
    "head": {},
    "partial": {"top_blocks": 1},
    "gradual": {},
    "bitfit": {},
    "lora": {"rank": 4},
    "lora, rslora": {"rank": 4, "use_rslora": True, "lora_dropout": 0.1},
    "lora, dora": {"rank": 4, "use_dora": True},
    "ia3": {},
    "houlsby": {"adapter_size": 8},
    "houlsby, pfeiffer": {"adapter_size": 8, "placement": "pfeiffer"},
    "prompt": {"prompt_length": 5},
    "prompt, text": {"prompt_length": 5, "prompt_init": "text", "prompt_text": "muy bueno"},
    "prefix": {"prefix_length": 5, "prefix_hidden": 16},
    "hybrid": {"adapter_size": 8, "rank": 4},
    "hybrid, sequence": {"adapter_size": 8, "rank": 4, "arrangement": "sequence", "placement": "pfeiffer"},
}
WHOLE = ("full", "gradual")
UNMERGED = ("houlsby", "prompt", "prefix", "hybrid")
BARE = ("modernbert", "llama", "t5")  # no biases in linear layers
CASES = [(shape, knobs) for shape in SHAPES for knobs in KNOBS]


class Case(NamedTuple):
    """One method on one shape, with the folder of its base model."""

    name: str
    case: toys.Case

    def model(self) -> nn.Module:
        return self.case.model()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a model of each shape, with the tokenizer of the toys."""
    source = toys.build(tmp_path_factory.mktemp("toys"))
    folders = {}
    for shape, (kind, knobs) in SHAPES.items():
        folder = tmp_path_factory.mktemp(shape)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        special = {
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.cls_token_id,
            "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "decoder_start_token_id": tokenizer.pad_token_id,
        }
        torch.manual_seed(1)
        model = getattr(transformers, kind)
        config = model.config_class(vocab_size=len(tokenizer), **knobs, **special)
        model(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[shape] = folder
    return folders


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def made(request: pytest.FixtureRequest, bases: dict[str, Path]) -> Case:
    shape, name = request.param
    method = find("methods", name.split(",")[0]).of(KNOBS[name])
    return Case(name, toys.case("classification-full", bases[shape])._replace(method=method))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_method_has_its_cases() -> None:
    assert {name.split(",")[0] for name in KNOBS} == set(known("methods"))


def batch(case: toys.Case) -> Batch:
    """Return eight rows of unlike length, half of each label."""
    rows = range(0, len(case.rows), len(case.rows) // 8)
    return case.task.collate([(case.rows[row], generator(0, 0, row)) for row in rows], case.tokenizer)


def three_steps(case: toys.Case, model: nn.Module) -> list[float]:
    """Train three steps of every stage as `fit` does, and return the losses."""
    losses = []
    for stage in case.method.stages(model):
        for name, weight in model.named_parameters():
            weight.requires_grad_(stage.trainable is None or name in stage.trainable)
        objective = Objective(model, case.task.loss)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.1)
        for _step in range(3):
            objective.train()
            ((loss, _weight),) = objective(batch(case)).values()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


def answer(case: toys.Case, model: nn.Module) -> Tensor:
    with torch.no_grad():
        return torch.tensor(case.task.answer(model.eval(), batch(case)))


def union(method: Method, model: nn.Module) -> set[str]:
    names = {name for name, _weight in model.named_parameters()}
    stages = [stage.trainable for stage in method.stages(model)]
    return names if None in stages else set().union(*(stage or () for stage in stages))


def test_all_of_a_method(made: Case, bases: dict[str, Path], tmp_path: Path) -> None:
    """One training a case, for all that must hold of it: what learns, what is kept, what comes back."""
    case, model = made.case, made.model()
    kind = made.name.split(",")[0]
    base = load(case.folder, case.task.head, case.task.config(), dropout=0.0)
    base.load_state_dict(
        {n: w for n, w in toys.weights(model).items() if n in base.state_dict()}, strict=False
    )
    before, untrained = toys.weights(model), answer(case, model)

    losses = three_steps(case, model)
    after = toys.weights(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = union(case.method, model)
    assert changed <= trained, "a frozen weight has changed"
    assert len(changed) > 0.5 * len(trained)
    if kind not in WHOLE:
        assert trained < before.keys()
    assert min(losses[1:]) < losses[0]

    told = answer(case, model)
    assert not torch.allclose(told, untrained, atol=1e-4)
    saved = tmp_path / "saved"
    saved.mkdir()
    case.bundle(model).save(saved)
    again = Bundle.load(saved)
    assert torch.equal(answer(case, again.model), told)
    if kind not in WHOLE:
        kept = load_file(saved / "adapter_model.safetensors")
        assert sum(w.numel() for w in kept.values()) < 0.8 * sum(w.numel() for w in base.parameters())
    assert json.loads((saved / "config.json").read_text())["id2label"] == {"0": "bien", "1": "mal"}

    switched_off(case, model, base, told, whole=kind in WHOLE)
    switched_off(case, again.model, None, told, whole=kind in WHOLE)

    if kind in UNMERGED or (kind == "bitfit" and case.folder.name.rstrip("0") in BARE):
        with pytest.raises(InputError, match="merged"):
            case.method.merge(model)
        return
    merged = case.method.merge(model)
    assert torch.allclose(answer(case, merged), told, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")  # type: ignore[operator]
    plain = getattr(transformers, CLASSIFICATION).from_pretrained(tmp_path / "merged")
    assert torch.allclose(answer(case, plain), told, atol=1e-5)


def switched_off(
    case: toys.Case, model: nn.Module, base: nn.Module | None, told: Tensor, whole: bool
) -> None:
    """Switched off the model is the base model, bit by bit, and switched on again what it was."""
    if whole:
        with pytest.raises(InputError, match="base model"):
            case.method.off(model)
        return
    asked = {name for name, weight in model.named_parameters() if weight.requires_grad}
    fresh = load(case.folder, case.task.head, case.task.config(), dropout=0.0)
    inside = fresh.base_model_prefix
    body = batch(case).tensors
    inputs = {name: body[name] for name in ("input_ids", "attention_mask")}
    if fresh.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with case.method.off(model), torch.no_grad():
        for drawn in fresh.drawn & {name for name, _w in fresh.named_parameters()}:
            fresh.get_parameter(drawn).copy_(model.get_parameter(drawn))
        bare = model.get_submodule(inside).eval()(**inputs)[0]
        assert torch.equal(bare, fresh.get_submodule(inside).eval()(**inputs)[0])
        if base is not None:
            assert torch.equal(answer(case, model), answer(case, base))
    assert torch.equal(answer(case, model), told)
    assert asked == {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["lora", "lora, rslora", "lora, dora", "ia3"])
def test_plain_peft_reads_an_adapter(shape: str, name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    method = find("methods", name.split(",")[0]).of(KNOBS[name])
    case = toys.case("classification-full", bases[shape])._replace(method=method)
    model = case.model()
    three_steps(case, model)
    case.bundle(model).save(tmp_path)
    plain = plain_base(case)
    read = peft.PeftModel.from_pretrained(plain, str(tmp_path))
    assert torch.allclose(answer(case, read), answer(case, model), atol=1e-6)
    assert read.peft_config["default"].base_model_name_or_path == str(bases[shape])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_an_adapter_of_plain_peft_is_read(
    shape: str, name: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    case = toys.case("classification-full", bases[shape])
    plain = plain_base(case)
    # Of T5's head plain peft does not know by itself.
    heads = ["classification_head"] if shape == "t5" else None
    common: dict[str, Any] = {
        "task_type": "SEQ_CLS", "fan_in_fan_out": shape == "gpt2", "modules_to_save": heads,
    }  # fmt: skip
    if name == "lora":
        every = {"bert": "all-linear", "distilbert": ["q_lin", "v_lin"], "modernbert": ["Wqkv"]}.get(shape)
        config: Any = peft.LoraConfig(r=3, target_modules=every, lora_alpha=5, **common)
    else:
        config = peft.IA3Config(**common, **ia3_targets(shape))
    theirs = peft.get_peft_model(plain, config)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    theirs.save_pretrained(str(tmp_path))
    method = find("methods", name)()
    ours = method.load(tmp_path, case.task.head, case.task.config(), bases[shape])
    assert torch.allclose(answer(case, ours), answer(case, theirs), atol=1e-6)
    told = answer(case, ours)
    switched_off(case._replace(method=method), ours, None, told, whole=False)


def ia3_targets(shape: str) -> dict[str, list[str]]:
    return {
        "distilbert": {"target_modules": ["k_lin", "v_lin", "lin2"], "feedforward_modules": ["lin2"]},
        "modernbert": {"target_modules": ["Wqkv", "mlp.Wo"], "feedforward_modules": ["mlp.Wo"]},
    }.get(shape, {})


def plain_base(case: toys.Case) -> Any:
    torch.manual_seed(5)
    kind: Callable[..., Any] = getattr(transformers, CLASSIFICATION).from_pretrained
    return kind(case.folder, **case.task.config(), dtype=torch.float32)
