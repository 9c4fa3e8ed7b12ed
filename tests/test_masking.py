"""Masked words and next sentences as in BERT's paper (Devlin et al. 2019), counted over many tokens."""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import families
import toys
from afina.batching.plan import Plan, batches, generator
from afina.batching.windows import ELSEWHERE, FOLLOWS, NO_PAIR, Windows
from afina.data.corpus import Corpus
from afina.models.find import EMBEDDED
from afina.models.heads import hidden_states
from afina.models.load import load, load_tokenizer
from afina.models.pieces import pieces
from afina.names import ENCODER
from afina.tasks._masks import IGNORED
from afina.tasks.masked_lm import MaskedLm

TASK = MaskedLm()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toys.build(tmp_path_factory.mktemp("masking"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def numbered(place: Path, documents: int = 60) -> Corpus:
    """Return a corpus of which every token is its own place, so that a segment tells where it comes from."""
    rng = np.random.default_rng(0)
    sentences_of = rng.integers(1, 40, documents)
    lengths = rng.integers(1, 30, sentences_of.sum())
    np.arange(lengths.sum(), dtype=np.uint32).tofile(place / "tokens.bin")
    np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64).tofile(place / "sentences.bin")
    np.concatenate([[0], np.cumsum(sentences_of)]).astype(np.int64).tofile(place / "documents.bin")
    return Corpus(place, {"dtype": "uint32"})


def masked(rows, tokenizer, task=TASK, epoch=0):
    """Return the ids as they were, as the model sees them, and where a guess is asked for; padding left out."""
    whole, seen, asked = [], [], []
    for first in range(0, len(rows), 64):
        items = [(row, generator(0, epoch, i)) for i, row in enumerate(rows[first : first + 64], first)]
        tensors = task.collate(items, tokenizer).tensors
        real = tensors["attention_mask"].bool()
        ids, gold = tensors["input_ids"][real], tensors["labels"][real]
        whole.append(torch.where(gold == IGNORED, ids, gold))
        seen.append(ids)
        asked.append(gold != IGNORED)
    return torch.cat(whole).numpy(), torch.cat(seen).numpy(), torch.cat(asked).numpy()


def shares(whole, seen, asked, tokenizer):
    """Return in per cent the share of guessed tokens, and of these those that are [MASK], another, the same."""
    ordinary = ~np.isin(whole, tokenizer.all_special_ids)
    was, now = whole[asked], seen[asked]
    hidden = now == tokenizer.mask_token_id
    fates = (hidden.mean(), (~hidden & (now != was)).mean(), (now == was).mean())
    return 100 * asked.sum() / ordinary.sum(), [100 * share for share in fates]


def random_rows(tokenizer, tokens, longest=100):
    rng = np.random.default_rng(0)
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    lengths = rng.integers(10, longest, 2 * tokens // longest)
    return [{"segments": [rng.choice(ordinary, length)]} for length in lengths]


@pytest.mark.parametrize("task", [TASK, MaskedLm(whole_word_masking=True)], ids=["tokens", "words"])
def test_of_fifteen_per_cent_most_are_hidden_some_changed_some_left(task, tokenizer):
    whole, seen, asked = masked(random_rows(tokenizer, 1_000_000, longest=500), tokenizer, task)
    assert len(whole) > 1_000_000
    share, fates = shares(whole, seen, asked, tokenizer)
    assert share == pytest.approx(15, abs=0.1)
    assert fates == pytest.approx([80, 10, 10], abs=0.3)
    special = np.isin(whole, tokenizer.all_special_ids)
    assert special.any() and not asked[special].any()
    changed = seen[asked & (seen != whole) & (seen != tokenizer.mask_token_id)]
    assert not np.isin(changed, tokenizer.all_special_ids).any()
    assert len(set(changed)) > 0.8 * len(tokenizer), "random tokens come from the whole vocabulary"
    assert (seen[~asked] == whole[~asked]).all()


def test_all_tokens_of_a_word_are_chosen_or_none(tokenizer):
    rows = random_rows(tokenizer, 50_000)
    on = np.array(
        [token.startswith("##") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    )
    whole, _seen, asked = masked(rows, tokenizer, MaskedLm(whole_word_masking=True, mlm_probability=0.4))
    after = np.flatnonzero(on[whole] & ~np.isin(np.roll(whole, 1), tokenizer.all_special_ids))
    assert len(after) > 10_000
    assert (asked[after] == asked[after - 1]).all()
    share, _fates = shares(whole, _seen, asked, tokenizer)
    assert share == pytest.approx(40, abs=0.3)
    # Long words are drawn as often as short ones, each token as often as any other.
    _plain, _seen, others = masked(rows, tokenizer, MaskedLm(mlm_probability=0.4))
    assert not (others[after] == others[after - 1]).all()
    assert asked[after].mean() == pytest.approx(0.4, abs=0.02)
    one = [{"segments": [[*np.flatnonzero(~on)[-1:], *np.flatnonzero(on)[:6]]]}] * 50
    _whole, _seen, asked = masked(one, tokenizer, MaskedLm(whole_word_masking=True))
    assert asked.sum() == 50 * 7, "a row of one word is guessed whole"


@pytest.mark.parametrize(
    ("family", "text", "words"),
    [
        ("BERT", "supercalifragilístico, ¿dónde", ["supercalifragilístico", ",", "¿", "dónde"]),
        ("RoBERTa", "supercalifragilístico, ¿dónde", ["supercalifragilístico", ",", " ¿", "dónde"]),
        ("XLM-R", "supercalifragilístico, ¿dónde", ["supercalifragilístico", ",", "¿", "dónde"]),
    ],
)
def test_where_words_begin_by_family(family, text, words):
    tokenizer = families.tokenizer(families.FAMILIES[family])
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    starts = np.flatnonzero(pieces(tokenizer).starts(ids))
    found = [tokenizer.decode(part) for part in np.split(ids, starts[1:])]
    assert len(ids) > len(words) and found == words


def test_the_share_can_be_chosen_and_a_short_row_has_one_guess(tokenizer):
    rows = random_rows(tokenizer, 20_000)
    share, _fates = shares(*masked(rows, tokenizer, MaskedLm(mlm_probability=0.4)), tokenizer)
    assert share == pytest.approx(40, abs=0.5)
    _whole, _seen, asked = masked([{"segments": [[300, 301]]}] * 50, tokenizer)
    assert asked.sum() == 50


def test_unknown_words_and_signs_of_the_tokenizer_are_no_guesses(tokenizer):
    unknown, mask = tokenizer.unk_token_id, tokenizer.mask_token_id
    whole, _seen, asked = masked([{"segments": [[unknown, 300, mask, 301]]}] * 50, tokenizer)
    assert set(whole[asked]) == {300, 301}
    _whole, _seen, asked = masked([{"segments": [[unknown, unknown]]}], tokenizer)
    assert not asked.any()


def test_masks_are_drawn_anew_every_epoch_and_are_the_same_when_asked_again(tokenizer):
    rows = random_rows(tokenizer, 2000)
    plan = Plan([TASK.length(row) for row in rows], 8, 400)
    assert plan.steps_per_epoch == 5

    def epoch(number, plan=plan):
        """Return what is hidden in each row, whatever batch it came in."""
        collate = partial(TASK.collate, tokenizer=tokenizer)
        start = number * plan.steps_per_epoch
        found = {}
        for step, micro in enumerate(
            batches(plan, rows, collate, start, start + plan.steps_per_epoch), start
        ):
            for keys, batch in zip(plan.micro_batches(step), micro, strict=True):
                for (_epoch, row), ids, gold in zip(
                    keys, batch.tensors["input_ids"], batch.tensors["labels"], strict=True
                ):
                    n = plan.lengths[row]
                    found[row] = (*ids[:n].tolist(), *gold[:n].tolist())
        return found

    first, second = epoch(0), epoch(1)
    assert len(first) == 40 and first == epoch(0)
    assert sum(first[row] == second[row] for row in first) == 0
    assert first == epoch(0, Plan(plan.lengths, 8, 1)), "how a step is cut must not move a mask"
    assert first != epoch(0, Plan(plan.lengths, 8, 400, seed=1))


def test_segments_and_their_numbers(tokenizer):
    pair, single = {"segments": [[300, 301, 302], [303, 304]]}, {"segments": [[305]]}
    batch = TASK.collate([(pair, generator(0, 0, 0)), (single, generator(0, 0, 1))], tokenizer)
    whole = torch.where(
        batch.tensors["labels"] == IGNORED, batch.tensors["input_ids"], batch.tensors["labels"]
    )
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    assert whole.tolist() == [
        [cls, 300, 301, 302, sep, 303, 304, sep],
        [cls, 305, sep, pad, pad, pad, pad, pad],
    ]
    assert batch.tensors["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0] * 8]
    assert batch.tensors["attention_mask"].tolist() == [[1] * 8, [1] * 3 + [0] * 5]
    assert batch.tensors["next"].tolist() == [NO_PAIR, NO_PAIR]
    assert batch.tokens == 11 == TASK.length(pair) + TASK.length(single)
    assert batch.counts == {"mlm": 2.0, "nsp": 0.0}


def next_sentences(corpus, windows, draws):
    """Draw pairs, check each against the corpus, and return how many follow and how many do not."""
    found: Counter[int] = Counter()
    starts = np.asarray(corpus.sentences)[np.asarray(corpus.documents)]

    def document(token):
        return int(np.searchsorted(starts, token, "right")) - 1

    for i in range(draws):
        row = i % len(windows)
        segments, follows = windows[row]["draw"](generator(0, i // len(windows), row), True)
        found[follows] += 1
        for segment in segments:
            assert (np.diff(segment.astype(np.int64)) == 1).all(), "a segment is one stretch"
            assert document(segment[0]) == document(segment[-1]), "of one document"
        assert sum(map(len, segments)) + 3 <= windows.room + 3
        assert segments[0][0] == windows.starts[row]
        if follows == FOLLOWS:
            assert segments[1][0] == segments[0][-1] + 1 and segments[1][-1] + 1 == windows.ends[row]
        elif follows == ELSEWHERE:
            assert document(segments[1][0]) != document(segments[0][0])
            assert windows.chosen[document(segments[1][0])]
        else:
            assert len(segments) == 1
    return found


def test_half_of_the_pairs_follow_and_the_rest_come_from_other_documents(tmp_path):
    corpus = numbered(tmp_path)
    chosen = np.arange(len(corpus)) % 3 > 0
    windows = Windows(corpus, 61, chosen)
    found = next_sentences(corpus, windows, 6000)
    pairs = found[FOLLOWS] + found[ELSEWHERE]
    assert pairs > 0.95 * found.total()
    assert 100 * found[FOLLOWS] / pairs == pytest.approx(50, abs=1.5)


def test_the_sentences_of_other_documents_are_drawn_alike_and_at_once(tmp_path):
    """One draw, however much of the text its own document is, and each of the others' sentences as often."""
    ends = [0, 2000, 2003, 2004, 2010]  # sentences; the third document is not chosen
    np.arange(20_100, dtype=np.uint32).tofile(tmp_path / "tokens.bin")
    (10 * np.arange(2011)).astype(np.int64).tofile(tmp_path / "sentences.bin")
    np.array(ends, dtype=np.int64).tofile(tmp_path / "documents.bin")
    windows = Windows(Corpus(tmp_path, {"dtype": "uint32"}), 61, np.array([True, True, False, True]))
    draws = Counter()

    class Draw:
        def __init__(self, place):
            self.rng = np.random.default_rng(place)

        def integers(self, high):
            draws["all"] += 1
            return self.rng.integers(high)

    for place in range(9000):
        second = windows._elsewhere(500, 10, 20, Draw(place))
        draws[int(second[0]) // 10] += 1
    assert draws.pop("all") == 9000
    assert sorted(draws) == [2000, 2001, 2002, *range(2004, 2010)]
    assert min(draws.values()) > 850 and max(draws.values()) < 1150
    last = {int(windows._elsewhere(20_070, 10, 20, Draw(place))[0]) // 10 for place in range(9000)}
    assert min(last) < 20 and max(last) == 2002


def test_a_document_alone_gives_no_pairs(tmp_path):
    corpus = numbered(tmp_path)
    windows = Windows(corpus, 61, np.arange(len(corpus)) == 2)
    assert next_sentences(corpus, windows, 50) == {NO_PAIR: 50}


def test_the_windows_hold_every_token_of_the_chosen_documents_once(tmp_path):
    corpus = numbered(tmp_path)
    chosen = np.arange(len(corpus)) % 3 > 0
    windows = Windows(corpus, 61, chosen)
    held = [
        token for start, end in zip(windows.starts, windows.ends, strict=True) for token in range(start, end)
    ]
    wanted = [int(t) for d in np.flatnonzero(chosen) for s in corpus.document(d) for t in s]
    assert held == wanted
    assert max(windows.lengths()) <= 64
    assert windows.lengths() == [TASK.length(windows[i]) for i in range(len(windows))]


def test_length_does_not_tell_whether_b_follows(tmp_path):
    windows = Windows(numbered(tmp_path), 61)
    lengths = {FOLLOWS: [], ELSEWHERE: [], NO_PAIR: []}
    for i in range(6000):
        row = i % len(windows)
        segments, follows = windows[row]["draw"](generator(0, i // len(windows), row), True)
        lengths[follows].append(len(segments[-1]))
    follows, elsewhere = np.array(lengths[FOLLOWS]), np.array(lengths[ELSEWHERE])
    assert abs(follows.mean() - elsewhere.mean()) < 0.15 * follows.mean()


def test_half_of_the_short_rows_begin_at_a_later_position(tmp_path, tokenizer):
    corpus, reach = numbered(tmp_path), 40
    windows, plain = Windows(corpus, 13, reach=reach), Windows(corpus, 13)
    ours, same = (
        TASK.collate([(rows[i], generator(0, 0, i)) for i in range(400)], tokenizer).tensors
        for rows in (windows, plain)
    )
    assert "position_ids" not in same, "rows that leave nothing free begin at the first position"
    assert torch.equal(ours["input_ids"], same["input_ids"]), "where a row begins changes no mask"
    begins = ours["position_ids"][:, 0]
    assert (ours["position_ids"] - begins[:, None] == torch.arange(ours["input_ids"].shape[1])).all()
    assert int((begins == 0).sum()) == pytest.approx(208, abs=40)
    assert set((begins + 16).tolist()) == set(range(16, reach + 1)), "every position is reached, none beyond"


@pytest.mark.parametrize(
    "family", [name for name, family in families.FAMILIES.items() if family.head == families.ENCODER]
)
def test_telling_the_positions_that_a_row_has_anyhow_changes_nothing(family, tmp_path):
    """RoBERTa's first position has not the number 0."""
    model = load(families.build(family, tmp_path / family), "AutoModelForMaskedLM").eval()
    ids = torch.tensor([[5, 9, 7, 6]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        plain = hidden_states(model, given)
        told = hidden_states(model, given | {"position_ids": torch.arange(4)[None]})
    torch.testing.assert_close(told, plain)


def test_the_vocabulary_is_projected_at_hidden_places_only(folder, tokenizer):
    model = load(folder, MaskedLm.head)
    rows: list[int] = []
    model.cls.predictions.register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    batch = TASK.collate(
        [(row, generator(0, 0, i)) for i, row in enumerate(random_rows(tokenizer, 400, 25))], tokenizer
    )
    assert 0 < batch.counts["mlm"] < batch.tokens / 4
    TASK.loss(model, batch)
    TASK.answer(model, batch)
    assert rows == [batch.counts["mlm"]] * 2


def test_the_loss_is_that_of_all_logits_at_the_hidden_places(folder, tokenizer):
    model = load(folder, MaskedLm.head, dropout=0.0)
    windows = Windows(Corpus.open(folder / "corpus"), toys.LENGTH - 3)
    batch = TASK.collate([(windows[i], generator(0, 0, i)) for i in range(8)], tokenizer)
    terms = TASK.loss(model, batch)
    inputs = {name: batch.tensors[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    plain = model(**inputs, labels=batch.tensors["labels"], next_sentence_label=batch.tensors["next"])
    means = [float(terms[name].sum.detach()) / batch.counts[name] for name in ("mlm", "nsp")]
    assert sum(means) == pytest.approx(plain.loss.item(), rel=1e-5)


@pytest.mark.prove
def test_a_million_real_tokens_are_masked_and_paired_as_in_the_paper(shared_data, tmp_path):
    source = EMBEDDED / ENCODER.removeprefix("afina/")
    tokenizer = load_tokenizer(source)
    files = [
        shared_data / "pretrain" / name for name in ("es_modern.valid.txt", "es.valid.txt", "en.valid.txt.xz")
    ]
    corpus = Corpus.build(files, tokenizer, tmp_path / "real")
    windows = Windows(corpus, 125)
    draws: Counter[int] = Counter()
    parts, tokens, epoch = [], 0, 0
    while tokens < 1_000_000:
        rows = [windows[i] for i in range(len(windows))]
        part = masked(rows, tokenizer, epoch=epoch)
        parts.append(part)
        tokens, epoch = tokens + len(part[0]), epoch + 1
    whole, seen, asked = (np.concatenate(column) for column in zip(*parts, strict=True))
    share, fates = shares(whole, seen, asked, tokenizer)
    assert share == pytest.approx(15, abs=0.1)
    assert fates == pytest.approx([80, 10, 10], abs=0.3)
    assert not asked[np.isin(whole, tokenizer.all_special_ids)].any()

    for i in range(100_000):
        row = i % len(windows)
        draws[windows[row]["draw"](generator(0, i // len(windows), row), True)[1]] += 1
    assert 100 * draws[FOLLOWS] / (draws[FOLLOWS] + draws[ELSEWHERE]) == pytest.approx(50, abs=0.5)

    (tmp_path / "numbered").mkdir()
    known = numbered(tmp_path / "numbered", 600)
    found = next_sentences(known, Windows(known, 125), 100_000)
    assert 100 * found[FOLLOWS] / (found[FOLLOWS] + found[ELSEWHERE]) == pytest.approx(50, abs=0.5)
    print(json.dumps({"tokens": tokens, "share": share, "fates": fates, "pairs": dict(draws)}))
