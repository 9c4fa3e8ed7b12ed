"""Train a cased WordPiece tokenizer on the person's own text."""

from __future__ import annotations

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Characters of a large corpus are more than a small vocabulary can hold; the rest become [UNK].
ALPHABET = 400
# Signs a model meets in messages and reviews though the training text may lack them.
KEPT_SIGNS = (
    "áéíóúüñçÁÉÍÓÚÜÑÇàèìòùâêîôûäëïöÀÈ¿¡«»“”‘’—–…·•ºª°€$£¥%©®™§×÷±+=<>|~^`→←★☆✓♥♡"
    "😀😁😂🤣😃😄😅😆😉😊😋😎😍😘🥰😗😙😚🙂🤗🤩🤔🤨😐😑😶🙄😏😣😥😮😯😪😫😴😌😛😜😝😒😓😔😕🙃😲🙁😖😞😟😤😢😭"
    "😦😧😨😩🤯😬😰😱🥵🥶😳🤪😵😡😠🤬😷🤒🤕🤢🤮🤧😇🥳🥺🤡😈👿💀👻💩❤💔💕💖💗💙💚💛💜🖤💯💥🔥✨🎉🎊🎂🎁"
    "👍👎👌✌🤞👏🙌🙏💪👋👉👈👆👇☝✋🤦🤷🏻🏼🏽🏾🏿👀☀🌈🌹⚽🏆🚀💰📷📱💻🎶🎵✅❌⚠❗❓♀♂"
)


def train_wordpiece(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A cased BERT tokenizer (Devlin et al., 2019) of at most ``vocab_size`` tokens learnt from ``texts``.

    Case, accents and ñ are kept (Unicode form C), every sign such as an emoji is a word of its own,
    and [PAD] is 0. It is of the general class of fast tokenizers, because ``BertTokenizer`` rebuilds
    its normaliser when loaded and would lose form C. The same texts in the same order give the same
    vocabulary. The texts are read twice, so a copy lies in a temporary file for the while. Raises
    InputError where the texts hold no word or the size leaves no room to learn.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    with _copy() as copy:
        characters = _spool(texts, copy)
        if not characters:
            raise InputError(_("The texts are empty: there are no words to learn a vocabulary from."))
        alphabet = _alphabet(characters)
        smallest = len(SPECIAL_TOKENS) + 2 * len(alphabet)
        if vocab_size <= smallest:
            raise InputError(
                _(
                    "A vocabulary of {size} tokens is too small: single characters alone take up to "
                    "{smallest}. Choose at least {advised}."
                ).format(size=vocab_size, smallest=smallest, advised=2 * smallest)
            )
        # The trainer numbers the pieces ##a, ##b, ... in the order of a hash table, another at each run,
        # and settles ties between merges by number. Given among the first tokens, their order is ours.
        inner = ["##" + sign for sign in alphabet if unicodedata.category(sign)[0] in "LMN"]
        trainer = WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=[*SPECIAL_TOKENS, *inner],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        draft = _pipeline(Tokenizer(WordPiece(unk_token="[UNK]")))
        copy.seek(0)
        draft.train_from_iterator(copy, trainer)
    return _wrap(draft.get_vocab())


@contextmanager
def _copy() -> Iterator[TextIO]:
    """Give a temporary file; InputError where there is no place for one."""
    with _space():
        copy = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed below
    try:
        yield copy
    finally:
        with suppress(OSError):  # what a full disk did not take has been said by then
            copy.close()


@contextmanager
def _space() -> Iterator[None]:
    """Say of a full disk where it is: the folder of temporary files is often a small one of its own."""
    try:
        yield
    except OSError as error:
        raise InputError(
            _(
                "The temporary copy of the text, from which a tokenizer is learnt, cannot be written to {folder}: "
                "{reason}. Free some space there, or name another folder in the variable TMPDIR."
            ).format(folder=_temporary(), reason=error.strerror or error)
        ) from None


def _temporary() -> str:
    with suppress(OSError):
        return tempfile.gettempdir()
    return "/tmp"


def _spool(texts: Iterator[str], copy: TextIO) -> Counter[str]:
    """Write the texts to ``copy``, a line each, and count their characters."""
    characters: Counter[str] = Counter()
    for text in texts:
        line = unicodedata.normalize("NFC", " ".join(text.split()))
        characters.update(line)
        with _space():
            copy.write(line + "\n")
    with _space():
        copy.flush()
    del characters[" "]
    return characters


def _alphabet(characters: Counter[str]) -> list[str]:
    """The most frequent characters, ties by code point, and the signs always kept."""
    common = sorted(characters, key=lambda sign: (-characters[sign], sign))[:ALPHABET]
    kept = set(common) | set(KEPT_SIGNS)
    return sorted(sign for sign in kept if unicodedata.category(sign)[0] in "LMNPS" and sign != "\ufe0f")


def _pipeline(tokenizer: Tokenizer) -> Tokenizer:
    """Set how text is normalised and cut into words."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            # The variation selector only chooses between a coloured and a plain glyph.
            normalizers.Replace("\ufe0f", ""),
            normalizers.BertNormalizer(lowercase=False, strip_accents=False),
        ]
    )
    # BERT splits at punctuation only: without the second step "bien😂" would be one unknown word.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(r"\p{S}"), "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _wrap(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    """The tokenizer of a vocabulary, with BERT's special tokens around one text or a pair."""
    from tokenizers import Tokenizer, processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    tokenizer = _pipeline(Tokenizer(WordPiece(vocabulary, unk_token="[UNK]")))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
