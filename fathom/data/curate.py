"""Cleaning and judging documents: Unicode repair, and quality rules that name what they drop.

The rules follow Gopher (Rae et al., arXiv:2112.11446, table A1) and C4 (Raffel et al., arXiv:1910.10683), with
thresholds loosened to what is broken in any hand-picked folder: there is no minimum length, and code is judged only by
the rules that hold for code. A rule that would drop more than half of a source is switched off for it (see `decide`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fathom.errors import MissingExtra

CURATION_VERSION = 2  # part of the cache key: change it with any rule
SWITCH_OFF_SHARE = 0.5  # of a source; a rule that drops more is wrong about that source
_ROUNDS = 4  # one repair can lay bare what another mends; two rounds nearly always suffice
MIN_WORDS_JUDGED = 50  # Gopher's shortest document; shorter ones say too little to be judged by shares

# Control characters but tab and line feed; byte order marks and noncharacters.
_CONTROL_BYTES = bytes([*range(9), *range(11, 32), 127])
_NONCHARACTERS = ("\ufeff", "\ufffe", "\uffff", *map(chr, range(0xFDD0, 0xFDF0)))
_JUNK = dict.fromkeys([*_CONTROL_BYTES, *map(ord, _NONCHARACTERS)])
_LINE_ENDS = re.compile("\r\n?|\u2028|\u2029")
_TRAILING = re.compile(r"[ \t]\n")
# UTF-8 read as Latin-1 or Windows-1252: a lead byte's letter before another letter that is not ASCII.
_MOJIBAKE = re.compile("[\u00c2-\u00f4][^\x00-\x7f]")
_BLANK_RUN = re.compile(r"\n{4,}")
_WORD = re.compile(r"\w+")
_NOT_LETTERS = re.compile(r"[\W_]+")

# reasons, in the order in which they are tried; a document is counted under the first that holds
RULES = (
    "empty", "undecodable", "no_letters", "long_words", "repeated_lines", "repeated_words", "placeholder",
    "no_language",
)  # fmt: skip
_CODE_RULES = frozenset({"empty", "undecodable", "repeated_lines"})
_NEVER_OFF = frozenset({"empty", "undecodable"})


@dataclass(frozen=True)
class Cleaned:
    text: str
    changes: tuple[str, ...]


def clean(text: str) -> Cleaned:
    """Repair what is broken and keep what is merely unusual: quotes, widths and ligatures stay as they were written."""
    changes: dict[str, None] = {}
    for _ in range(_ROUNDS):
        before = text
        for name, repair in _REPAIRS:
            repaired = repair(text)
            if repaired != text:
                changes[name] = None
                text = repaired
        if text == before or text.isascii():
            break
    tidy = _tidy(text)
    if tidy != text:
        changes["blank_space"] = None
    return Cleaned(tidy, tuple(changes))


def _tidy(text: str) -> str:
    if _TRAILING.search(text) or text.endswith((" ", "\t")):
        text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    return _BLANK_RUN.sub("\n\n\n", text).strip("\n")


def _line_ends(text: str) -> str:
    return _LINE_ENDS.sub("\n", text) if "\r" in text or "\u2028" in text or "\u2029" in text else text


def _without_junk(text: str) -> str:
    return text.translate(_JUNK) if _has_junk(text) else text


def _has_junk(text: str) -> bool:
    """Written for speed: nearly every text has none, and a character class is 20 times slower."""
    data = text.encode("utf-8", "replace")
    if len(data.translate(None, _CONTROL_BYTES)) != len(data):
        return True
    return len(data) != len(text) and any(char in text for char in _NONCHARACTERS)


def _encoding(text: str) -> str:
    """Undo UTF-8 that was read as another encoding, if anything looks like it."""
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    try:
        import ftfy
        from ftfy.badness import is_bad
    except ImportError as error:
        raise MissingExtra("ftfy") from error
    return ftfy.fix_encoding(text) if is_bad(text) else text


def _composed(text: str) -> str:
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


_REPAIRS = (
    ("line_ends", _line_ends),
    ("control_characters", _without_junk),
    ("encoding_repaired", _encoding),
    ("composed", _composed),
)


def judge(text: str, *, code: bool) -> str | None:
    """The first quality rule that a document breaks, None if it breaks none."""
    if not text.strip():
        return "empty"
    rules = _CODE_RULES if code else RULES
    for rule in RULES:
        if rule in rules and _CHECKS[rule](text):
            return rule
    return None


def _undecodable(text: str) -> bool:
    """More than one character in a hundred could not be decoded: not text, or of an unknown encoding."""
    return text.count("\ufffd") * 100 > len(text)


def _no_letters(text: str) -> bool:
    """Fewer than a quarter of the visible characters are letters or digits: tables of rules, dumps, drawings."""
    sample = text[:20_000]
    visible = sum(map(len, sample.split()))
    return visible > 200 and visible - len(_NOT_LETTERS.sub("", sample)) > 0.75 * visible


def _long_words(text: str) -> bool:
    """A mean word of more than 20 characters (Gopher: 10): encoded data. Scripts without spaces are let through."""
    words = text[:20_000].split()
    if len(words) < MIN_WORDS_JUDGED or not text[:2000].isascii():
        return False
    return sum(map(len, words)) > 20 * len(words)


def _repeated_lines(text: str) -> bool:
    """More than 60% of the characters stand in lines seen before (Gopher: 20%, for scraped pages)."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 10:
        return False
    unique = sum(map(len, set(lines)))
    return unique < 0.4 * sum(map(len, lines))


def _repeated_words(text: str) -> bool:
    """One pair of words makes up more than 20% of a document (Gopher's top 2-gram)."""
    words = text[:50_000].split()
    if len(words) < MIN_WORDS_JUDGED:
        return False
    if len(set(words)) > len(words) * 0.2:  # with so many different words no pair can be that frequent
        return False
    pair, count = Counter(pairwise(words)).most_common(1)[0]
    return count * (len(pair[0]) + len(pair[1])) > 0.2 * sum(map(len, words))


def _placeholder(text: str) -> bool:
    """C4's rule against pages of filler."""
    return "lorem ipsum" in text[:2000].lower()


# The words that hold sentences together, of languages in Latin letters: of any of them a tenth to a half of prose.
_WORDS_OF_LANGUAGES = """
the of and to in is that it for was with as on are this be by not or from at have an they which you but his her
der die das und ist den von zu mit sich auf des nicht ein eine dem im auch es an werden aus er hat dass sie nach
le la les des et est une dans que pour qui pas sur au plus par il ce elle avec ne sont ou se du en
el los las del y un una por con no para es lo como su al entre pero sus
di che il per non sono della con si da come dei nel anche alla gli ha più
do da em um uma para não os as dos com se na no mais foi ao pelo
de het een van dat niet op te zijn voor met aan er maar om hij ook
och att det som en på är av för den till inte med har om ett og er til ikke av at jeg han
nie się jest na z do w to że jak przez od po ale se je že v s ve jako byl aby si ako sa
ve bir bu da de için ile olarak ne var daha yang dan di ini itu dengan untuk dari pada tidak dalam
az és hogy nem egy van ez is meg csak ja on ei että se oli mutta kun tai că și este nu care din pentru la
không các và là của có được cho trong một na wa ya ni kwa za katika
"""
_FUNCTION_WORDS = frozenset(word for word in _WORDS_OF_LANGUAGES.split() if len(word) > 1)


def _no_language(text: str) -> bool:
    """Of prose in Latin letters fewer than one word in fifty holds sentences together (Gopher: two of eight English
    ones in a document): lists, logs, dumps, in no language that is known here.
    """
    sample = text[:20_000]
    words = words_of(sample)
    if len(words) < MIN_WORDS_JUDGED or sum(word[0] < "ɐ" for word in words) < 0.9 * len(words):
        return False
    return 50 * sum(word in _FUNCTION_WORDS for word in words) < len(words)


_CHECKS = {
    "empty": lambda text: False,
    "undecodable": _undecodable,
    "no_letters": _no_letters,
    "long_words": _long_words,
    "repeated_lines": _repeated_lines,
    "repeated_words": _repeated_words,
    "placeholder": _placeholder,
    "no_language": _no_language,
}


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation, for comparing documents."""
    return _WORD.findall(text.lower())


def decide(verdicts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which rules hold for a source: (verdicts with the rules switched off set to 0, notes).

    `verdicts` is uint8 [documents]: 0 or 1 + the index in `RULES`. A rule that drops more than half of a source's
    documents is a rule that misjudges the source, so it does not hold there.
    """
    verdicts = verdicts.copy()
    notes = []
    for number, rule in enumerate(RULES, 1):
        share = float((verdicts == number).mean()) if len(verdicts) else 0.0
        if rule not in _NEVER_OFF and share > SWITCH_OFF_SHARE:
            verdicts[verdicts == number] = 0
            notes.append(f"rule '{rule}' would have dropped {share:.0%} of the documents and was switched off")
    return verdicts, notes
