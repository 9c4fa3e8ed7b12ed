"""Every family of models that is supported: its tiny model and its own class of tokenizer keep the contracts.

A family has the tasks for whose head transformers has a class; where it has none, one sentence says so. The list in the
docs is that of `families.FAMILIES`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers

import families
import toy
import toys
from afina.batching.plan import generator
from afina.core import Batch, Row, Stage, Table, Task
from afina.data.spans import located, words
from afina.errors import InputError
from afina.methods.full import Full
from afina.models import parts
from afina.models.load import load, load_tokenizer
from afina.names import find, known
from afina.tasks._windows import read
from afina.tasks._word_places import find as find_words
from afina.train.bundle import Base, Bundle
from afina.train.frozen import frozen_blocks

one_thread = pytest.fixture(scope="module")(toy.one_thread)
run = pytest.fixture(toy.command)
pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
SEQUENCE, TOKENS, QUESTIONS = (
    f"AutoModelFor{head}" for head in ("SequenceClassification", "TokenClassification", "QuestionAnswering")
)
# Heads that transformers has for none of a family's models, and what an encoder's pre-training asks for.
LACKS: dict[str, set[str]] = {
    SEQUENCE: set(),
    QUESTIONS: {"Gemma 2", "Gemma 3"},
    TOKENS: {"Gemma 3", "BART"},
    "AutoModelForPreTraining": {"GPT-2", "Llama", "Qwen3", "Gemma 2", "Gemma 3", "T5", "BART"},
    "AutoModelForCausalLM": {"DistilBERT", "DeBERTa-v3", "ModernBERT", "T5", "BART"},
    "AutoModelForSeq2SeqLM": set(families.FAMILIES) - {"T5", "BART"},
}
# Language models are for the families that were made for them; transformers can turn some encoders into decoders.
WANTED = {"AutoModelForCausalLM": families.DECODER, "AutoModelForSeq2SeqLM": families.BOTH}
NAMES = [(family, task) for family in families.FAMILIES for task in known("tasks")]
HAS = [
    (family, task)
    for family, task in NAMES
    if family not in LACKS[head := find("tasks", task).head]
    and WANTED.get(head) in (None, families.FAMILIES[family].head)
]
LACKING = [(family, task) for family, task in NAMES if family in LACKS[find("tasks", task).head]]


class Case(NamedTuple):
    """One family under one task."""

    folder: Path
    task: Task
    tokenizer: Any
    rows: list[Row]
    model: Any

    def batch(self, rows: list[int]) -> Batch:
        return self.task.collate([(self.rows[row], generator(0, 0, row)) for row in rows], self.tokenizer)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives the folder of a family's model, made when first asked for."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = families.build(name, tmp_path_factory.mktemp("family"))
        return made[name]

    return folder


def learnt(name: str) -> tuple[Task, list[Row]]:
    """Return a task that knows its toy rows, and those rows."""
    rows = find("tasks", name).toy()
    task = find("tasks", name).of({}).choose_columns(Table(rows, tuple(rows[0]), "toy"))
    cleaned = [row for row in map(task.clean, rows) if row is not None]
    return task.learn(cleaned), cleaned


@pytest.fixture(params=HAS, ids="-".join)
def case(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> Iterator[Case]:
    family, name = request.param
    folder = folders(family)
    task, rows = learnt(name)
    torch.manual_seed(0)
    model = load(folder, task.head, task.config(), dropout=0.0)
    tokenizer = load_tokenizer(folder)
    yield Case(folder, task, tokenizer, task.encode(rows, tokenizer, families.LENGTH), model)


def test_the_tokenizer_is_of_its_own_class(folders: Callable[[str], Path]) -> None:
    for name, family in families.FAMILIES.items():
        tokenizer = load_tokenizer(folders(name))
        assert type(tokenizer) is family.tokenizer, name
        assert tokenizer.pad_token_id is not None and tokenizer.is_fast


def test_rows_keep_to_themselves_and_add_up(case: Case) -> None:
    """A split batch adds up, and neither padding nor a neighbour changes an answer."""
    case.model.eval()
    length = [case.task.length(row) for row in case.rows]
    order = sorted(range(len(length)), key=length.__getitem__)
    chosen = [*order[:2], *order[-2:]]
    assert length[chosen[0]] < length[chosen[-1]]
    with torch.no_grad():
        batches = [case.batch(rows) for rows in (chosen, chosen[::2], chosen[1::2])]
        whole, *parts = (case.task.loss(case.model, batch) for batch in batches)
        alone = case.task.answer(case.model, case.batch(chosen[:1]))
        beside = case.task.answer(case.model, case.batch(chosen))
    for name, term in whole.items():
        assert float(term.sum) == pytest.approx(sum(float(part[name].sum) for part in parts), rel=1e-4)
        assert batches[0].counts[name] == sum(batch.counts[name] for batch in batches[1:])
    assert toys.alike(alone[0], beside[0], 1e-4)


def test_it_learns_and_is_saved_for_all(case: Case, tmp_path: Path) -> None:
    """The loss on eight rows falls; loaded again, also by plain transformers, the model gives the same answers."""
    every = list(range(0, len(case.rows), max(1, len(case.rows) // 8)))[:8]
    batch = case.batch(every)

    optimizer = torch.optim.AdamW(case.model.parameters(), lr=5e-3)
    losses = []
    case.model.train()
    for _step in range(20):
        terms = case.task.loss(case.model, batch)
        loss = torch.stack(
            [term.sum / batch.counts[name] for name, term in terms.items() if batch.counts[name]]
        )
        losses.append(float(loss.detach().sum()))
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(case.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]
    case.model.eval()
    base = Base.of(str(case.folder), case.folder)
    Bundle(case.model, case.tokenizer, case.task, Full(), families.LENGTH, base=base).save(tmp_path)
    after = Bundle.load(tmp_path)
    plain = type(case.model).from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours, theirs = case.model.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert type(after.tokenizer) is type(case.tokenizer)
    with torch.no_grad():
        told = [case.task.answer(model, batch) for model in (case.model, after.model, plain)]
    assert toys.alike(told[0], told[1], 1e-6) and toys.alike(told[0], told[2], 1e-6)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_places_are_those_of_the_text(family: str, folders: Callable[[str], Path]) -> None:
    """Blanks before words are parts of tokens in some of the tokenizers, and no part of a word or an answer."""
    tokenizer = load_tokenizer(folders(family))
    text, places = located(
        ["¿", "El", "niño", "vive", "en", "Nueva", "York", "😀", ",", "o", "no", "?"], None
    )
    for spaced in (text, "  " + text.replace(" ", "  ") + "\n"):
        spans = words(spaced)
        assert [spaced[start:end] for start, end in spans] == text.split()
        for length in (families.LENGTH, 12):
            ((ids, found, _read),) = find_words([(spaced, spans)], tokenizer, length, 4)
            windows = next(read([(spaced,)], tokenizer, length, 4)).windows
            assert [window.ids.tolist() for window in windows] == ids
            for (start, end), place in zip(spans, found, strict=True):
                assert place is not None, spaced[start:end]
                first, last = windows[place[0]].places[place[1]].tolist()
                assert first < end and start < last, (spaced[start:end], spaced[first:last])
                assert not spaced[first:start].strip(), "the token begins with the word"
    assert len(places) == 12


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name not in LACKS[QUESTIONS]])
def test_answers_stand_in_their_context(family: str, folders: Callable[[str], Path]) -> None:
    task, rows = learnt("extractive_qa")
    tokenizer = load_tokenizer(folders(family))
    for row, encoded in zip(rows, task.encode(rows, tokenizer, 24), strict=True):
        answer = row["answers"][0]
        held = [window for window in encoded["windows"] if window.gold[0] >= window.first]
        for window in held:
            first, last = (token - window.first for token in window.gold)
            found = row["context"][window.places[first, 0] : window.places[last, 1]]
            assert found.strip() == answer["text"]
    assert held


@pytest.mark.parametrize(("family", "name"), LACKING, ids="-".join)
def test_a_head_that_is_not_there_is_said(family: str, name: str, folders: Callable[[str], Path]) -> None:
    kind = families.FAMILIES[family].kind
    with pytest.raises(InputError, match=f"model of the kind '{kind}' cannot") as raised:
        load(folders(family), find("tasks", name).head, {})
    assert "\n" not in str(raised.value)


def test_the_command_says_it_too(
    folders: Callable[[str], Path], tmp_path: Path, run: Callable[..., toy.Said]
) -> None:
    file = toy.table(tmp_path / "rows.csv")
    out = tmp_path / "run"
    said = run(
        "finetune", file, "--task", "masked_lm", "--model", folders("GPT-2"), "--text", "text",
        "--output-dir", out, "--max-steps", 1,
    )  # fmt: skip
    assert (said.code, said.err.count("\n")) == (2, 1) and "'gpt2' cannot guess hidden words" in said.err
    assert not out.exists()


@pytest.mark.parametrize(
    "family", [name for name, each in families.FAMILIES.items() if each.head == families.DECODER]
)
def test_a_decoder_knows_the_padding_of_its_tokenizer(family: str, folders: Callable[[str], Path]) -> None:
    """Its head looks for padding to find the end of a row; the end sign of Qwen's chats is not its padding."""
    tokenizer = load_tokenizer(folders(family))
    model: Any = load(folders(family), SEQUENCE, {"num_labels": 2})
    assert model.config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_a_backbone_of_another_name_is_found(family: str, folders: Callable[[str], Path]) -> None:
    """The head for questions calls the backbone otherwise than the file does."""
    model: Any = load(folders(family), QUESTIONS, {"num_labels": 2})
    assert model.drawn == {"qa_outputs.weight", "qa_outputs.bias"}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_top_blocks_are_as_many_as_are_asked(family: str, folders: Callable[[str], Path]) -> None:
    """Their own heads learn with them; embeddings, and heads tied to those, do not."""
    model: Any = load(folders(family), families.FAMILIES[family].head, {})
    paths = parts.blocks(model)
    vocabulary = next(
        name for name, weight in model.named_parameters() if weight is model.get_input_embeddings().weight
    )
    for count in range(1, len(paths) + 1):
        trained = find("methods", "partial").of({"top_blocks": count}).trains(model)
        learning = [path for path in paths if any(name.startswith(f"{path}.") for name in trained)]
        assert learning == paths[-count:]
        assert parts.head(model) <= trained and vocabulary not in trained
        assert not any(re.search("embed|wte|wpe|shared", name) for name in trained)
        assert frozen_blocks(model, Stage("all", trained)) == (
            [] if family in ("T5", "BART") else paths[:-count]
        )


@pytest.mark.parametrize(("family", "apart"), [("T5", False), ("BART", True)])
def test_a_text_that_names_the_sign_for_its_end_is_read_or_said(
    family: str, apart: bool, folders: Callable[[str], Path]
) -> None:
    """A Unigram vocabulary, such as T5's, holds the sign as a piece like any other."""
    task, _rows = learnt("classification")
    model, tokenizer = load(folders(family), SEQUENCE, task.config()), load_tokenizer(folders(family))
    bundle = Bundle(model.eval(), tokenizer, task, Full(), families.LENGTH)
    assert len(bundle.predict(["muy bueno", "muy"])) == 2
    if apart:
        assert len(bundle.predict(["muy </s> bueno", "muy"])) == 2
        tokenizer.split_special_tokens = False  # as nothing of afina's reads a text
    with pytest.raises(InputError, match="</s>"):
        bundle.predict(["muy </s> bueno", "muy"])


def test_a_tokenizer_without_padding_is_said(folders: Callable[[str], Path], tmp_path: Path) -> None:
    families.build("GPT-2", tmp_path)
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(tmp_path).backend_tokenizer)
    (tmp_path / "tokenizer_config.json").unlink()
    bare.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no padding token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_documented_list_is_the_tested_one(language: str) -> None:
    page = (ROOT / "docs" / language / "models.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| (.*) \|$", page, re.MULTILINE)
    named = {family: (kind, {*re.findall(r"`(\w+)`", tasks)}) for family, kind, tasks in lines}
    assert named == {
        name: (family.kind, {task for one, task in HAS if one == name})
        for name, family in families.FAMILIES.items()
    }
