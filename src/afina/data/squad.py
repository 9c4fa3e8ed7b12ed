"""SQuAD's JSON (Rajpurkar et al. 2016, 2018): articles of paragraphs of questions, as one flat row a question."""

from typing import Any

from afina.core import Row
from afina.errors import InputError
from afina.messages import _


def is_squad(rows: list[Row]) -> bool:
    """Whether these objects are SQuAD's articles, by the list `paragraphs` in any of them."""
    return any(isinstance(row.get("paragraphs"), list) for row in rows)


def flat(articles: list[Row], source: str) -> list[Row]:
    """Return a row a question: id, title, context, question, answers as the Hub writes them, is_impossible.

    Without the field `answers` these are None: the question is only asked. Texts stay as they are, since offsets
    count every character of them. InputError, with the place, where a field is missing or of another kind.
    """
    rows: list[Row] = []
    for number, article in enumerate(articles, 1):
        title = str(article.get("title") or "")
        named = f"{number} ('{title}')" if title else str(number)
        where = _("article {number} of {source}").format(number=named, source=source)
        for place, paragraph in enumerate(_field(article, "paragraphs", list, where), 1):
            here = _("paragraph {number} of {place}").format(number=place, place=where)
            context = _field(paragraph, "context", str, here)
            for index, asked in enumerate(_field(paragraph, "qas", list, here), 1):
                identity = str(asked.get("id") or "") if isinstance(asked, dict) else ""
                named = f"{index} ({identity})" if identity else str(index)
                exact = _("question {number} of {place}").format(number=named, place=here)
                rows.append({"id": identity, "title": title, "context": context} | _asked(asked, exact))
    if not rows:
        raise InputError(_("{source} is in SQuAD's form but holds no question.").format(source=source))
    return rows


def _asked(asked: Any, where: str) -> Row:
    question = _field(asked, "question", str, where)
    impossible = bool(asked.get("is_impossible"))
    row: Row = {"question": question, "answers": None, "is_impossible": impossible}
    if not impossible and "answers" not in asked:
        return row
    answers = [] if impossible else _field(asked, "answers", list, where)
    return row | {
        "answers": {
            "text": [_field(answer, "text", str, where) for answer in answers],
            "answer_start": [_field(answer, "answer_start", int, where) for answer in answers],
        }
    }


def _field(holder: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(holder, dict) or name not in holder:
        raise InputError(_("The field '{name}' is missing in {place}.").format(name=name, place=where))
    value = holder[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        kinds = {list: _("a list"), str: _("a text"), int: _("a whole number")}
        sentence = _("The field '{name}' in {place} must be {kind}.")
        raise InputError(sentence.format(name=name, place=where, kind=kinds[kind]))
    return value
