"""Encoder-decoders and text encoders as published: their parameters, and what the encoder leaves to the decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from waferline.formats import resolve
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_decode, lower_forward, lower_prefill
from waferline.workloads.spec import Transformer

BART_LARGE_CNN = {
    "model_type": "bart",
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "vocab_size": 50264,
    "max_position_embeddings": 1024,
}
BGE_M3 = {
    "model_type": "xlm-roberta",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 250002,
    "type_vocab_size": 1,
    "max_position_embeddings": 8194,
}
DEBERTA_V3_BASE = {
    "model_type": "deberta-v2",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "max_position_embeddings": 512,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "max_relative_positions": -1,
}
NLLB_600M = BART_LARGE_CNN | {"model_type": "m2m_100", "vocab_size": 256206}
ALBERT_BASE_V2 = {
    "model_type": "albert",
    "hidden_size": 768,
    "embedding_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30000,
    "max_position_embeddings": 512,
}
NOMIC_V15 = {
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": 3072,
    "activation_function": "swiglu",
    "vocab_size": 30528,
    "type_vocab_size": 2,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_positions": 2048,
}
JINA_V2_BASE = {
    "model_type": "bert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30528,
    "type_vocab_size": 2,
    "max_position_embeddings": 8192,
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
}
GTE_LARGE_V15 = {
    "model_type": "new",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 30528,
    "type_vocab_size": 2,
    "max_position_embeddings": 8192,
    "position_embedding_type": "rope",
}


# Of the published structures, as transformers 5.24 builds them (meta device, tied weights once).
@pytest.mark.parametrize(
    ("config", "published"),
    [
        (BART_LARGE_CNN, 406_290_432),
        (BGE_M3, 567_754_752),
        (NLLB_600M, 615_073_792),
        (DEBERTA_V3_BASE, 183_831_552),
        (ALBERT_BASE_V2, 11_683_584),
    ],
)
def test_exact_parameters(config: dict[str, Any], published: int) -> None:
    count = parameter_count(load_model(config))
    assert published in (count.total, count.total + count.extra)


# Code of their own, which transformers does not hold: parameters as the model cards round them.
@pytest.mark.parametrize(("config", "published"), [(NOMIC_V15, 137e6), (JINA_V2_BASE, 137e6), (GTE_LARGE_V15, 434e6)])
def test_rounded_parameters(config: dict[str, Any], published: float) -> None:
    assert parameter_count(load_model(config)).total == pytest.approx(published, rel=0.005)


def test_the_encoder_reads_the_prompt_and_the_decoder_keeps_its_keys_and_values() -> None:
    answer = run(Scenario(model=BART_LARGE_CNN, machine="h100", precision="bf16", prompt=1000, output=111))
    # Keys and values, 12 layers, 1024 wide, 2 bytes: of 1,000 encoder states, and of 112 decoder tokens (seven blocks).
    assert float(answer.result["device_kv_bytes"]) == 2 * 12 * 1024 * 2 * (1000 + 112)


def test_cross_keys_and_values_are_computed_once() -> None:
    model = load_model(BART_LARGE_CNN)
    assert isinstance(model, Transformer)
    precision = resolve("bf16", lambda fmt: fmt)
    prefill = {op.name: op for op in lower_prefill(model, batch=1, prompt=1000, precision=precision)}
    decode = {op.name: op for op in lower_decode(model, batch=1, context=50, precision=precision, memory=1000)}
    assert float(np.asarray(prefill["cross.kv"].flops)) == 2 * 1000 * 2048 * 1024
    assert "cross.kv" not in decode
    assert "encoder.ffn.up" not in decode
    assert float(np.asarray(decode["cross.core"].kv_bytes)) == 2 * 1000 * 1024 * 2
    assert float(np.asarray(decode["attention.core"].kv_bytes)) == 2 * 50 * 1024 * 2
    assert float(np.asarray(prefill["ffn.up"].shape["m"])) == 1  # the decoder starts from one token


def test_whisper_starts_from_its_four_tokens() -> None:
    usual = run(Scenario(model="whisper-tiny", machine="h100", output=8))
    said = run(Scenario(model="whisper-tiny", machine="h100", prompt=4, output=8))
    assert float(usual.result["ttft_s"]) == float(said.result["ttft_s"])


def test_a_text_encoder_of_a_diffusion_model_is_an_encoder() -> None:
    t5 = {"model_type": "t5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    t5 |= {"vocab_size": 32128, "feed_forward_proj": "gated-gelu", "architectures": ["T5EncoderModel"]}
    model = load_model(t5)
    assert isinstance(model, Transformer)
    assert (model.kind, model.encoder) == ("encoder", ())
    assert parameter_count(model).total == 4_762_310_656  # T5 v1.1 XXL's encoder, as Stable Diffusion 3 ships it


@pytest.mark.parametrize(("window", "pairs"), [(128, 1000 * 128), (None, 1000 * 1000)])
def test_local_attention_that_sees_both_ways(window: int | None, pairs: int) -> None:
    config = {"model_type": "modernbert", "hidden_size": 768, "num_hidden_layers": 3, "num_attention_heads": 12}
    config |= {"intermediate_size": 1152, "vocab_size": 50368, "local_attention": 128, "max_position_embeddings": 8192}
    model = load_model(config)
    cores = [
        op
        for op in lower_forward(model, batch=1, tokens=1000, precision=resolve("bf16", lambda fmt: fmt))
        if op.name == "attention.core"
    ]
    assert 4 * 768 * pairs in [float(np.asarray(op.flops)) for op in cores]
