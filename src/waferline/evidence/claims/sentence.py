"""Claims out of a sentence: `"Llama-7B Q4_K on CS-3: 2400 tokens/s at batch 1; 50000 tokens/s at batch 50000, 2k context"`.

The words before the first clause name model, formats and machine; clauses are parted by `;`. What an earlier clause
states of lengths holds for the later ones until they state their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from waferline.errors import InvalidInputError, UnknownNameError, WaferlineError
from waferline.evidence.claims.claim import PER_USER_RATE, Claim
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal
from waferline.formats import get_format
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine

# Commas part thousands and nothing else: in "batch 1000, context 64" and "1000,64" the comma ends the number.
_NUMBER = r"((?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s?([kKM](?![A-Za-z]))?"
_TIME = r"\s*(ms|milliseconds?|us|µs|microseconds?|s|sec|seconds?)\b"
_RATE = r"\s*(?:tokens?|tok|toks|t)\s*(?:/|per\s+)\s*(?:s|sec|second)\b|\s*tps\b"
_USER = r"\s*(?:/|per[\s-])\s*(?:user|request|stream|sequence)"
_SECONDS = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "s": 1.0}
_KIBI, _KILO, _MEGA = 1024.0, 1e3, 1e6
_MOST_WORDS = 6  # of the name of a machine or a model
_WORD = re.compile(r"[^\s,:;()]+")

# What a clause says, by pattern; of each field the leftmost match counts. Lengths count in 1024s.
_SIZES: tuple[tuple[str, str], ...] = (
    ("batch", rf"batch(?:\s+size)?(?:\s+of)?\s*=?\s*{_NUMBER}"),
    ("batch", rf"\bbs\s*=?\s*{_NUMBER}"),
    ("batch", rf"{_NUMBER}\s*(?:sequences|streams)\b"),
    ("clients", rf"{_NUMBER}\s*(?:concurrent\s+)?(?:users|clients|requests)\b"),
    ("clients", rf"concurrency(?:\s+of)?\s*=?\s*{_NUMBER}"),
    ("input_tokens", rf"{_NUMBER}[\s-]*(?:tokens?\s+)?(?:of\s+)?(?:context|prompts?|inputs?|in)\b"),
    ("input_tokens", rf"(?:context|prompts?|inputs?)(?:\s+length)?(?:\s+of)?\s*=?\s*{_NUMBER}"),
    ("input_tokens", rf"{_NUMBER}\s*/\s*\d[\d,]*[kK]?\b(?!\s*(?:tok|s\b))"),
    ("output_tokens", rf"{_NUMBER}[\s-]*(?:tokens?\s+)?(?:of\s+)?(?:outputs?|out|generated)\b"),
    ("output_tokens", rf"outputs?(?:\s+length)?(?:\s+of)?\s*=?\s*{_NUMBER}"),
    ("output_tokens", rf"\d[\d,]*[kK]?\s*/\s*{_NUMBER}\b(?!\s*(?:tok|s\b))"),
    ("tp", rf"\btp\s*=?\s*{_NUMBER}"),
)
_COUNTS = ("batch", "clients", "tp")  # in thousands, not in 1024s

_METRICS: tuple[tuple[str, str], ...] = (
    ("prompt_tokens_per_s", rf"(?:prefill|prompt)\w*(?:\s+\w+){{0,2}}?\s*:?\s*{_NUMBER}(?:{_RATE})"),
    ("prompt_tokens_per_s", rf"{_NUMBER}(?:{_RATE})\s+(?:of\s+)?(?:prefill|prompt)"),
    ("total_tokens_per_s", rf"{_NUMBER}\s*total(?:{_RATE})"),
    (PER_USER_RATE, rf"{_NUMBER}(?:{_RATE}){_USER}"),
    ("output_tokens_per_s", rf"{_NUMBER}(?:{_RATE})"),
    ("ttft_s", rf"(?:ttft|time to first token)(?:\s+(?:of|is|under|below))?\s*[:=<]?\s*{_NUMBER}{_TIME}"),
    ("ttft_s", rf"{_NUMBER}{_TIME}\s*(?:ttft|to (?:the )?first token)"),
    ("tpot_s", rf"(?:tpot|itl|inter-token latency)(?:\s+(?:of|is|under|below))?\s*[:=<]?\s*{_NUMBER}{_TIME}"),
    ("tpot_s", rf"{_NUMBER}{_TIME}\s*(?:(?:per|/)\s*token|tpot|itl)"),
    ("latency_s", rf"latency(?:\s+(?:of|is))?\s*[:=<]?\s*{_NUMBER}{_TIME}"),
    ("mfu", rf"{_NUMBER}\s*%\s*mfu"),
    ("mfu", rf"mfu(?:\s+of)?\s*[:=]?\s*{_NUMBER}\s*%"),
)
# What a clause may say of its machine, also beside a speed. Of a range the upper end is read.
_SHEET: tuple[tuple[str, str, dict[str, float]], ...] = (
    (
        "memory_bytes",
        rf"{_NUMBER}\s*(MB|GB|TB)\s*(?:of\s+)?(?:on[- ]\w+\s+)?(?:unified\s+)?(?:SRAM|HBM\w*|V?RAM|DRAM|GDDR\w*|memory)\b",
        {"m": 1e6, "g": 1e9, "t": 1e12},
    ),
    ("cores", rf"{_NUMBER}\s*(?:[\w-]+\s+)?(cores)\b", {"c": 1.0}),
    ("power_w", rf"{_NUMBER}\s*(kW|W|watts?|kilowatts?)\b", {"k": 1e3, "w": 1.0}),
    ("hourly_usd", rf"\$\s*(?:[\d.]+\s*(?:-|–|to)\s*\$?)?{_NUMBER}\s*(?:/|per|an?)\s*(h|hr|hours?)\b", {"h": 1.0}),
)


_MOST_CHARACTERS = 2_000


def claims_of(sentence: str) -> list[Claim]:
    """Every claim of a sentence, in order; a sentence without any gives one claim that lacks its metric.

    Raises: InvalidInputError for more than a sentence.
    """
    if len(sentence) > _MOST_CHARACTERS:
        raise InvalidInputError(f"a claim is a sentence of at most {_MOST_CHARACTERS} characters, not '{sentence}'")
    claims: list[Claim] = []
    head = Claim(text=sentence.strip())
    for clause in filter(None, (part.strip() for part in sentence.split(";"))):
        head = _with_sizes(_with_names(replace(head, batch=None, clients=False), clause), clause)
        found = [replace(head, metric=metric, value=value, text=clause) for metric, value in _values(clause)]
        claims += found
    return claims or [head]


def _with_names(claim: Claim, clause: str) -> Claim:
    """The claim with the machine, model, formats and engine that `clause` names."""
    words = _WORD.findall(clause)
    machine, used = _longest(words, _machine)
    if machine:
        count = _devices(words, used) or _counted(clause)
        several = count is None and claim.devices == 1 and _plural(words[used.stop - 1], machine)
        most = load_hardware(machine).link("scale-up") if several else None
        claim = replace(claim, machine=machine, devices=count or (most.max_devices if most else claim.devices))
        claim = replace(claim, counted=(claim.devices > 1 and not several) or bool(count) or _one_before(words, used))
        words = words[: used.start] + words[used.stop :]
    formats = [w for w in words if _is_format(w)]
    model, _ = _longest([w for w in words if w not in formats], _model)
    claim = replace(claim, model=model or claim.model)
    return _with_formats(claim, formats, clause)


def _with_formats(claim: Claim, formats: list[str], clause: str) -> Claim:
    """The first format is that of the weights; one beside the word KV is the cache's; w4a16 names two."""
    kv = next(
        (f for f in formats if re.search(rf"kv\W{{0,9}}{re.escape(f)}|{re.escape(f)}\W+kv", clause, re.IGNORECASE)), ""
    )
    weights = next((f for f in formats if f != kv), "")
    engine = next((w for w in _WORD.findall(clause) if _known(get_engine, w)), claim.engine)
    pair = re.fullmatch(r"w(\d+)a(\d+)", weights.lower())
    if pair:
        wide = {"16": "fp16", "32": "fp32"}
        weights = ",a=".join(wide.get(bits, f"int{bits}") for bits in pair.groups())
    return replace(claim, precision=weights or claim.precision, kv=kv or claim.kv, engine=engine)


def _with_sizes(claim: Claim, clause: str) -> Claim:
    """Sizes from left to right, each number read once: in "input 32 output 48" the 32 is no output."""
    found: dict[str, Any] = {}
    read: set[int] = set()
    matches = [(m, name) for name, pattern in _SIZES for m in re.finditer(pattern, clause, re.IGNORECASE)]
    for match, name in sorted(matches, key=lambda pair: pair[0].start()):
        if name not in found and match.start(1) not in read:
            found[name] = _number(match[1], match[2], _KILO if name in _COUNTS else _KIBI)
            read.add(match.start(1))
    if "clients" in found:
        found["batch"], found["clients"] = found.get("batch", found["clients"]), "batch" not in found
    return replace(claim, **found)


def _values(clause: str) -> Iterator[tuple[str, float]]:
    """(metric, SI value) of every figure; text that one pattern has read is not read again."""
    rest = clause
    for metric, pattern in _METRICS:
        for match in list(re.finditer(pattern, rest, re.IGNORECASE)):
            value = _number(match[1], match[2], _KILO)
            if metric.endswith("_s") and not metric.endswith("per_s"):
                value *= _SECONDS[match[3][0].lower()]
            yield metric, value / 100 if metric == "mfu" else value
            rest = rest.replace(match[0], " " * len(match[0]), 1)
    for metric, pattern, scales in _SHEET:
        if metric == "cores" and rest != clause:
            continue  # beside a speed they say on how many of them it was reached
        for match in re.finditer(pattern, rest, re.IGNORECASE):
            yield metric, _number(match[1], match[2], _KILO) * scales[match[3][0].lower()]


def _number(digits: str, suffix: str | None, thousand: float) -> float:
    scale = {None: 1.0, "k": thousand, "K": thousand, "M": _MEGA}[suffix]
    return float(digits.replace(",", "")) * scale


def _longest(words: list[str], find: Callable[[str], str]) -> tuple[str, slice]:
    """The longest run of words that `find` knows, and where it stands; earlier runs win among equals."""
    for length in range(min(_MOST_WORDS, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            name = find(" ".join(words[start : start + length]))
            if name:
                return name, slice(start, start + length)
    return "", slice(0, 0)


@lru_cache(maxsize=4096)  # files of claims name the same few machines
def _machine(text: str) -> str:
    """The catalogue name of a machine; a plural and a leading count (`8xH100`) are understood."""
    bare = re.sub(r"^\d+\s*[x×]\s*", "", text)
    for candidate in (bare, bare.removesuffix("s")):
        if len(candidate) > 1 and not candidate.isdigit():
            try:
                return load_hardware(candidate).name
            except WaferlineError:
                continue
    return ""


_COUNTED = re.compile(
    r"(?<![\w.,])(\d{1,5})[\s-]*(?:devices|chips|gpus?|lpus?|rdus?|accelerators|cards|wafers|systems)\b", re.IGNORECASE
)


def _counted(clause: str) -> float | None:
    """How many machines, where another word than their name says it: `on 16 chips`, `an 8-GPU server`."""
    match = _COUNTED.search(clause)
    return float(match[1]) if match and float(match[1]) > 0 else None


def _one_before(words: list[str], machine: slice) -> bool:
    return machine.start > 0 and words[machine.start - 1].lower() in ("one", "single", "a", "an")


def _plural(word: str, machine: str) -> bool:
    """Whether a word is the plural of a machine's name: `H100s`, where `GB10s` would be no name."""
    return word.endswith("s") and _machine(word.removesuffix("s")) == machine


@lru_cache(maxsize=4096)
def _model(text: str) -> str:
    return "" if isinstance(model_spec(text), Refusal) else text


def _is_format(word: str) -> bool:
    return bool(re.fullmatch(r"w\d+a\d+", word, re.IGNORECASE)) or _known(get_format, word)


def _known(find: Callable[[str], object], word: str) -> bool:
    try:
        find(word)
    except UnknownNameError:
        return False
    return True


def _devices(words: list[str], machine: slice) -> float | None:
    """How many machines: `8x H100`, `8 H100s`, `H100 x8`."""
    inside = re.match(r"(\d+)\s*[x×]", words[machine.start])
    before = words[machine.start - 1] if machine.start else ""
    after = words[machine.stop] if machine.stop < len(words) else ""
    for match in (inside, re.fullmatch(r"(\d+)\s*[x×]?", before), re.fullmatch(r"[x×](\d+)", after)):
        if match:
            return float(match[1])
    return None
