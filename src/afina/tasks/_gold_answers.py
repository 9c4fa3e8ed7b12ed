"""The answers of one row, however a file writes them, checked against where they stand in the context."""

from __future__ import annotations

import unicodedata
from typing import Any

from afina.data.cells import structure
from afina.errors import InputError
from afina.messages import _

Answer = dict[str, Any]
"""`text` and `answer_start`, in characters of the context."""
NO_MARKS = ({"text": "", "answer_start": -1}, {"text": "", "answer_start": None}, "")


def read(answers: Any, start: Any, context: str) -> list[Answer] | None:
    """Return the answers of a row, none where it has none, None where nobody has said.

    `answers` is a text with its place `start` (a place may be missing where the text stands but once), a list of
    texts or of objects, the Hub's object of two lists, or these as JSON or pandas writes them. Answers without
    text and place, which annotators left blank, do not count, as in SQuAD's script. InputError where one does not
    stand where it is said to, with where it does.
    """
    if not (isinstance(answers, str) and _stands(answers, start, context)):
        answers = _parsed(answers)
    if answers is None or answers != answers or answers == "":
        return None
    if isinstance(answers, dict):
        if not isinstance(answers.get("text"), list):
            answers = [answers]
        else:
            starts = answers.get("answer_start")
            starts = starts if isinstance(starts, list) else [None] * len(answers["text"])
            if len(starts) != len(answers["text"]):
                sentence = _("There are {texts} answers, but {places} places for them (answer_start).")
                raise InputError(sentence.format(texts=len(answers["text"]), places=len(starts)))
            answers = [
                {"text": text, "answer_start": place}
                for text, place in zip(answers["text"], starts, strict=True)
            ]
    if not isinstance(answers, list):
        answers = [{"text": str(answers), "answer_start": start}]
    marked = [answer for answer in answers if answer not in NO_MARKS]
    return [_checked(answer, context) for answer in marked] if marked or not answers else None


def _stands(text: str, start: Any, context: str) -> bool:
    """Whether a cell is the very text that stands at its place, brackets and all."""
    place = str(start).removesuffix(".0") if start is not None else ""
    return bool(text) and place.isdigit() and context.startswith(text, int(place))


def _parsed(answers: Any) -> Any:
    if not isinstance(answers, str):
        return answers
    found = structure(answers)
    if found is not None:
        return found
    return answers if answers.strip() else ""


def _checked(answer: Any, context: str) -> Answer:
    if isinstance(answer, str):
        answer = {"text": answer}
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not text:
        raise InputError(_("The answer {answer!r} has no text.").format(answer=answer))
    found = _places(text, context)
    start = _number(answer.get("answer_start"))
    if start is None:
        if len(found) == 1:
            return {"text": text, "answer_start": found[0]}
        if found:
            sentence = _(
                "The answer '{text}' stands at {places} of the context: say at which, in the column answer_start."
            )
            raise InputError(sentence.format(text=text, places=_listed(found)))
        sentence = _("The answer '{text}' does not stand in the context.").format(text=text)
        raise InputError(" ".join([sentence, *_spelt_otherwise(text, context)]))
    if start < 0 or context[start : start + len(text)] != text:
        sentence = _("answer_start is {value!r}, but must be a whole number: characters from the beginning.")
        if start >= 0:
            sentence = _(
                "The answer '{text}' does not stand at {start} of the context, where '{other}' stands."
            )
        other = context[start : start + len(text)]
        sentence = sentence.format(text=text, start=start, other=other, value=start)
        if found:
            nearest = sorted(found, key=lambda place: abs(place - start))[:3]
            proposal = _("It stands at {places}.").format(places=_listed(sorted(nearest)))
        else:
            proposal = next(iter(_spelt_otherwise(text, context, start)), _("It stands nowhere in it."))
        raise InputError(f"{sentence} {proposal}")
    return {"text": text, "answer_start": start}


def _spelt_otherwise(text: str, context: str, start: int = 0) -> list[str]:
    """Say where, nearest to `start`, the same words stand with other capitals, blanks or encoding of accents."""
    wanted, letters = _plain(text), _folded(context)
    folded, asked = ("".join(letter for letter, _place in each) for each in (letters, _folded(text.strip())))
    found = []
    place = folded.find(asked)
    while asked and place >= 0:
        first, end = letters[place][1], letters[place + len(asked) - 1][1] + 1
        while end < len(context) and unicodedata.combining(context[end]):
            end += 1
        inside = context[first - 1 : first].isalnum() or context[end : end + 1].isalnum()
        if not inside and _plain(context[first:end]) == wanted:
            found.append((abs(first - start), first, context[first:end]))
        place = folded.find(asked, place + 1)
    sentence = _("At {place} stands '{other}', which differs in capitals, blanks or how accents are encoded.")
    return [sentence.format(place=first, other=other) for _far, first, other in sorted(found)[:1]]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def _folded(text: str) -> list[tuple[str, int]]:
    """Return small letters, their accents apart and blanks one at a time, each with its place in the text."""
    found: list[tuple[str, int]] = []
    for place, sign in enumerate(text):
        if not sign.isspace():
            found += [(letter, place) for letter in unicodedata.normalize("NFD", sign.casefold())]
        elif not found or found[-1][0] != " ":
            found.append((" ", place))
    return found


def _number(value: Any) -> int | None:
    if value is None or value == "" or value != value:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.5
    if not number.is_integer():
        sentence = _("answer_start is {value!r}, but must be a whole number: characters from the beginning.")
        raise InputError(sentence.format(value=value))
    return int(number)


def _places(text: str, context: str) -> list[int]:
    found, place = [], context.find(text)
    while place >= 0:
        found.append(place)
        place = context.find(text, place + 1)
    return found


def _listed(places: list[int]) -> str:
    first = [str(place) for place in places[:10]]
    return ", ".join(first) + (" …" if len(places) > 10 else "")
