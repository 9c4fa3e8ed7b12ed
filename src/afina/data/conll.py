"""CoNLL and CoNLL-U: a word a line, what is said of it in columns, a blank line after each sentence."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from afina.core import Row, Table
from afina.data import records
from afina.errors import InputError
from afina.messages import _

TAG = re.compile(r"O|[BIESLUM]-\S+")
MARK = "-DOCSTART-"  # begins a document and is no word
FIELDS = {"form": 1, "lemma": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}  # of CoNLL-U, by their cell
WIDTH = 10  # cells of CoNLL-U
LOOKED_AT = 2000  # lines, to tell whether a file without a known ending is CoNLL
NEARLY_ALL = 0.9  # of the rows

Line = tuple[int, list[str]]  # its number in the file, from 1, and its cells


def is_conll(text: str) -> bool:
    """Return whether all lines have as many cells and end with a tag (O, B-…, I-…), or are those of CoNLL-U."""
    lines = [line for line in islice(_lines(text), LOOKED_AT) if line.strip() and line[0] != "#"][:-1]
    cells = [line.split() for line in lines if not line.startswith(MARK)]
    if not cells:
        return False
    if _is_universal(lines[0]):
        return True
    tags = {line[-1] for line in cells}
    return len({len(line) for line in cells}) == 1 < len(cells[0]) and tags != {"O"} and _all_tags(tags)


def parse(text: str, source: str, notes: list[str]) -> Table:
    """Return one row a sentence, each column a list with an entry a word.

    Columns of CoNLL are called by their number, `1` the first; those of CoNLL-U `form`, `lemma`, `upos` …, beside
    `text`, the sentence as it was written. A word that CoNLL-U takes apart (`del`: `de` and `el`) stays whole and has
    the parts' tags joined by `+`. Lines with -DOCSTART- and comments are left out. InputError with the line where
    the number of cells changes or a cell is empty.
    """
    lines = _lines(text)
    first = next(
        (line for line in lines if line.strip() and line[0] != "#" and not line.startswith(MARK)), ""
    )
    universal = (
        source.lower().removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2").endswith(".conllu")
    )
    if universal or _is_universal(first):
        return records.table(list(_universal(lines, source)), source, notes)
    sentences = list(_plain(lines, first, source))
    found = records.table([_columns(words) for _line, words in sentences], source, notes)
    return replace(found, lines=tuple(line for line, _words in sentences))


def words(table: Table, columns: Sequence[str]) -> str | None:
    """Return the first of `columns` that does more than count the words of each row."""
    return next((column for column in columns if not _counts(table, column)), None)


def _lines(text: str) -> list[str]:
    """Return the lines of a text; where most end with a lone carriage return, all of those end one."""
    if "\r" in text:
        text = re.sub(r"\r+\n", "\n", text)
        if text.count("\r") >= text.count("\n"):
            text = text.replace("\r", "\n")
    return text.split("\n")


def _all_tags(tags: set[str]) -> bool:
    return all(TAG.fullmatch(tag) for tag in tags)


def _is_universal(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) == WIDTH and bool(re.fullmatch(r"1|1-\d+|0\.1", cells[0]))


def _plain(lines: Sequence[str], first: str, source: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield each sentence's first line and the cells of all its lines, which follow each other without a gap."""
    separator = re.compile(r"\t" if "\t" in first else r"[ \t]+")
    cells = [[cell.strip(" ") for cell in separator.split(line.rstrip())] for line in lines]
    marks = [found[0].split(" ")[0] == MARK for found in cells]
    width, tags = _usual(
        [found for found, mark in zip(cells, marks, strict=True) if found != [""] and not mark]
    )
    sentence: list[list[str]] = []
    for number, (found, mark) in enumerate(zip(cells, marks, strict=True), 1):
        # A comment stands before a sentence; within one, # may be a word.
        if found == [""] or mark or (not sentence and _is_comment(found, width, tags)):
            if sentence:
                yield number - len(sentence), sentence
            sentence = []
            continue
        if len(found) != width:
            raise InputError(
                _(
                    "Line {line} of {source} has {found} columns, the others have {width}: a word and its tags a "
                    "line, a blank line after each sentence."
                ).format(line=number, source=source, found=len(found), width=width)
            )
        if not all(found):
            raise InputError(
                _("Line {line} of {source} has an empty column.").format(line=number, source=source)
            )
        sentence.append(found)
    if sentence:
        yield len(cells) + 1 - len(sentence), sentence


def _usual(lines: Sequence[list[str]]) -> tuple[int, set[str]]:
    """Return how many cells most lines have, and the last cells of these; lines with # count where there are no others."""
    words = [cells for cells in lines if not cells[0].startswith("#")] or lines
    width = Counter(map(len, words)).most_common(1)[0][0] if words else 0
    return width, {cells[-1] for cells in words if len(cells) == width}


def _is_comment(cells: list[str], width: int, tags: set[str]) -> bool:
    """Return whether a line above a sentence begins with # and is no word: it has no tag where words have theirs."""
    if not cells[0].startswith("#") or len(cells) != width:
        return cells[0].startswith("#")
    if cells[-1] in tags or TAG.fullmatch(cells[-1]):
        return False
    # A last column that is no tag may hold anything (a lemma): there only `name = value` is surely no word.
    return _all_tags(tags) or any("=" in cell for cell in cells)


def _counts(table: Table, column: str) -> bool:
    """Whether nearly all rows count on by one: a sentence that was cut in two begins with another number."""
    found = [isinstance(row[column], list) and _rise(row[column]) for row in table.rows]
    return sum(found) > NEARLY_ALL * len(found)


def _rise(cells: Sequence[Any]) -> bool:
    """Whether cells are numbers that rise by one; a single one says little unless it is the first."""
    texts = [str(cell) for cell in cells]
    if not texts or not texts[0].isdecimal() or (len(texts) == 1 and texts[0] not in ("0", "1")):
        return False
    start = int(texts[0])
    return texts == [str(n) for n in range(start, start + len(texts))]


def _columns(sentence: list[list[str]]) -> Row:
    return {str(i): list(cells) for i, cells in enumerate(zip(*sentence, strict=True), 1)}


def _universal(lines: Sequence[str], source: str) -> Iterator[Row]:
    written, sentence = "", list[Line]()
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("#") and not sentence:
            name, equals, value = line[1:].partition("=")
            if equals and name.strip() == "text":
                written = value.strip()
            continue
        if not line.strip():
            if sentence:
                yield _sentence(sentence, written, source)
            written, sentence = "", []
            continue
        cells = line.split("\t")
        if len(cells) != WIDTH:
            told = _(
                "Line {line} of {source} is no line of CoNLL-U: it has {found} cells parted by tabs, not {width}."
            )
            raise InputError(told.format(line=number, source=source, found=len(cells), width=WIDTH))
        if not re.fullmatch(r"\d+([-.]\d+)?", cells[0]) or not cells[1].strip():
            told = _(
                "Line {line} of {source} is no line of CoNLL-U: it does not begin with the number of a word and the word."
            )
            raise InputError(told.format(line=number, source=source))
        sentence.append((number, cells))


def _known(parts: list[str]) -> list[str]:
    """Return the parts' tags, a single _ where no part has one."""
    return parts if any(tag != "_" for tag in parts) else ["_"]


def _out_of_order(line: int, source: str) -> InputError:
    return InputError(
        _("Line {line} of {source}: the numbers of the words are out of order.").format(
            line=line, source=source
        )
    )


def _sentence(lines: list[Line], written: str, source: str) -> Row:
    """Return a sentence's columns by surface word: parts are joined, words that were not written left out."""
    row: Row = {"text": written} | {name: [] for name in FIELDS}
    spaces, whole, counted = (
        [],
        0,
        0,
    )  # the last part of the surface word that is under way, and all words so far
    for number, cells in lines:
        first, _dash, last = cells[0].partition("-")
        if "." in first:
            continue
        if int(first) != counted + 1 or (last and int(last) < int(first)):
            raise _out_of_order(number, source)
        counted += not last
        if last:
            whole = int(last)
            row["form"].append(cells[1])
            spaces.append(cells[9])
            for name in FIELDS.keys() - {"form"}:
                row[name].append([])
            continue
        inside = int(first) <= whole
        for name, place in FIELDS.items():
            if not inside:
                row[name].append(cells[place])
            elif name != "form":
                row[name][-1].append(cells[place])
        if not inside:
            spaces.append(cells[9])
    if counted < whole:  # a word of which parts are missing
        raise _out_of_order(lines[-1][0], source)
    for name in FIELDS.keys() - {"form"}:
        row[name] = ["+".join(_known(tag)) if isinstance(tag, list) else tag for tag in row[name]]
    if not written:
        gaps = ["" if "SpaceAfter=No" in misc else " " for misc in spaces]
        row["text"] = "".join(word + gap for word, gap in zip(row["form"], gaps, strict=True)).strip()
    return row
