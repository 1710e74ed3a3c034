"""Running whole models: prefill equals decode, sampling, limits, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import numpy_model
from tests.kernels.models import FAMILIES, MODELS, TOKENS
from tests.kernels.random_gguf import RandomModel, write_random_gguf

from waferline.errors import DoesNotFitError, FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.kernels import runner
from waferline.kernels.cpu.widen import kept_as, widened
from waferline.kernels.runner.sampling import Sampling, choose_token, probabilities
from waferline.kernels.runner.tokenizer import ByteLevel, SentencePiece, split_words


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gguf(tmp_path_factory.mktemp("small") / "small.gguf")


@pytest.fixture(scope="module")
def model(small: Path) -> runner.Runner:
    loaded = runner.load(small, threads=1)
    runner.warm_up(loaded)
    return loaded


@pytest.mark.parametrize("name", MODELS)
def test_prefill_equals_decoding(tmp_path: Path, name: str) -> None:
    loaded = runner.load(write_random_gguf(tmp_path / "m.gguf", MODELS[name]), threads=1)
    one_by_one = np.stack([loaded.decode(token).copy() for token in TOKENS])
    loaded.reset()
    together = loaded.prefill(TOKENS, all_logits=True)
    np.testing.assert_allclose(together, one_by_one, atol=2e-5 * np.abs(one_by_one).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_what_its_description_says(tmp_path: Path, name: str) -> None:
    """Every logit of a prompt against float64 NumPy; the cache's f16 is the only rounding, so 3e-3 of the norm is much."""
    path = write_random_gguf(tmp_path / "m.gguf", FAMILIES[name])
    loaded = runner.load(path, threads=1)
    wanted = numpy_model.Model(path).logits(TOKENS)
    together = loaded.prefill(TOKENS, all_logits=True)
    assert np.linalg.norm(together - wanted) < 3e-3 * np.linalg.norm(wanted)
    loaded.reset()
    one_by_one = np.stack([loaded.decode(token).copy() for token in TOKENS])
    assert np.linalg.norm(one_by_one - wanted) < 3e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize("format", ["Q5_0", "IQ4_NL", "MXFP4"])
def test_what_is_widened_keeps_every_value(format: str) -> None:
    """Against the `gguf` package's own decoding, bit by bit, for all codes."""
    import gguf

    kind = gguf.GGMLQuantizationType[format]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(3).integers(0, 256, (64, size), dtype=np.uint8)
    if format == "MXFP4":
        blocks[:, 0] = np.arange(104, 168) % 40 + 104
    else:
        blocks[:, :2] = np.linspace(-2, 2, 64, dtype=np.float16).view(np.uint8).reshape(64, 2)
    wide = widened(blocks.reshape(-1), format).reshape(64, -1)
    values = gguf.quants.dequantize(wide, gguf.GGMLQuantizationType[kept_as(format)])
    np.testing.assert_array_equal(values, gguf.quants.dequantize(blocks, kind))


def test_scales_that_f16_cannot_hold_are_refused() -> None:
    block = np.full((1, 17), 0x11, np.uint8)
    block[0, 0] = 90
    with pytest.raises(UnsupportedError, match="MXFP4"):
        widened(block, "MXFP4")
    block[0, 1:] = 0  # a scale of nothing does not matter
    assert not widened(block, "MXFP4")[2:].any()


def test_a_prefill_may_come_in_pieces(model: runner.Runner) -> None:
    model.reset()
    whole = model.prefill(TOKENS).copy()
    model.reset()
    model.prefill(TOKENS[:3])
    model.prefill(TOKENS[3:-1])
    np.testing.assert_allclose(model.decode(TOKENS[-1]), whole, atol=2e-5 * np.abs(whole).max())
    assert model.tokens == len(TOKENS)


def test_two_threads_give_the_same_tokens(small: Path, model: runner.Runner) -> None:
    other = runner.load(small, threads=2)
    assert other.generate(TOKENS, 5).tokens == model.generate(TOKENS, 5).tokens


def test_a_q8_cache_changes_little(small: Path, model: runner.Runner) -> None:
    model.reset()
    expected = model.prefill(TOKENS)
    y = runner.load(small, threads=1, kv="q8").prefill(TOKENS)
    assert np.corrcoef(y, expected)[0, 1] > 0.99


def test_generation_is_repeatable_and_counts_its_time(model: runner.Runner) -> None:
    warm = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=3)
    first, second = (model.generate("hello t5", 6, warm) for _ in range(2))
    assert first.tokens == second.tokens
    assert first.text == second.text
    assert first.tokens != model.generate("hello t5", 6, Sampling(temperature=5.0, seed=4)).tokens
    assert len(first.timings.decode_s) == len(first.tokens) - 1
    assert first.timings.decode_tokens_per_s > 0
    shares = []  # of the steps that their operators account for: another process may come between, so the quietest run counts
    for _ in range(5):
        timings = model.generate("hello t5", 6, warm).timings
        shares.append(sum(timings.operators_s.values()) / sum(timings.decode_s))
    assert 0.8 < max(shares) <= 1.2


def test_generation_stops_at_the_context(small: Path) -> None:
    loaded = runner.load(small, threads=1, context=16)
    result = loaded.generate(TOKENS, 100)
    assert result.stopped == "context"
    assert len(TOKENS) + len(result.tokens) == 17  # the last token is said but not fed back
    with pytest.raises(DoesNotFitError, match="context of 16"):
        loaded.generate([1] * 17, 1)


def test_wrong_requests(model: runner.Runner, small: Path) -> None:
    with pytest.raises(InvalidInputError, match="0 to 319"):
        model.decode(320)
    with pytest.raises(InvalidInputError, match="no tokens"):
        model.prefill([])
    with pytest.raises(InvalidInputError):
        model.generate("x", -1)
    with pytest.raises(InvalidInputError, match="1 to 256"):
        runner.load(small, context=257)
    with pytest.raises(DoesNotFitError, match="packed weights"):
        runner.load(small, memory_bytes=17_100_000)
    with pytest.raises(DoesNotFitError, match="KV cache"):
        runner.load(small, memory_bytes=1000)


def test_damaged_weights_do_not_choose_a_token() -> None:
    with pytest.raises(InvalidInputError, match="NaN"):
        choose_token(np.array([1.0, np.nan]), Sampling(), np.random.default_rng(0))


def test_sampling_keeps_what_it_promises() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    tokens, p = probabilities(logits, Sampling(temperature=1.0, top_p=0.79))
    assert tokens.tolist() == [0, 1]
    np.testing.assert_allclose(p, [0.625, 0.375])
    assert probabilities(logits, Sampling(temperature=1.0, top_k=3))[0].tolist() == [0, 1, 2]
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}):
        with pytest.raises(InvalidInputError):
            Sampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-30, 1e300])
def test_any_temperature_gives_probabilities(temperature: float) -> None:
    tokens, p = probabilities(np.array([1.0, 30.0, -80.0], np.float32), Sampling(temperature=temperature, top_p=0.9))
    assert np.isfinite(p).all() and p.sum() == pytest.approx(1) and tokens[0] == 1
    assert p[0] == (1.0 if temperature < 1 else pytest.approx(1 / 3))


def test_architectures_and_formats_without_code_are_named(tmp_path: Path) -> None:
    path = write_random_gguf(tmp_path / "m.gguf", RandomModel(layers=1))
    raw = path.read_bytes()
    (tmp_path / "other.gguf").write_bytes(raw.replace(b"llama", b"mamba"))
    with pytest.raises(UnsupportedError, match=r"mamba.*qwen2"):
        runner.load(tmp_path / "other.gguf")
    odd = write_random_gguf(tmp_path / "odd.gguf", RandomModel(layers=1, format="Q5_1", head_format="Q8_0"))
    with pytest.raises(UnsupportedError, match="Q4_K"):
        runner.load(odd)


def test_a_truncated_file_is_refused_at_any_length(small: Path, tmp_path: Path) -> None:
    raw = small.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 64, 7), 1000, 5000, 20000, len(raw) // 2, len(raw) - 1]:
        cut.write_bytes(raw[:length])
        with pytest.raises(FileFormatError):
            runner.load(cut, threads=1)
    with pytest.raises(FileFormatError):
        runner.load(tmp_path / "missing.gguf")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flipped_header_bytes_never_crash(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Either one clear error, or a model that still loads: never a crash, never a huge allocation."""
    raw = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 20000))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    path.write_bytes(raw)
    try:
        runner.load(path, threads=1, memory_bytes=1 << 30)
    except WaferlineError as error:
        assert "\n" not in str(error)


def test_sentencepiece_merges_best_score_first() -> None:
    tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "\u2581", "<0x21>"]
    types = [2, 1, 1, 1, 1, 1, 1, 1, 6]
    best_bc = SentencePiece(tokens, types, [0, -9, -9, -9, -3, -1, -9, -9, 0], prefix=False)
    assert [tokens[t] for t in best_bc.pieces("abb")] == ["ab", "b"]
    assert [tokens[t] for t in best_bc.pieces("abc")] == ["abc"]
    assert [tokens[t] for t in best_bc.pieces("bcb c!")] == ["bc", "b", "\u2581", "c", "<0x21>"]
    assert best_bc.pieces("é") == [0, 0]  # two bytes the vocabulary lacks


def test_byte_level_bpe_splits_like_its_expression() -> None:
    letters = [chr(c) for c in range(33, 127)] + ["\u0120", "\u010a"]  # stand-ins of space and newline
    tokens = [*letters, "he", "ll", "hell", "\u0120w", "12"]
    scheme = ByteLevel(tokens, ["h e", "l l", "he ll", "\u0120 w", "1 2"], "qwen2")
    assert [tokens[t] for t in scheme.pieces("hello w")] == ["hell", "o", "\u0120w"]
    assert [tokens[t] for t in scheme.pieces("123")] == ["1", "2", "3"]  # qwen2 splits every digit
    scheme = ByteLevel(tokens, ["1 2"], "llama3")
    assert [tokens[t] for t in scheme.pieces("123")] == ["12", "3"]
    assert b"".join(map(scheme.bytes_of, scheme.pieces("he said\n no"))).decode() == "he said\n no"


# What llama.cpp's expressions, written with \p{...} in its source, cut texts into; found with the `regex` of `tokenizers`.
_TEXTS = (
    "I'LL pay 1234 for HTMLParser\n\n  x  12 a/b//\n",
    "naïve ÉCOLE été42  7",
    "  don't  stop\t3.14 \n",
    "東京タワーab C",
)
_CASED = (
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+END"
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*END"
    r"|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTRACTED = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ORIGINALS = {
    "tekken": (_CASED.replace("END", "").replace("DIGITS", r"\p{N}"),),
    "gpt-4o": (_CASED.replace("END", _CONTRACTED + "?").replace("DIGITS", r"\p{N}{1,3}"),),
    "refact": (r"\p{N}", _GPT2),
    "gpt-2": (_GPT2,),
    "dbrx": (_CONTRACTED + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",),
}


@pytest.mark.parametrize("name", _ORIGINALS)
def test_texts_are_split_as_the_original_expressions_do(name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    split = tokenizers.pre_tokenizers.Split
    steps = [split(tokenizers.Regex(original), "isolated") for original in _ORIGINALS[name]]
    peer = tokenizers.pre_tokenizers.Sequence(steps)
    for text in _TEXTS:
        assert split_words(text, name) == [word for word, _ in peer.pre_tokenize_str(text)]
