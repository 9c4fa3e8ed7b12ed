"""Every method on every shape of model: what is trained, saved, switched off, merged, and read by plain peft."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import families
import toys
from afina.batching.plan import generator
from afina.core import Batch, Method
from afina.errors import InputError
from afina.methods._hybrid import Pair
from afina.models.find import find as find_model
from afina.models.load import load, load_tokenizer, longest
from afina.names import find, known
from afina.train.bundle import FILE, Bundle
from afina.train.loop import Objective
from afina.train.optimizer import adamw
from afina.verbs.finetune import finetune
from afina.verbs.models import save as save_model

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
    assert (
        load_file(tmp_path / "adapter_model.safetensors").keys()
        == peft.get_peft_model_state_dict(read).keys()
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["lora", "lora, rslora", "lora, dora", "ia3"])
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
    kind = name.split(",")[0]
    if kind == "lora":
        common |= {"use_rslora": "rslora" in name, "use_dora": "dora" in name}
        every = {"bert": "all-linear", "distilbert": ["q_lin", "v_lin"], "modernbert": ["Wqkv"]}.get(shape)
        config: Any = peft.LoraConfig(r=3, target_modules=every, lora_alpha=5, **common)
    else:
        config = peft.IA3Config(**common, **ia3_targets(shape))
    theirs = written_by_peft(plain, config, tmp_path)
    method = find("methods", kind)()
    ours = method.load(tmp_path, case.task.head, case.task.config(), bases[shape])
    assert torch.allclose(answer(case, ours), answer(case, theirs), atol=1e-6)
    told = answer(case, ours)
    switched_off(case._replace(method=method), ours, None, told, whole=False)


def written_by_peft(plain: Any, config: Any, folder: Path) -> Any:
    """Return a model that plain peft has put something else than nothing into, saved in `folder`."""
    theirs = peft.get_peft_model(plain, config)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    theirs.save_pretrained(str(folder))
    return theirs


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("lora", {"bias": "all"}),
        ("lora", {"bias": "lora_only"}),
        ("lora", {"bias": "all", "modules_to_save": ["pooler"], "use_dora": True}),
        ("lora", {"target_modules": "all-linear", "modules_to_save": ["pooler"]}),
        (
            "lora",
            {"target_modules": ["dense"], "modules_to_save": ["pooler"], "exclude_modules": ["output.dense"]},
        ),
        ("lora", {"modules_to_save": ["word_embeddings"]}),
        ("lora", {"target_modules": ["word_embeddings", "query"]}),
        ("ia3", {"modules_to_save": ["pooler"]}),
    ],
)
def test_what_plain_peft_trained_beside_is_saved_again(
    name: str, knobs: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    case, method = toys.case("classification-full", bases["bert"]), find("methods", name)()
    kind: Any = peft.LoraConfig if name == "lora" else peft.IA3Config
    theirs = written_by_peft(plain_base(case), kind(task_type="SEQ_CLS", **knobs), tmp_path / "theirs")
    ours = method.load(tmp_path / "theirs", case.task.head, case.task.config(), bases["bert"])
    told = answer(case, theirs)
    assert torch.allclose(answer(case, ours), told, atol=1e-6)
    switched_off(case._replace(method=method), ours, None, answer(case, ours), whole=False)
    (tmp_path / "ours").mkdir()
    method.save(ours, tmp_path / "ours", str(bases["bert"]))
    again = method.load(tmp_path / "ours", case.task.head, case.task.config(), bases["bert"])
    assert torch.allclose(answer(case, again), told, atol=1e-6)
    read = peft.PeftModel.from_pretrained(plain_base(case), str(tmp_path / "ours"))
    assert torch.allclose(answer(case, read), told, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of peft, about ties
@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"trainable_token_indices": {"wte": [5, 6]}}, "trainable_token_indices"),
        ({"modules_to_save": ["wte"]}, r"changes transformer\.wte\.weight alone"),
        ({"modules_to_save": ["lm_head"]}, r"changes lm_head\.weight alone"),
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens"),
        ({"target_modules": ["lm_head"]}, None),
    ],
)
def test_an_adapter_that_cannot_be_kept_apart_is_refused(
    knobs: dict[str, Any], said: str | None, bases: dict[str, Path], tmp_path: Path
) -> None:
    """The head of this GPT-2 is tied to its embeddings; a copy of it that peft writes down unchanged does no harm."""
    head = "AutoModelForCausalLM"
    plain = getattr(transformers, head).from_pretrained(bases["gpt2"], dtype=torch.float32)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"target_modules": ["c_attn"]} | knobs)
    theirs, ids = written_by_peft(plain, config, tmp_path).eval(), torch.arange(5, 15)[None]
    if said:
        with pytest.raises(InputError, match=said):
            find("methods", "lora")().load(tmp_path, head, {}, bases["gpt2"])
        return
    ours: Any = find("methods", "lora")().load(tmp_path, head, {}, bases["gpt2"]).eval()
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (
            {"init_lora_weights": "pissa"},
            r"init_lora_weights=pissa.*path_initial_model_for_weight_conversion",
        ),
        ({"init_lora_weights": "pissa_niter_4"}, r"init_lora_weights=pissa_niter_4"),
        ({"init_lora_weights": "olora"}, r"init_lora_weights=olora"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    ],
)
def test_an_adapter_whose_base_model_was_changed_is_refused(
    knobs: dict[str, Any], said: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    case = toys.case("classification-full", bases["bert"])
    written_by_peft(plain_base(case), peft.LoraConfig(task_type="SEQ_CLS", r=4, **knobs), tmp_path)
    with pytest.raises(InputError, match=said):
        find("methods", "lora")().load(tmp_path, case.task.head, case.task.config(), bases["bert"])


@pytest.mark.filterwarnings("ignore::UserWarning")  # of peft, about this very thing
@pytest.mark.parametrize("begun", ["pissa", "olora"])
def test_peft_turns_such_an_adapter_into_one_that_is_read(
    begun: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    head, ids = "AutoModelForCausalLM", torch.arange(5, 15)[None]
    plain = getattr(transformers, head).from_pretrained(bases["llama"], dtype=torch.float32)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=begun)  # type: ignore[arg-type]
    theirs: Any = peft.get_peft_model(plain, config).eval()
    before = str(tmp_path / "before")
    theirs.save_pretrained(before)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
        told = theirs(ids).logits
    theirs.save_pretrained(str(tmp_path / "after"), path_initial_model_for_weight_conversion=before)
    ours: Any = find("methods", "lora")().load(tmp_path / "after", head, {}, bases["llama"]).eval()
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, told, atol=1e-5)


@pytest.mark.parametrize("knobs", [{"target_modules": "all-linear"}, {"target_modules": ["query"]}])
def test_a_pooler_that_nobody_brings_is_not_drawn(
    knobs: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    base, method = tmp_path / "base", find("methods", "lora")()
    shutil.copytree(bases["bert"], base)
    weights = load_file(base / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "pooler" not in name}
    save_file(kept, base / "model.safetensors", {"format": "pt"})
    case = toys.case("classification-full", base)
    written_by_peft(plain_base(case), peft.LoraConfig(task_type="SEQ_CLS", **knobs), tmp_path / "lost")
    with pytest.raises(InputError, match=r"brings the weights of bert\.pooler\.dense, .*modules_to_save"):
        method.load(tmp_path / "lost", case.task.head, case.task.config(), base)
    config = peft.LoraConfig(task_type="SEQ_CLS", modules_to_save=["pooler"], **knobs)
    theirs = written_by_peft(plain_base(case), config, tmp_path / "brought")
    ours = method.load(tmp_path / "brought", case.task.head, case.task.config(), base)
    assert torch.allclose(answer(case, ours), answer(case, theirs), atol=1e-6)


def ia3_targets(shape: str) -> dict[str, list[str]]:
    return {
        "distilbert": {"target_modules": ["k_lin", "v_lin", "lin2"], "feedforward_modules": ["lin2"]},
        "modernbert": {"target_modules": ["Wqkv", "mlp.Wo"], "feedforward_modules": ["mlp.Wo"]},
    }.get(shape, {})


def plain_base(case: toys.Case) -> Any:
    torch.manual_seed(5)
    kind: Callable[..., Any] = getattr(transformers, CLASSIFICATION).from_pretrained
    return kind(case.folder, **case.task.config(), dtype=torch.float32)


@pytest.fixture(params=["lora", "houlsby", "head"])
def saved(request: pytest.FixtureRequest, bases: dict[str, Path], tmp_path: Path) -> tuple[toys.Case, Path]:
    """Save an untrained run of a method on a copy of the BERT that a test may spoil."""
    base = tmp_path / "base"
    shutil.copytree(bases["bert"], base)
    method = find("methods", request.param).of(KNOBS[request.param])
    case = toys.case("classification-full", base)._replace(method=method)
    folder = tmp_path / "best"
    folder.mkdir()
    case.bundle(case.model()).save(folder)
    return case, folder


def test_a_missing_base_is_named(saved: tuple[toys.Case, Path], tmp_path: Path) -> None:
    case, folder = saved
    about = json.loads((folder / FILE).read_text())
    assert about["base"]["model"] == str(case.folder)
    case.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"base model {case.folder} is missing.*{FILE}"):
        Bundle.load(folder)
    about["base"]["model"] = str(tmp_path / "elsewhere")
    (folder / FILE).write_text(json.dumps(about))
    assert Bundle.load(folder).base is not None


def test_a_base_that_has_changed_is_refused(saved: tuple[toys.Case, Path]) -> None:
    case, folder = saved
    weights = load_file(case.folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, case.folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="weights have changed"):
        Bundle.load(folder)


def test_weights_of_another_model_are_refused(saved: tuple[toys.Case, Path]) -> None:
    _case, folder = saved
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="do not belong"):
        Bundle.load(folder)


def test_an_adapter_is_no_model_to_begin_from(saved: tuple[toys.Case, Path]) -> None:
    _case, folder = saved
    with pytest.raises(InputError, match=r"holds an adapter.*afina models save"):
        find_model(str(folder))


def test_a_run_is_written_out_as_a_whole_model(saved: tuple[toys.Case, Path], tmp_path: Path) -> None:
    case, folder = saved
    out = tmp_path / "out"
    if type(case.method).__name__ == "Houlsby":
        with pytest.raises(InputError, match="merged"):
            save_model(str(folder), out)
        assert not out.exists()
        return
    save_model(str(folder), out)
    plain = load(find_model(str(out)), CLASSIFICATION)
    assert torch.allclose(answer(case, plain), answer(case, Bundle.load(folder).model), atol=1e-6)


def test_a_frozen_part_knows_no_dropout(bases: dict[str, Path]) -> None:
    """With the head alone every step sees the same features; where adapters learn, dropout works around them."""
    for name, same in (("head", True), ("partial", True), ("lora", False)):
        method = find("methods", name).of(KNOBS[name])
        case = toys.case("classification-full", bases["bert"])._replace(method=method)
        model = case.model(dropout=0.5)
        trainable = method.stages(model)[0].trainable or ()
        for weight_name, weight in model.named_parameters():
            weight.requires_grad_(weight_name in trainable)
        objective = Objective(model, case.task.loss).train()
        body, inputs = model.get_submodule("bert.encoder.layer.0"), torch.randn(2, 5, 32)
        assert torch.equal(body(inputs), body(inputs)) == same
        assert model.get_submodule("dropout").training, "the head's own dropout stays"
        assert not any(module.training for module in objective.eval().modules())


@pytest.mark.parametrize("name", ["head", "partial", "lora", "prefix"])
def test_training_mode_is_set_once_and_again_after_scoring(
    name: str, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = find("methods", name).of(KNOBS[name])
    case = toys.case("classification-full", bases["bert"])._replace(method=method)
    model = case.model(dropout=0.5)
    trainable = method.stages(model)[0].trainable or ()
    for weight_name, weight in model.named_parameters():
        weight.requires_grad_(weight_name in trainable)
    objective = Objective(model, case.task.loss).train()
    modes = [module.training for module in model.modules()]
    assert True in modes and False in modes
    with monkeypatch.context() as patch:
        patch.setattr(objective, "modules", None)
        objective.train()  # looks through nothing: it is asked for in every step
    model.eval()
    objective.train()
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["head", "lora"])
def test_a_pooler_that_the_base_does_not_bring_is_trained_and_saved(
    name: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases["bert"], base)
    weights = load_file(base / "model.safetensors")
    for without in (False, True):
        if without:
            kept = {name: weight for name, weight in weights.items() if "pooler" not in name}
            save_file(kept, base / "model.safetensors", {"format": "pt"})
        case = toys.case("classification-full", base)._replace(method=find("methods", name)())
        model = case.model()
        assert ("bert.pooler.dense.weight" in union(case.method, model)) == without
        folder = tmp_path / f"saved {without}"
        folder.mkdir()
        case.bundle(model).save(folder)
        assert torch.equal(answer(case, Bundle.load(folder).model), answer(case, model))
        if name == "lora":
            read = peft.PeftModel.from_pretrained(plain_base(case), str(folder))
            assert torch.allclose(answer(case, read), answer(case, model), atol=1e-6)


def test_a_run_from_the_table_to_the_answer(bases: dict[str, Path], tmp_path: Path) -> None:
    data, out = tmp_path / "toy.csv", tmp_path / "run"
    rows = toys.case("classification-full", bases["bert"]).task.toy() * 2
    data.write_text(
        "text,label\n" + "\n".join(f"{row['text']} {i},{row['label']}" for i, row in enumerate(rows)), "utf-8"
    )
    settings = {"model": str(bases["bert"]), "method": "lora", "rank": 3, "max_steps": 6, "quiet": True}
    run = finetune(data, output_dir=str(out), **settings)
    assert run is not None and run.settings["rank"] == 3
    (told,) = run.bundle.predict(["el servicio muy bueno"])
    trained = sum(weight.numel() for weight in load_file(out / "best" / "adapter_model.safetensors").values())
    assert run.result["trained_weights"] == trained
    assert "library_name: peft" in (out / "best" / "README.md").read_text("utf-8")
    read = peft.PeftModel.from_pretrained(
        transformers.AutoModelForSequenceClassification.from_pretrained(
            bases["bert"], config=transformers.AutoConfig.from_pretrained(out / "best"), dtype=torch.float32
        ),
        str(out / "best"),
    ).eval()
    text = transformers.AutoTokenizer.from_pretrained(out / "best")(
        "el servicio muy bueno", return_tensors="pt"
    )
    with torch.no_grad():
        logits = read(text["input_ids"], text["attention_mask"]).logits[0]
    assert logits.softmax(-1).max().item() == pytest.approx(told["probability"], abs=1e-6)
    assert read.config.id2label[int(logits.argmax())] == told["prediction"]


def test_gradual_thaws_from_the_top(bases: dict[str, Path]) -> None:
    case = toys.case("classification-full", bases["bert"])._replace(method=find("methods", "gradual")())
    model = case.model()
    stages = case.method.stages(model)
    thawed = [stage.trainable for stage in stages]
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert thawed[0] == {"classifier.weight", "classifier.bias"} and thawed[-1] is None
    assert thawed[1] is not None and thawed[0] < thawed[1]
    assert any(".layer.1." in name for name in thawed[1]) and not any(
        ".layer.0." in name for name in thawed[1]
    )
    rates = stages[0].rates or {}
    assert rates["classifier.weight"] == 1
    assert rates["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(1 / 2.6)
    assert rates["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(1 / 2.6**2)
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(1 / 2.6**2)


@pytest.mark.parametrize(
    ("count", "groups", "thawing"), [(1, 4, [1]), (2, 1, [2]), (2, 4, [1]), (6, 4, [2, 4])]
)
def test_gradual_begins_with_blocks_where_the_head_is_tied(
    count: int, groups: int, thawing: list[int]
) -> None:
    """`thawing` says how many of the highest blocks learn in each stage before the last."""
    config = transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=count, n_head=2, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    stages = find("methods", "gradual").of({"unfreezing_groups": groups}).stages(model)
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert stages[-1].trainable is None and len(stages) == len(thawing) + 1
    for stage, blocks in zip(stages, thawing, strict=False):
        found = {name.split(".")[2] for name in stage.trainable or () if ".ln_f." not in name}
        assert found == {str(count - 1 - i) for i in range(blocks)}
    rates = stages[0].rates or {}
    assert rates[f"transformer.h.{count - 1}.ln_1.weight"] == 1 > rates["transformer.wte.weight"]


def test_layer_decay_falls_towards_the_embeddings(bases: dict[str, Path]) -> None:
    method = find("methods", "full").of({"layer_decay": 0.5})
    case = toys.case("classification-full", bases["bert"])._replace(method=method)
    (stage,) = method.stages(case.model())
    rates = stage.rates or {}
    assert rates["classifier.weight"] == 1 and rates["bert.embeddings.word_embeddings.weight"] == 0.125
    optimizer = adamw(case.model(), 1e-3, 0.01, 0.999, rates)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3, 5e-4, 2.5e-4, 1.25e-4}


def test_the_gate_weighs_both_and_begins_in_the_middle() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3, 4), torch.randn(3, 6)
    for in_sequence in (False, True):
        pair = Pair(4, 6, 5, 2, 1.0, 0.0, in_sequence)
        with torch.no_grad():
            for weight in (pair.second.weight, pair.adapter.up.weight):
                weight.normal_()
            low_rank = pair.second(pair.first(x))
            start = y + low_rank if in_sequence else y
            assert torch.allclose(pair(x, y), y + low_rank + pair.adapter.update(start), atol=1e-6)
            pair.gate.fill_(-50.0)  # LoRA alone, at twice its weight
            assert torch.allclose(pair(x, y), y + 2 * low_rank, atol=1e-6)


def test_a_prompt_begins_as_its_text(bases: dict[str, Path]) -> None:
    case = toys.case("classification-full", bases["bert"])
    ids = case.tokenizer("muy bueno", add_special_tokens=False)["input_ids"]
    method = find("methods", "prompt").of(KNOBS["prompt, text"])
    model = case._replace(method=method).model()
    words = model.get_submodule("bert.embeddings.word_embeddings").weight
    vectors = model.get_parameter("bert.soft_prompt.vectors")
    wanted = (ids * 5)[:5]
    assert torch.equal(vectors, words[wanted])
    for knobs in ({"prompt_init": "text"}, {"prompt_text": "hola"}):
        with pytest.raises(InputError, match="belong together"):
            case._replace(method=find("methods", "prompt").of(knobs)).model()


@pytest.mark.parametrize("name", ["prompt", "prefix"])
@pytest.mark.parametrize("shape", SHAPES)
def test_prompts_leave_a_text_its_full_length(shape: str, name: str, bases: dict[str, Path]) -> None:
    method = find("methods", name).of(KNOBS[name])
    case = toys.case("classification-full", bases[shape])._replace(method=method)
    model = case.model().eval()
    limit = min(longest(model.config, case.tokenizer), 512)
    ids = torch.full((1, limit), 7)
    ids[:, -1] = case.tokenizer.sep_token_id
    with torch.no_grad():
        assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.isfinite().all()


AFTER_PADDING = {
    "MPNet": ({}, 2),  # after the padding at 1, whatever the tokenizer's is
    "RobertaPreLayerNorm": ({}, 1),
    "Data2VecText": ({}, 1),
    "Roberta": ({}, 1),
    "Longformer": ({"attention_window": 8}, 1),
}


@pytest.mark.parametrize("kind", AFTER_PADDING)
def test_a_text_keeps_its_positions_under_a_prompt(kind: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Its positions begin after the padding's, wherever that is, and the longest text is one that fits."""
    knobs, first = AFTER_PADDING[kind]
    tokenizer = load_tokenizer(bases["bert"])
    assert tokenizer.pad_token_id == 0
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), pad_token_id=0, max_position_embeddings=34, **SMALL, **knobs
    )
    getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(tmp_path)
    tokenizer.model_max_length = 10**6
    tokenizer.save_pretrained(tmp_path)
    model = load(tmp_path, CLASSIFICATION).eval()
    limit = longest(model.config, tokenizer)
    assert limit == 34 - first
    seen: list[Tensor] = []
    places = next(each for name, each in model.named_modules() if name.endswith(".position_embeddings"))
    places.register_forward_pre_hook(lambda _places, args: seen.append(args[0]))
    rows = torch.full((2, limit), 7)
    mask = torch.ones_like(rows)
    rows[1, 20:], mask[1, 20:] = 0, 0
    alone = model(input_ids=rows, attention_mask=mask).logits
    plain = max(seen, key=lambda each: each.shape[-1])[0, :limit]
    assert plain[0] == first
    seen.clear()
    method = find("methods", "prompt").of({"prompt_length": 5})
    model = method.modify(model, tokenizer).eval()
    with_prompt = model(input_ids=rows, attention_mask=mask)
    assert torch.equal(max(seen, key=lambda each: each.shape[-1])[0, 5 : 5 + limit], plain)
    short = model(input_ids=rows[1:, :20], attention_mask=mask[1:, :20]).logits
    assert torch.allclose(with_prompt.logits[1:], short, atol=1e-6)
    gradient = torch.autograd.grad(
        with_prompt.logits.sum(), model.get_parameter(next(iter(method.trains(model))))
    )
    assert not torch.equal(with_prompt.logits, alone) and gradient[0].abs().sum() > 0
    with method.off(model):
        assert torch.equal(model(input_ids=rows, attention_mask=mask).logits, alone)


def test_every_word_of_a_longformer_sees_the_prompt(bases: dict[str, Path]) -> None:
    """Its words see those beside them alone, but for some that all see: the prompt must be among these."""
    config = transformers.LongformerConfig(
        vocab_size=600, pad_token_id=0, max_position_embeddings=66, attention_window=4, **SMALL
    )
    torch.manual_seed(0)
    model = transformers.LongformerForTokenClassification(config).eval()
    method = find("methods", "prompt").of({"prompt_length": 2})
    model = method.modify(model, load_tokenizer(bases["bert"])).eval()
    (name,) = (each for each in method.trains(model) if each.endswith(".vectors"))
    ids = torch.full((1, 60), 7)
    before = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    with torch.no_grad():
        model.get_parameter(name).add_(torch.randn(2, 32))
    after = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert ((after - before).abs().amax(-1) > 1e-7).all()


@pytest.mark.parametrize("name", ["prompt", "prefix"])
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_decoder_writes_the_same_with_and_without_cache(
    shape: str, name: str, bases: dict[str, Path]
) -> None:
    method = find("methods", name).of(KNOBS[name])
    tokenizer = load_tokenizer(bases[shape])
    torch.manual_seed(0)
    model = method.modify(load(bases[shape], "AutoModelForCausalLM"), tokenizer).eval()
    ids = torch.tensor([[7, 8, 9]])
    plain, cached = (
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                       use_cache=use, eos_token_id=None)
        for use in (False, True)
    )  # fmt: skip
    assert torch.equal(plain, cached)


def test_a_prefix_does_not_go_with_attention_that_caps_its_logits(tmp_path: Path) -> None:
    from afina.methods.prefix import Prefix

    folder = families.build("Gemma 2", tmp_path)
    with pytest.raises(InputError, match="caps its logits"):
        Prefix().modify(load(folder, "AutoModelForCausalLM"), load_tokenizer(folder))


def test_a_model_without_blocks_to_spare_is_refused(bases: dict[str, Path]) -> None:
    case = toys.case("classification-full", bases["bert"])
    with pytest.raises(InputError, match=r"2 blocks.*--top-blocks"):
        case._replace(method=find("methods", "partial").of({"top_blocks": 3})).model()
