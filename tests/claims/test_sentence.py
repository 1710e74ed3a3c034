"""Sentences and files as claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from waferline.errors import FileFormatError
from waferline.evidence.claims.claim import PER_USER_RATE, Claim
from waferline.evidence.claims.sentence import claims_of
from waferline.evidence.claims.written import read_claims


def one(sentence: str) -> Claim:
    (claim,) = claims_of(sentence)
    return claim


def test_the_sentence_of_the_manual() -> None:
    first, second = claims_of(
        "Llama-7B Q4_K on CS-3: 2400 tokens/s at batch 1; 50000 tokens/s at batch 50000, 2k context"
    )
    assert (first.model, first.machine, first.precision) == ("Llama-7B", "cerebras-wse3", "Q4_K")
    assert (first.metric, first.value, first.batch, first.input_tokens) == ("output_tokens_per_s", 2400, 1, None)
    assert (second.model, second.value, second.batch, second.input_tokens) == ("Llama-7B", 50000, 50000, 2048)


@pytest.mark.parametrize(
    ("sentence", "field", "value"),
    [
        ("Llama 3 8B fp8 on 8x H100: 120 tok/s per user", "devices", 8),
        ("Llama 3 8B fp8 on 8 H100s: 120 tok/s per user", "devices", 8),
        ("Llama 3 8B fp8 on H100 x4: 120 tok/s per user", "devices", 4),
        ("Llama 3 8B on H100: 120 tok/s per user", "metric", PER_USER_RATE),
        ("Llama 3 8B on H100: 120 tps", "metric", "output_tokens_per_s"),
        ("Llama 3 8B on H100: TTFT 20 ms", "value", 0.020),
        ("Llama 3 8B on H100: 12 ms per token", "metric", "tpot_s"),
        ("Llama 3 8B on H100: prefill 9000 tokens/s", "metric", "prompt_tokens_per_s"),
        ("Llama 3 8B on H100: 1.5k tokens/s at batch 16", "value", 1500),
        ("Llama 3 8B on H100: 12,500 tokens/s at batch 16", "value", 12500),
        ("Llama 3 8B on H100: 900 tokens/s for 64 users, 8k context", "input_tokens", 8192),
        ("Llama 3 8B on H100: 900 tokens/s for 64 users", "clients", True),
        ("Llama 3 8B w4a16 on H100: 900 tokens/s at batch 8", "precision", "int4,a=fp16"),
        ("Llama 3 8B fp8 with kv fp8 on H100: 900 tokens/s at batch 8", "kv", "fp8"),
        ("H100 runs Llama 3 8B at 900 tokens/s, batch 8, vllm", "engine", "vllm"),
        ("Llama 3 8B on H100: 900 tok/s at batch 8, 512 in / 128 out", "output_tokens", 128),
        ("Llama 3 8B on 16 H100: 45 % MFU", "value", 0.45),
    ],
)
def test_what_a_clause_says(sentence: str, field: str, value: object) -> None:
    assert (
        getattr(one(sentence), field) == pytest.approx(value)
        if isinstance(value, float)
        else (getattr(one(sentence), field) == value)
    )


def test_nothing_is_invented() -> None:
    claim = one("the moon is made of cheese")
    assert not claim.model and not claim.machine and not claim.metric and len(claim.missing) == 3


def test_a_file_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(
        "defaults: {model: llama-3-8b, machine: h100}\n"
        "claims:\n"
        "  - {output_tokens_per_s: 900, batch: 8, context: 2048}\n"
        "  - {ttft: 20 ms, tpot: 6 ms, batch: 8}\n"
        "  - Mixtral 8x7B on MI300X at batch 4 runs 100 tok/s\n"
    )
    claims = read_claims(path)
    assert [c.metric for c in claims] == ["output_tokens_per_s", "ttft_s", "tpot_s", "output_tokens_per_s"]
    assert claims[1].value == pytest.approx(0.02) and claims[3].machine == "amd-mi300x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claims: 3\n", "list"),
        ("- {model: x, machine: y, tokens_per_ss: 3}\n", "tokens_per_ss"),
        ("- {model: x, machine: y, ttft: -3 ms}\n", "above 0"),
        ("- {model: x, machine: y, ttft: 3 kg}\n", "not a quantity"),
        ("- 7\n", "neither text nor a mapping"),
        ("claims: [a\n", "malformed"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=said):
        read_claims(path)


@pytest.mark.parametrize(
    ("sizes", "batch", "inputs", "outputs"),
    [
        ("batch 1000, context 64", 1000.0, 64.0, None),
        ("batch 1000, prompt 64", 1000.0, 64.0, None),
        ("batch 1000, input 32 output 48", 1000.0, 32.0, 48.0),
        ("512 input 128 output, batch 8", 8.0, 512.0, 128.0),
        ("batch 1,000, 2,048 context", 1000.0, 2048.0, None),
        ("batch 8, 512/128", 8.0, 512.0, 128.0),
    ],
)
def test_a_comma_ends_a_number_and_a_number_is_read_once(
    sizes: str, batch: float, inputs: float, outputs: float | None
) -> None:
    (claim,) = claims_of(f"Llama-7B Q4_K on CS-3: 900 tok/s at {sizes}")
    assert (claim.value, claim.batch, claim.input_tokens, claim.output_tokens) == (900.0, batch, inputs, outputs)


@pytest.mark.parametrize("text", ["[/foo] Llama-7B on CS-3: 5 tok/s at batch 1", "a\0b on H100: 5 tok/s", "x" * 300])
def test_a_sentence_of_any_characters_has_an_answer(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from waferline.cli import run

    assert run(["claim", "check", text]) == 0
    assert capsys.readouterr().out.strip()
