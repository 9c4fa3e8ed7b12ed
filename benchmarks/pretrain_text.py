"""Build the pre-training text of the embedded models and record what went into it.

Reads the shared data (``--data``, never committed) and writes ``train.txt``, ``valid.txt``,
``valid.es.txt`` and ``valid.en.txt`` (one paragraph a line, a blank line between documents) into
``--out``, and the record of the run into ``benchmarks/results/pretrain-text.json``.

Decontamination follows Brown et al. (2020): text that shares a 13-gram of words with a row of an
evaluation set is left out. A row of 8 to 12 words counts as one n-gram of its own length; shorter
rows cannot be told from ordinary language and are not compared. Of a document of at most
``LONG_DOCUMENT`` characters the whole is dropped, of a longer one only the paragraphs that match.

    python benchmarks/pretrain_text.py
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import lzma
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SEED = 20
LONG_DOCUMENT = 20_000
GRAM = 13
SHORTEST_ROW = 8
VOCABULARY = 16_384
TOKENIZER_MEGABYTES = 80.0
STEPS = ["text", "tokenizer", "encode"]

# Megabytes of each kind of text. A kind with less text than this gives all it has.
MIXTURE = {
    "es_parliament_and_textbooks": 80.0,
    "es_microsoft_docs": 22.0,
    "es_novels": 32.0,
    "en_wikipedia": 42.0,
    "en_novels": 9.0,
    "en_reviews": 9.0,
    "en_dialogues": 5.0,
}
VALID = {"es.valid.txt": 0.5, "es_modern.valid.txt": 0.5, "en.valid.txt.xz": 0.9}
VALID_MODERN_ENGLISH = 0.1

EVALUATION = {
    "sst2": ["train.csv.xz", "dev.csv"],
    "tweet_sentiment_es": ["train.csv", "dev.csv", "test.csv"],
    "tweet_sentiment_en": ["train.csv", "dev.csv", "test.csv"],
    "banking77": ["train.csv", "test.csv"],
    "imdb": ["train.csv.xz", "test.csv.xz"],
    "ag_news_part": ["train.csv.xz", "test.csv.xz"],
    "trec": ["train.csv", "test.csv"],
    "sms_spam": ["data.csv"],
    "squad_v11_dev": ["dev-v1.1.minus_xquad.json.xz"],
    "squad_es_dev": ["dev-v1.1-es_small.minus_xquad.json.xz", "dev-v2.0-es_small.minus_xquad.json.xz"],
    "xnli_es": ["dev.csv", "test.csv", "esxnli.csv"],
    "xnli_en": ["dev.csv", "test.csv", "esxnli.csv"],
    "mrpc": ["train.csv", "test.csv"],
    "rte": ["train.csv", "dev.csv"],
    "cola": ["train.csv", "dev.csv"],
    "stsb": ["train.csv", "dev.csv", "test.csv"],
}
TEXT_COLUMNS = ("text", "sentence1", "sentence2")

MICROSOFT = re.compile(
    r"Microsoft|Dynamics|Business Central|Visual Studio|Skype|Lync|SharePoint|Azure|Power BI|VSPackage"
)
NOVEL_ENGLISH = re.compile(r"\b(?:I|you|me|my|your|said|she|her|upon|Mr|Mrs|thou)\b")
LOWER_CASE_END = re.compile(r"([.!?]) (?=[a-z\"(])")
WORD = re.compile(r"[^\W_]+")


def read(path: Path) -> str:
    """The text of a file, plain or ``.xz``, in Unicode form C."""
    raw = path.read_bytes()
    text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    return unicodedata.normalize("NFC", text)


def documents(path: Path) -> list[str]:
    return [document for document in read(path).strip("\n").split("\n\n") if document.strip()]


def spanish_kind(document: str) -> str:
    """The Microsoft pages of es.txt and es_modern.txt overlap; those of es.txt are told and left out."""
    return "es_microsoft_docs" if len(MICROSOFT.findall(document)) else "es_novels"


def modern_spanish_kind(document: str) -> str:
    return "es_microsoft_docs" if MICROSOFT.search(document) else "es_parliament_and_textbooks"


def english_kind(document: str) -> str:
    """Novels speak in the first and second person; an encyclopedia hardly does.

    The index of the collection gives sources by book and article, not by document of the text, so
    documents are told apart by the share of such words (see ``english_kinds`` in the record).
    """
    share = len(NOVEL_ENGLISH.findall(document)) / max(1, document.count(" "))
    return "en_novels" if share > 0.022 else "en_wikipedia"


def modern_english_kind(document: str) -> str:
    """A dialogue is many short turns, one a line; a review is one line, or long ones."""
    lines = document.split("\n")
    dialogue = len(lines) >= 4 and len(document) / len(lines) < 120 and document != document.lower()
    return "en_dialogues" if dialogue else "en_reviews"


FILES: dict[str, Callable[[str], str]] = {
    "es_modern.txt.xz": modern_spanish_kind,
    "es.txt.xz": spanish_kind,
    "en.txt.xz": english_kind,
    "en_modern.txt.xz": modern_english_kind,
}


def evaluation_rows(folder: Path, name: str) -> Iterator[str]:
    path = folder / name
    text = read(path)
    if ".json" in path.name:
        for article in json.loads(text)["data"]:
            for paragraph in article["paragraphs"]:
                yield paragraph["context"]
                yield from (question["question"] for question in paragraph["qas"])
        return
    for row in csv.DictReader(io.StringIO(text)):
        yield from (row[column].replace("<br />", " ") for column in TEXT_COLUMNS if row.get(column))


class Vocabulary(dict[str, int]):
    """Numbers words in order of appearance."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def mix(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al., 2014): spreads small numbers over 64 bits."""
    z = numbers.astype(np.uint64) + np.uint64(1)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Grams:
    """64-bit hashes of the n-grams of words of the evaluation sets."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.sets: list[str] = []
        self._parts: list[tuple[np.ndarray, int]] = []
        self.hashes = np.empty(0, np.uint64)
        self.owners = np.empty(0, np.uint32)
        self._seen = np.zeros(1 << 26, bool)

    def _words(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Word hashes of all texts end to end, and the number of words of each."""
        words = [WORD.findall(text.lower()) for text in texts]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        number = self.vocabulary.__getitem__
        numbers = np.fromiter((number(w) for text in words for w in text), np.int64, int(lengths.sum()))
        return mix(numbers), lengths

    @staticmethod
    def _rolling(words: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """For n from SHORTEST_ROW to GRAM: the hash of the n words starting at each position."""
        base, factor = np.uint64(0xD6E8FEB86659FD93), 1
        hashes = words.copy()
        for n in range(2, GRAM + 1):
            factor = factor * int(base) % 2**64
            hashes = hashes[:-1] + words[n - 1 :] * np.uint64(factor)
            if n >= SHORTEST_ROW:
                yield n, mix(hashes + np.uint64(n))

    def add(self, name: str, rows: list[str]) -> None:
        words, lengths = self._words(rows)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        remaining = np.repeat(ends, lengths) - np.arange(len(words))
        if name not in self.sets:
            self.sets.append(name)
        owner = self.sets.index(name)
        for n, hashes in self._rolling(words):
            if n < GRAM:
                chosen = hashes[starts[lengths == n]]
            else:
                chosen = hashes[remaining[: len(hashes)] >= GRAM]
            self._parts.append((np.unique(chosen), owner))

    def close(self) -> None:
        """Sort the hashes; ``owners`` holds a bit for each evaluation set that has the n-gram."""
        every = np.concatenate([hashes for hashes, _ in self._parts])
        bits = np.concatenate([np.full(len(h), 1 << owner, np.uint32) for h, owner in self._parts])
        order = np.argsort(every, kind="stable")
        every, bits = every[order], bits[order]
        first = np.concatenate([[True], every[1:] != every[:-1]])
        self.hashes = every[first]
        self.owners = np.bitwise_or.reduceat(bits, np.flatnonzero(first))
        self._seen[self.hashes >> np.uint64(38)] = True

    def match(self, paragraphs: list[str]) -> np.ndarray:
        """For each paragraph the bits of the evaluation sets it shares an n-gram with."""
        words, lengths = self._words(paragraphs)
        found = np.zeros(len(paragraphs), np.uint32)
        owner = np.repeat(np.arange(len(paragraphs)), lengths)
        remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
        for n, hashes in self._rolling(words):
            likely = np.flatnonzero(self._seen[hashes >> np.uint64(38)] & (remaining[: len(hashes)] >= n))
            place = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
            same = self.hashes[place] == hashes[likely]
            np.bitwise_or.at(found, owner[likely[same]], self.owners[place[same]])
        return found


def clean(chosen: list[str], grams: Grams) -> tuple[list[str], dict[str, object]]:
    """The documents without what the evaluation sets hold, and the count of what was left out."""
    kept: list[str] = []
    dropped_documents = dropped_paragraphs = dropped_bytes = 0
    by_set: Counter[str] = Counter()
    for start in range(0, len(chosen), 2000):
        batch = [document.split("\n") for document in chosen[start : start + 2000]]
        found = grams.match([paragraph for document in batch for paragraph in document])
        position = 0
        for paragraphs in batch:
            marks = found[position : position + len(paragraphs)]
            position += len(paragraphs)
            document = "\n".join(paragraphs)
            if not marks.any():
                kept.append(document)
                continue
            bits = int(np.bitwise_or.reduce(marks))
            by_set.update(name for i, name in enumerate(grams.sets) if bits >> i & 1)
            if len(document) <= LONG_DOCUMENT:
                dropped_documents += 1
                dropped_bytes += len(document.encode())
                continue
            rest = "\n".join(p for p, mark in zip(paragraphs, marks, strict=True) if not mark)
            dropped_paragraphs += int((marks != 0).sum())
            dropped_bytes += len(document.encode()) - len(rest.encode())
            if rest:
                kept.append(rest)
    return kept, {
        "documents_dropped": dropped_documents,
        "paragraphs_dropped_from_longer_documents": dropped_paragraphs,
        "bytes_dropped": dropped_bytes,
        "documents_touched_by_evaluation_set": dict(sorted(by_set.items())),
    }


def sentence_lines(document: str) -> str:
    """The film reviews are one lower-case line each, which no splitter cuts: a line for each sentence."""
    return LOWER_CASE_END.sub(r"\1\n", document) if document == document.lower() else document


def take(pool: list[str], megabytes: float, rng: random.Random) -> list[str]:
    """Documents at random, without repetition, up to the size."""
    rng.shuffle(pool)
    chosen, size = [], 0
    for document in pool:
        if size >= megabytes * 1e6:
            break
        chosen.append(document)
        size += len(document.encode())
    return chosen


def write(path: Path, texts: list[str]) -> int:
    data = ("\n\n".join(texts) + "\n").encode("utf-8")
    path.write_bytes(data)
    return len(data)


def build_text(data: Path, out: Path) -> dict[str, object]:
    """Choose, clean, shuffle and write the texts."""
    started = time.perf_counter()
    rng = random.Random(SEED)

    grams = Grams()
    for name, files in EVALUATION.items():
        for file in files:
            grams.add(name, list(evaluation_rows(data / name, file)))
    grams.close()
    print(f"{len(grams.hashes):,} n-grams of {len(EVALUATION)} sets, {time.perf_counter() - started:.0f} s")

    pools: dict[str, list[str]] = {kind: [] for kind in MIXTURE}
    for file, kind_of in FILES.items():
        for document in documents(data / "pretrain" / file):
            kind = kind_of(document)
            if not (file == "es.txt.xz" and kind == "es_microsoft_docs"):
                pools[kind].append(document)
    modern = sorted(pools["en_reviews"] + pools["en_dialogues"])
    unseen = take(modern, VALID_MODERN_ENGLISH, rng)
    held_out = set(unseen)
    record_sources: dict[str, dict[str, object]] = {}
    train: list[str] = []
    for kind, megabytes in MIXTURE.items():
        pool = [document for document in pools[kind] if document not in held_out]
        available = sum(len(document.encode()) for document in pool)
        chosen = take(pool, megabytes, rng)
        kept, removed = clean(chosen, grams)
        train += map(sentence_lines, kept)
        record_sources[kind] = {
            "megabytes_wanted": megabytes,
            "documents_available": len(pool),
            "bytes_available": available,
            "documents_taken": len(chosen),
            "bytes_taken": sum(len(document.encode()) for document in chosen),
            **removed,
            "documents": len(kept),
            "bytes": sum(len(document.encode()) for document in kept),
        }
        print(kind, record_sources[kind], f"{time.perf_counter() - started:.0f} s")
    rng.shuffle(train)

    valid: dict[str, list[str]] = {"es": [], "en": [sentence_lines(document) for document in unseen]}
    for file, megabytes in VALID.items():
        valid[file[:2]] += take(documents(data / "pretrain" / file), megabytes, rng)
    out.mkdir(parents=True, exist_ok=True)
    sizes = {
        "train.txt": write(out / "train.txt", train),
        "valid.es.txt": write(out / "valid.es.txt", valid["es"]),
        "valid.en.txt": write(out / "valid.en.txt", valid["en"]),
        "valid.txt": write(out / "valid.txt", valid["es"] + valid["en"]),
    }
    return {
        "seed": SEED,
        "n_gram_words": GRAM,
        "shortest_row_compared_words": SHORTEST_ROW,
        "long_document_characters": LONG_DOCUMENT,
        "mixture_megabytes": MIXTURE,
        "evaluation_files": EVALUATION,
        "evaluation_n_grams": len(grams.hashes),
        "valid_megabytes": {**VALID, "en_modern.txt.xz (taken out of train)": VALID_MODERN_ENGLISH},
        "sources": record_sources,
        "documents": {"train.txt": len(train), **{f"valid.{k}.txt": len(v) for k, v in valid.items()}},
        "bytes": sizes,
        "seconds": round(time.perf_counter() - started, 1),
    }


def balanced(path: Path, megabytes: float) -> Iterator[str]:
    """Paragraphs of the file, whole documents, until each language has given half of the size."""
    wanted = {"es": megabytes * 5e5, "en": megabytes * 5e5}
    with path.open(encoding="utf-8") as lines:
        for blank, group in itertools.groupby(lines, key=lambda line: line == "\n"):
            if blank:
                continue
            paragraphs = list(group)
            start = f" {' '.join(paragraphs[:20])} ".lower()
            language = "en" if start.count(" the ") > start.count(" de ") else "es"
            if wanted[language] > 0:
                wanted[language] -= sum(len(paragraph.encode()) for paragraph in paragraphs)
                yield from paragraphs
            if max(wanted.values()) <= 0:
                return


def train_tokenizer(folder: Path) -> dict[str, object]:
    """Learn the tokenizer on a sample of both languages and measure it on unseen text."""
    from afina.models.wordpiece import train_wordpiece

    started = time.perf_counter()
    tokenizer = train_wordpiece(balanced(folder / "train.txt", TOKENIZER_MEGABYTES), VOCABULARY)
    tokenizer.save_pretrained(folder / "tokenizer")
    backend = tokenizer.backend_tokenizer
    record: dict[str, object] = {
        "tokens": len(tokenizer),
        "sample_megabytes": TOKENIZER_MEGABYTES,
        "seconds": round(time.perf_counter() - started, 1),
    }
    for language in ("es", "en"):
        lines = (folder / f"valid.{language}.txt").read_text(encoding="utf-8").splitlines()
        words = sum(len(WORD.findall(line)) for line in lines)
        pieces = unknown = 0
        for encoding in backend.encode_batch(lines, add_special_tokens=False):
            pieces += sum(token.lstrip("#")[:1].isalnum() for token in encoding.tokens)
            unknown += encoding.ids.count(tokenizer.unk_token_id)
        record[f"valid.{language}"] = {
            "words": words,
            "pieces_per_word": round(pieces / words, 4),
            "unknown": unknown,
        }
    return record


def encode(folder: Path) -> dict[str, object]:
    """Encode the texts into memory-mapped corpora."""
    from transformers import AutoTokenizer

    from afina.data.corpus import Corpus

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    record: dict[str, object] = {}
    for name, target in {**{f"valid{x}": f"valid{x}" for x in ("", ".es", ".en")}, "train": "corpus"}.items():
        started = time.perf_counter()
        corpus = Corpus.build([folder / f"{name}.txt"], tokenizer, folder / target)
        record[target] = {
            "tokens": len(corpus.tokens),
            "sentences": len(corpus.sentences) - 1,
            "documents": len(corpus.documents) - 1,
            "seconds": round(time.perf_counter() - started, 1),
        }
    return record


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("steps", nargs="*", choices=STEPS, default=STEPS)
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=root / ".work" / "pretrain")
    parser.add_argument("--record", type=Path, default=root / "benchmarks/results/pretrain-text.json")
    arguments = parser.parse_args()
    record = json.loads(arguments.record.read_text(encoding="utf-8")) if arguments.record.is_file() else {}
    for step in arguments.steps:
        if step == "text":
            record["text"] = build_text(arguments.data, arguments.out)
        elif step == "tokenizer":
            record["tokenizer"] = train_tokenizer(arguments.out)
        else:
            record["corpora"] = encode(arguments.out)
        print(step, json.dumps(record["corpora" if step == "encode" else step], indent=2))
        record = {
            "command": "python benchmarks/pretrain_text.py",
            "python": sys.version.split()[0],
            **{key: record[key] for key in ("text", "tokenizer", "corpora") if key in record},
        }
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
