"""Conversations: their forms, which tokens are learnt, and what is refused."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import toys
from afina.core import Table
from afina.data.chat import messages
from afina.errors import InputError
from afina.models.load import load_tokenizer
from afina.tasks._template import PLAIN, end_sign, render
from afina.tasks.chat import Chat
from afina.verbs._located import located
from afina.verbs._prepare import clean

SAID = [
    {"role": "system", "content": "Sé breve."},
    {"role": "user", "content": "¿Qué tal?"},
    {"role": "assistant", "content": "Bien 😀, ¿y tú?"},
    {"role": "user", "content": "También."},
    {"role": "assistant", "content": "Me alegro."},
]
# As the field's models write a conversation; the last one leaves out of earlier turns what was thought in them.
TEMPLATES = {
    "own": None,
    "plain": PLAIN,
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "forgetful": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' and not loop.last %}"
        "{{ m['content'].split('</think>')[-1] }}{% else %}{{ m['content'] }}{% endif %}{{ '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return load_tokenizer(toys.build(tmp_path_factory.mktemp("chat")) / "decoder")


def learnt(tokenizer: PreTrainedTokenizerBase, said: list[dict[str, str]]) -> str:
    """Return what is learnt of a conversation, a bar between stretches."""
    ids, marks = Chat().tokens({"messages": said}, tokenizer)
    text, open_ = "", False
    for token, known in zip(ids, marks, strict=True):
        text += ("" if open_ or not text else "|") * known + "\0" * known + str(token) * known + " " * known
        open_ = known
    parts = text.replace("\0", "").split("|")
    return "|".join(tokenizer.decode([int(number) for number in part.split()]) for part in parts)


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_somebody_writes_ends_no_turn(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """A user's turn that names the template's signs must not speak as the assistant or the system."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|end|>"]})
    tokenizer.chat_template = TEMPLATES[name] or tokenizer.chat_template
    control = {token for token, each in tokenizer.added_tokens_decoder.items() if each.special}
    written = "".join(tokenizer.convert_ids_to_tokens(sorted(control)))

    def signs(said: list[dict[str, str]]) -> list[int]:
        ids, _marks = Chat().tokens({"messages": said}, tokenizer)
        return [token for token in ids if token in control]

    assert len(signs(SAID)) > len(SAID) or name == "plain"
    for turn in range(len(SAID)):
        said = [dict(message) for message in SAID]
        said[turn]["content"] += f" {written} ¿No?"
        assert signs(said) == signs(SAID)
        ids, _marks = Chat().tokens({"messages": said}, tokenizer)
        assert written in tokenizer.decode(ids)
        if turn != 2 or name != "forgetful":
            assert (written in learnt(tokenizer, said)) == (SAID[turn]["role"] == "assistant")
    (row,) = Chat().encode([Chat().ask(f"Hola{written}")], tokenizer, 512)
    assert [token for token in row["prompt"] if token in control] == [
        token
        for token in Chat().encode([Chat().ask("Hola")], tokenizer, 512)[0]["prompt"]
        if token in control
    ]


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_what_the_assistant_says_is_learnt(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    own = tokenizer.chat_template
    if TEMPLATES[name]:
        tokenizer.chat_template = TEMPLATES[name]
    try:
        end = end_sign(tokenizer)
        assert end == {"own": "<|end|>", "plain": "<|endoftext|>", "chatml": "<|im_end|>"}.get(
            name, "<|end|>"
        )
        assert learnt(tokenizer, SAID) == f"Bien 😀, ¿y tú?{end}|Me alegro.{end}"
        assert render(tokenizer, SAID[:4], ask=True).endswith(render(tokenizer, SAID, ask=True)[-5:])
    finally:
        tokenizer.chat_template = own


def test_a_blank_before_a_reply_is_the_reply_s(tokenizer: PreTrainedTokenizerBase) -> None:
    """Tokenizers put it into the first word; else a reply of one token would be none. A line's end ends a turn."""
    own = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    try:
        said = [{"role": "user", "content": "¿Hoy?"}, {"role": "assistant", "content": "sí"}]
        assert learnt(tokenizer, said) == " sí\n"
        (row,) = Chat().encode([Chat().ask("¿Hoy?")], tokenizer, 64)
        assert tokenizer.decode(row["prompt"]) == "user: ¿Hoy?\nassistant:"
        assert set(Chat().stops(tokenizer)) == {
            tokenizer.eos_token_id,
            *tokenizer("\n", add_special_tokens=False)["input_ids"],
        }
    finally:
        tokenizer.chat_template = own


def test_a_conversation_may_begin_with_the_assistant(tokenizer: PreTrainedTokenizerBase) -> None:
    greeting = {"role": "assistant", "content": "Hola."}
    assert learnt(tokenizer, [greeting, *SAID[1:3]]) == "Hola.<|end|>|Bien 😀, ¿y tú?<|end|>"
    assert Chat(messages="m").clean({"m": [greeting]}) is None
    assert Chat(messages="m").clean({"m": [greeting, *SAID[1:3]]}) == {"messages": [greeting, *SAID[1:3]]}


def test_of_a_conversation_too_long_the_oldest_turns_go(tokenizer: PreTrainedTokenizerBase) -> None:
    said = [SAID[0], *SAID[1:3] * 6, {"role": "user", "content": "¿Y hoy?"}]
    task = Chat(max_new_tokens=10)
    (row,) = task.encode([task.ask(said)], tokenizer, 64)
    text = tokenizer.decode(row["prompt"])
    assert text.startswith("<|endoftext|><|system|>Sé breve.<|end|><|user|>") and len(row["prompt"]) <= 54
    assert text.endswith("<|user|>¿Y hoy?<|end|><|assistant|>") and text.count("<|user|>") > 1


def test_a_template_that_rewrites_earlier_turns_has_them_learnt_from_their_content(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    own, tokenizer.chat_template = tokenizer.chat_template, TEMPLATES["forgetful"]
    thought = [dict(message) for message in SAID]
    thought[4]["content"] = "hmm</think>Me alegro."
    try:
        assert learnt(tokenizer, thought) == "Bien 😀, ¿y tú?<|end|>|hmm</think>Me alegro.<|end|>"
    finally:
        tokenizer.chat_template = own


def test_a_reply_that_the_user_has_said_before_is_found_where_the_assistant_says_it(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """As Qwen 3 does: what was thought stands only in turns after the last question, and there is always some."""
    own = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>"
        "{% if loop.last %}{{ '<think>' }}{% endif %}{{ m['content'].split('</think>')[-1] }}<|end|>"
        "{% else %}<|user|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    try:
        said = [
            {"role": "user", "content": "Di verde: verde"},
            {"role": "assistant", "content": "ajá</think>verde"},
            {"role": "user", "content": "¿y azul?"},
            {"role": "assistant", "content": "azul"},
        ]
        assert learnt(tokenizer, said) == "verde<|end|>|<think>azul<|end|>"
    finally:
        tokenizer.chat_template = own


@pytest.mark.parametrize(
    "row",
    [
        {"messages": SAID[1:3]},
        {"messages": json.dumps(SAID[1:3])},
        {
            "conversations": [
                {"from": "human", "value": "¿Qué tal?"},
                {"from": "gpt", "value": "Bien 😀, ¿y tú?"},
            ]
        },
        {"turns": ["¿Qué tal?", "Bien 😀, ¿y tú?"]},
        {"prompt": "¿Qué tal?", "completion": "Bien 😀, ¿y tú?"},
        {"instruction": "¿Qué tal?", "input": "", "output": "Bien 😀, ¿y tú?"},
        {"pregunta": "¿Qué tal?", "respuesta": "Bien 😀, ¿y tú?"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "¿Qué tal?"}]}, SAID[2]]},
        {"messages": [*SAID[1:3], {"role": "user", "content": "y nada más"}]},
        {"prompt": [SAID[1]], "completion": [SAID[2]]},
        {"prompt": [SAID[1]], "completion": "Bien 😀, ¿y tú?"},
    ],
)
def test_the_forms_of_the_field_are_one(row: dict[str, Any]) -> None:
    task = Chat().choose_columns(Table([row], tuple(row), "rows"))
    cleaned = task.clean(row)
    assert cleaned == {"messages": SAID[1:3]}
    assert task.reference(cleaned) == "Bien 😀, ¿y tú?"


def test_a_turn_of_no_weight_is_read_and_not_learnt(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [
        SAID[1],
        SAID[2] | {"weight": 0},
        SAID[1],
        {"role": "assistant", "content": "Mal."} | {"weight": 1},
    ]
    cleaned = Chat(messages="messages").clean({"messages": turns})
    assert cleaned is not None and learnt(tokenizer, cleaned["messages"]).startswith("Mal.")


def test_an_input_stands_behind_its_instruction_and_a_system_turn_at_the_head() -> None:
    row = {"instruction": "Traduce.", "input": "cat", "output": "gato"}
    task = Chat(system="Sé breve.").choose_columns(Table([row], tuple(row), "rows"))
    assert task.clean(row) == {
        "messages": [
            SAID[0],
            {"role": "user", "content": "Traduce.\n\ncat"},
            {"role": "assistant", "content": "gato"},
        ]
    }
    assert Chat(system="otro").clean({"messages": SAID}) == {"messages": SAID}
    beside = {"prompt": "¿Qué tal?", "completion": "Bien 😀, ¿y tú?", "system": "Sé breve."}
    for task in (
        Chat(prompt="prompt", completion="completion"),
        Chat(prompt="prompt", completion="completion", system="otro"),
    ):
        assert task.clean(beside) == {"messages": SAID[:3]}
    assert Chat(messages="m").clean({"m": SAID[1:3], "system": None}) == {"messages": SAID[1:3]}


def test_what_was_said_before_stands_before_the_prompt() -> None:
    row = {"instruction": "¿Y tú?", "output": "Yo no.", "history": [["¿Qué tal?", "Bien 😀, ¿y tú?"]]}
    task = Chat().choose_columns(Table([row], tuple(row), "rows"))
    asked = {"role": "user", "content": "¿Y tú?"}
    assert task.clean(row) == {"messages": [*SAID[1:3], asked, {"role": "assistant", "content": "Yo no."}]}
    assert task.ask(row)["messages"] == [*SAID[1:3], asked]


def test_what_begins_alike_need_not_stay_together() -> None:
    task, hello = Chat(), {"role": "user", "content": "Hola."}
    one, two = ({"messages": [hello, SAID[2], {"role": "user", "content": end}, SAID[4]]} for end in "ab")
    assert task.together(one) != task.together(two)
    assert task.together(one) == task.together({"messages": [hello, SAID[4], *one["messages"][2:]]})


def test_conversations_and_prompts_cannot_both_be_named() -> None:
    row = {"messages": SAID, "prompt": "a", "completion": "b"}
    with pytest.raises(InputError, match="--messages names whole conversations"):
        Chat(messages="messages", prompt="prompt").choose_columns(Table([row], tuple(row), "rows"))


def test_a_conversation_in_which_the_assistant_says_nothing_is_told_from_none() -> None:
    task, rows = Chat(messages="messages"), [{"messages": SAID}, {"messages": SAID[:2]}, {"messages": None}]
    cleaned = [row for row in map(task.clean, rows) if row]
    assert [note.rstrip(".").split()[-1] for note in task.remarks(rows, cleaned)] == ["1"]
    assert task.remarks(rows[::2], cleaned) == []


def test_rows_left_out_are_counted_once() -> None:
    rows: list[dict[str, Any]] = [{"messages": SAID}, {"messages": SAID[:2]}, {"messages": SAID[:2]}]
    rows += [{"messages": None}]
    for held, said in ((rows, [1, 2]), (rows[:3], [2]), (rows[:1], [])):
        notes: list[str] = []
        clean(Chat(messages="messages"), held, Table(held, ("messages",), "rows"), notes)
        assert [int(note.rstrip(".").split()[-1]) for note in notes] == said


@pytest.mark.parametrize(
    "row", [{"messages": []}, {"messages": None}, {"messages": SAID[:2]}, {"messages": "  "}]
)
def test_a_row_without_a_reply_is_left_out(row: dict[str, Any]) -> None:
    assert Chat(messages="messages").clean(row) is None


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}], "Turn 2 .* empty"),
        ([{"role": "robot", "content": "a"}], "Turn 1 .* 'robot'"),
        ([{"content": "a"}], "Turn 1 .* does not say whose it is"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}],
            "'image_url', which is no text",
        ),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "Turn 1 .* calls a tool"),
        ("hola", "'hola' is no conversation"),
        ([3], "3 is no conversation"),
    ],
)
def test_what_is_no_conversation_is_said(cell: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        messages(cell)


def test_a_row_that_the_template_refuses_is_told_by_file_and_number(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0]['content'] == 'dos' %}{{ raise_exception('no') }}{% endif %}x"
    )
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, prompts in zip(files, (["uno", "tres"], ["cuatro", "dos"]), strict=True):
        lines = (json.dumps({"prompt": prompt, "completion": "sí"}) for prompt in prompts)
        file.write_text("\n".join(lines), encoding="utf-8")
    row = {"messages": [{"role": "user", "content": "dos"}, {"role": "assistant", "content": "sí"}]}
    task = Chat(prompt="prompt", completion="completion")
    with (
        pytest.raises(InputError, match=r"b\.jsonl, row 2: The model's chat template refuses"),
        located(task, str(files[0]), None, str(files[1]), offline=True),
    ):
        task.encode([row], tokenizer, 64)


def test_a_role_order_that_the_template_refuses_is_said(tokenizer: PreTrainedTokenizerBase) -> None:
    own = tokenizer.chat_template
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    try:
        with pytest.raises(InputError, match=r"refuses a conversation of system, user.*roles must alternate"):
            Chat().tokens({"messages": SAID}, tokenizer)
    finally:
        tokenizer.chat_template = own


def test_what_a_person_asks(tokenizer: PreTrainedTokenizerBase) -> None:
    task = Chat()
    assert task.ask("hola")["messages"] == [{"role": "user", "content": "hola"}]
    assert task.ask(SAID)["messages"] == SAID[:4]
    assert task.ask({"prompt": "hola"})["messages"] == [{"role": "user", "content": "hola"}]
    with pytest.raises(InputError, match="nothing that the model could reply to"):
        task.ask("  ")
    (row,) = task.encode([task.ask("hola")], tokenizer, toys.LENGTH)
    assert tokenizer.decode(row["prompt"]) == "<|endoftext|><|user|>hola<|end|><|assistant|>"


def test_a_model_that_learnt_from_other_columns_is_asked_alike() -> None:
    for task in (Chat(messages="turns"), Chat(prompt="instruction", input="input", completion="output")):
        for given in (
            "hola",
            [{"role": "user", "content": "hola"}],
            {"prompt": "hola"},
            {"messages": ["hola"]},
        ):
            assert task.ask(given)["messages"] == [{"role": "user", "content": "hola"}]
    assert Chat(messages="turns").ask({"turns": ["hola"]})["messages"] == [
        {"role": "user", "content": "hola"}
    ]


def test_a_reply_ends_where_the_turn_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    assert set(Chat().stops(tokenizer)) == {
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<|end|>"),
    }


def test_drawn_replies_are_the_same_twice_and_leave_the_dice_as_they_were(tmp_path: Path) -> None:
    case = toys.case("chat-full", toys.build(tmp_path))
    task = case.task.replace(temperature=1.0, top_p=0.9)
    drawn = replace(case.bundle(case.model().eval()), task=task)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again = drawn.predict(["hola"]), drawn.predict(["hola"])
    assert first == again and torch.equal(before, torch.get_rng_state())


def test_icons_are_no_control_tokens(tokenizer: Any) -> None:
    """Fonts with icons use the first private plane; the last one is ours, and is read as what is not known."""
    said = [
        {"role": "user", "content": "\U000f0001 \U0010f001"},
        {"role": "assistant", "content": "\U000f0000"},
    ]
    task, row = Chat(messages="messages"), {"messages": said}
    cleaned = task.clean(row)
    assert [turn["content"] for turn in cleaned["messages"]] == ["\U000f0001 \ufffd", "\U000f0000"]
    ids, _learnt = task.tokens(cleaned, tokenizer)
    assert sum(token in tokenizer.all_special_ids for token in ids) == sum(
        token in tokenizer.all_special_ids
        for token in task.tokens(
            task.clean({"messages": [turn | {"content": "x"} for turn in said]}), tokenizer
        )[0]
    )


def test_what_no_template_and_no_text_can_be_made_of_is_said(tokenizer: Any) -> None:
    silent = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "chat_template", silent)
        with pytest.raises(InputError, match="does not write what the assistant says"):
            Chat(messages="messages").tokens({"messages": SAID}, tokenizer)
    with pytest.raises(InputError, match="is an object, not a text"):
        Chat(messages="messages").clean({"messages": [{"role": "user", "content": {"x": 1}}]})
