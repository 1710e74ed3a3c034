"""Text to token numbers and back, from the vocabulary inside a GGUF file.

Two kinds, as llama.cpp has them: `llama` (SentencePiece: merge the best-scored pair of neighbours, bytes for the rest)
and `gpt2` (byte-level BPE: split by a regular expression, merge by rank).
"""

from __future__ import annotations

import heapq
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

from waferline.errors import FileFormatError, UnsupportedError

SPACE = "\u2581"  # how SentencePiece writes a space
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types of GGUF
_END_NAMES = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<end_of_turn>", "</s>")

# Splitting expressions by `tokenizer.ggml.pre` (llama.cpp, src/llama-vocab.cpp). \p{L} and \p{N} are written out below.
_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_MODERN = _CONTRACTIONS + r"|[^\r\n{L}{N}]?[{L}]+|{digits}| ?[^\s{L}{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^\s{L}{N}]+|\s+(?!\S)|\s+"
# Words with capitals inside are cut before them: lower-case letters after others, or others alone.
_CASED = (
    r"[^\r\n{L}{N}]?(?:(?=[{L}])[^a-z])*(?:(?=[{L}])[^A-Z])+{end}|[^\r\n{L}{N}]?(?:(?=[{L}])[^a-z])+(?:(?=[{L}])[^A-Z])*{end}"
    r"|{digits}| ?[^\s{L}{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Every digit alone, before anything else: what stands before one ends there.
_DIGITS_FIRST = r"[{N}]|'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[^\s{L}{N}]+|\s+(?![^\s{N}])|\s+"
_UP_TO_THREE = _MODERN.replace("{digits}", "[{N}]{1,3}")
_SPLITS = {
    **dict.fromkeys(("default", "gpt-2", "olmo", "mpt"), _GPT2),
    **dict.fromkeys(("llama-bpe", "llama3", "dbrx", "smaug-bpe"), _UP_TO_THREE),
    **dict.fromkeys(("qwen2", "stablelm2"), _MODERN.replace("{digits}", "[{N}]")),
    **dict.fromkeys(("refact", "starcoder", "command-r", "smollm", "codeshell"), _DIGITS_FIRST),
    "gpt-4o": _CASED.replace("{digits}", "[{N}]{1,3}").replace("{end}", _CONTRACTIONS + "?"),
    "tekken": _CASED.replace("{digits}", "[{N}]").replace("{end}", ""),
}
_WHOLE_WORDS = frozenset({"llama-bpe", "llama3", "tekken"})  # a word that is a token is not merged from its pieces


class _Scheme(Protocol):
    def pieces(self, text: str) -> list[int]: ...

    def bytes_of(self, token: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`encode` adds the beginning-of-sequence token where the file says so; `ends` are tokens that stop generation."""

    scheme: _Scheme
    bos: int | None
    ends: frozenset[int]
    silent: frozenset[int]  # control tokens: no text

    def encode(self, text: str) -> list[int]:
        """Token numbers. Text that looks like a control token is plain text."""
        start = [self.bos] if self.bos is not None else []
        return start + (self.scheme.pieces(text) if text else [])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text; an unfinished character at the end shows as U+FFFD."""
        raw = b"".join(self.scheme.bytes_of(t) for t in tokens if t not in self.silent)
        return raw.decode("utf-8", errors="replace")


def read_tokenizer(values: Mapping[str, Any], vocabulary: int, where: str) -> Tokenizer | None:
    """The tokenizer of GGUF metadata, or None when the file has none.

    Raises `FileFormatError` when lists disagree in length, `UnsupportedError` for a kind or splitting without code.
    """
    kind = values.get("tokenizer.ggml.model")
    if kind is None or kind in ("none", "no_vocab"):
        return None
    tokens = values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or len(tokens) != vocabulary or not all(isinstance(t, str) for t in tokens):
        raise FileFormatError("the list of tokens does not fit the embedding", where=where)
    types = values.get("tokenizer.ggml.token_type", [NORMAL] * vocabulary)
    if not isinstance(types, list) or len(types) != vocabulary:
        raise FileFormatError("the list of token types does not fit the tokens", where=where)
    if kind == "llama":
        scores = values.get("tokenizer.ggml.scores")
        if not isinstance(scores, list) or len(scores) != vocabulary:
            raise FileFormatError("the list of token scores does not fit the tokens", where=where)
        scheme: _Scheme = SentencePiece(
            tokens, types, scores, bool(values.get("tokenizer.ggml.add_space_prefix", True))
        )
    elif kind == "gpt2":
        scheme = _byte_level(values, tokens, where)
    else:
        raise UnsupportedError(f"tokenizer '{kind}' is not computed", where=where, hint="llama, gpt2")
    add_bos = values.get("tokenizer.ggml.add_bos_token", kind == "llama")
    bos = _token(values, "bos", vocabulary, where) if add_bos else None
    found = {_token(values, name, vocabulary, where) for name in ("eos", "eot")}
    ends = {t for t in found if t is not None} | {tokens.index(n) for n in _END_NAMES if n in tokens}
    return Tokenizer(scheme, bos, frozenset(ends), frozenset(i for i, t in enumerate(types) if t == CONTROL))


def _token(values: Mapping[str, Any], name: str, vocabulary: int, where: str) -> int | None:
    token = values.get(f"tokenizer.ggml.{name}_token_id")
    if token is None:
        return None
    if not isinstance(token, int) or not 0 <= token < vocabulary:
        raise FileFormatError(f"the {name} token is {token!r} of {vocabulary}", where=where)
    return token


# --- SentencePiece ----------------------------------------------------------------------------------------------------
class SentencePiece:
    """Greedy merging by score: of all neighbouring pairs that are tokens the best-scored, leftmost first."""

    def __init__(self, tokens: list[str], types: list[int], scores: list[float], prefix: bool) -> None:
        self.tokens, self.scores, self.prefix = tokens, scores, prefix
        self.numbers = {text: i for i, text in reversed(list(enumerate(tokens)))}
        self.bytes = {i: int(text[3:5], 16) for i, text in enumerate(tokens) if types[i] == BYTE and _is_byte(text)}
        self.byte_numbers = {value: i for i, value in self.bytes.items()}
        self.unknown = types.index(UNKNOWN) if UNKNOWN in types else 0

    def pieces(self, text: str) -> list[int]:
        symbols = list((" " + text if self.prefix else text).replace(" ", SPACE))
        return [number for symbol in self._merge(symbols) for number in self._numbers_of(symbol)]

    def _merge(self, symbols: list[str]) -> Iterable[str]:
        after = list(range(1, len(symbols) + 1))
        before = list(range(-1, len(symbols) - 1))
        queue: list[tuple[float, int, str]] = []

        def offer(left: int) -> None:
            if left >= 0 and after[left] < len(symbols):
                both = symbols[left] + symbols[after[left]]
                if both in self.numbers:
                    heapq.heappush(queue, (-self.scores[self.numbers[both]], left, both))

        for i in range(len(symbols)):
            offer(i)
        while queue:
            _, left, both = heapq.heappop(queue)
            right = after[left]
            if right >= len(symbols) or not symbols[left] or symbols[left] + symbols[right] != both:
                continue  # one of the two was merged meanwhile
            symbols[left], symbols[right] = both, ""
            after[left] = after[right]
            if after[left] < len(symbols):
                before[after[left]] = left
            offer(before[left])
            offer(left)
        return (s for s in symbols if s)

    def _numbers_of(self, symbol: str) -> list[int]:
        if symbol in self.numbers:
            return [self.numbers[symbol]]
        return [self.byte_numbers.get(b, self.unknown) for b in symbol.encode()]

    def bytes_of(self, token: int) -> bytes:
        if token in self.bytes:
            return bytes([self.bytes[token]])
        return self.tokens[token].replace(SPACE, " ").encode()


def _is_byte(text: str) -> bool:
    return re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", text) is not None


# --- byte-level BPE ---------------------------------------------------------------------------------------------------
@cache
def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    return letters | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in letters)}


@cache
def _category(letter: str) -> str:
    """All characters of a Unicode category as the inside of a regular-expression set; Python's `re` has no \\p."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == letter:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in ranges)


def _byte_level(values: Mapping[str, Any], tokens: list[str], where: str) -> ByteLevel:
    merges = values.get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or not all(isinstance(m, str) and " " in m[1:] for m in merges):
        raise FileFormatError("the list of merges is missing or malformed", where=where)
    name = values.get("tokenizer.ggml.pre", "default")
    if name not in _SPLITS:
        raise UnsupportedError(f"text splitting '{name}' is not computed", where=where, hint=", ".join(_SPLITS))
    return ByteLevel(tokens, merges, name)


@dataclass(slots=True)
class ByteLevel:
    """Byte-level BPE; `split` names a row of the table of expressions above."""

    tokens: list[str]
    merges: list[str]
    split: str
    numbers: dict[str, int] = field(init=False)
    ranks: dict[tuple[str, str], int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = {text: i for i, text in reversed(list(enumerate(self.tokens)))}
        # A merge is "left right"; either side may itself be anything but a space.
        self.ranks = {tuple(m.split(" ", 1)): i for i, m in reversed(list(enumerate(self.merges)))}  # type: ignore[misc]

    def pieces(self, text: str) -> list[int]:
        letters = _byte_letters()
        words = ("".join(letters[b] for b in word.encode()) for word in split_words(text, self.split))
        return [number for word in words for number in self._word(word)]

    def _word(self, word: str) -> list[int]:
        if self.split in _WHOLE_WORDS and word in self.numbers:
            return [self.numbers[word]]
        parts = list(word)
        while len(parts) > 1:
            ranked = [(self.ranks.get((a, b), sys.maxsize), i) for i, (a, b) in enumerate(pairwise(parts))]
            rank, i = min(ranked)
            if rank == sys.maxsize:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return [n for part in parts for n in self._numbers_of(part)]

    def _numbers_of(self, part: str) -> list[int]:
        if part in self.numbers:
            return [self.numbers[part]]
        return [self.numbers[letter] for letter in part if letter in self.numbers]

    def bytes_of(self, token: int) -> bytes:
        values = {letter: b for b, letter in _byte_letters().items()}
        text = self.tokens[token]
        if all(letter in values for letter in text):
            return bytes(values[letter] for letter in text)
        return text.encode()  # added tokens are written as they are


def split_words(text: str, split: str) -> list[str]:
    """The pieces of a text that are merged each for itself, by the name of the expression (`tokenizer.ggml.pre`)."""
    return _expression(split).findall(text)


@cache
def _expression(split: str) -> re.Pattern[str]:
    pattern = _SPLITS[split].replace("{L}", _category("L")).replace("{N}", _category("N"))
    return re.compile(pattern)
