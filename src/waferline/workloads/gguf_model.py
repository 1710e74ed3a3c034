"""GGUF files: the model a header describes, with the bytes of its tensors exactly as stored.

The header's keys are translated to those of the same architecture's Hugging Face configuration and read by the same
families; what a header leaves out (vocabulary, biases, tied embeddings) is seen from the tensors. In the end they must
hold as many parameters as the structure has. Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from waferline.catalog.names import slug
from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, nearest
from waferline.formats import format_names
from waferline.formats.gguf_header import open_gguf
from waferline.formats.tensors import TensorFile, TensorInfo
from waferline.workloads.counts import parameter_count
from waferline.workloads.huggingface import from_config
from waferline.workloads.spec import Transformer

_MAX_MISMATCH = 0.005  # rope tables and quantiser scales ride along in some files; more than this is another structure
_NOT_WEIGHTS = ("rope_freqs", "rope_factors", "attn_rot_embd", ".scale", ".input_scale")
_EMBEDDINGS = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")

# Header key (after the architecture's name) → configuration key
_KEYS: Mapping[str, str] = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim",
    "leading_dense_block_count": "first_k_dense_replace",
    "interleave_moe_layer_step": "interleave_moe_layer_step",
    "full_attention_interval": "full_attention_interval",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_shared_count": "n_shared_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "nextn_predict_layers": "num_nextn_predict_layers",
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "state_size",
    "ssm.group_count": "n_groups",
    "ssm.time_step_rank": "time_step_rank",
}

Values = dict[str, Any]


def from_gguf(path: str | Path) -> Transformer:
    """The model of a GGUF file.

    Raises: FileFormatError (not GGUF, truncated, corrupt, or tensors that do not add up to the described model),
    UnsupportedError (an architecture that is not known, or one part of a split file).
    """
    path = Path(path)
    file = open_gguf(path)
    header: Values = {key: field.value for key, field in file.metadata.items()}
    architecture = header.get("general.architecture")
    if not isinstance(architecture, str):
        raise FileFormatError("no 'general.architecture' in the header", where=str(path))
    if isinstance(header.get("split.count"), int) and header["split.count"] > 1:
        raise UnsupportedError(
            f"this is one of {header['split.count']} parts",
            where=str(path),
            hint="join them with llama-gguf-split --merge",
        )
    config = _configuration(architecture, header, file)
    spec = from_config(config, slug(path.stem) or "model", f"{path}: header")
    if not isinstance(spec, Transformer):  # no GGUF architecture maps to another kind
        raise UnsupportedError("not a language model", where=str(path))
    _check(spec, file)
    title = header.get("general.name")
    return replace(
        spec,
        title=title if isinstance(title, str) and title else path.stem,
        weight_format=_weight_format(header, file),
        weight_bytes_exact=_bytes(file),
        metadata={**spec.metadata, "architecture": architecture, "file": path.name},
    )


def _configuration(architecture: str, header: Values, file: TensorFile) -> Values:
    """The header as a Hugging Face configuration."""
    if architecture not in _ARCHITECTURES:
        close = nearest(architecture, _ARCHITECTURES)
        hint = f"nearest: {', '.join(close)}" if close else f"{len(_ARCHITECTURES)} are known, such as llama, qwen3"
        raise UnsupportedError(f"architecture {shown(architecture)} is not supported", where=str(file.path), hint=hint)
    values: Values = {}
    for key, value in header.items():
        name = _KEYS.get(key.removeprefix(f"{architecture}."))
        if name is not None and key.startswith(f"{architecture}."):
            values[name] = _scalar(key, value, file)
    tensors = {t.name: t for t in file.tensors}
    table = tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise FileFormatError("no 'token_embd.weight' matrix", where=str(file.path))
    values["vocab_size"] = table.shape[0]
    values["tie_word_embeddings"] = "output.weight" not in tensors
    values["attention_bias"] = any(f"blk.0.attn_{part}.bias" in tensors for part in ("q", "qkv"))
    family, adapt = _ARCHITECTURES[architecture]
    values["model_type"] = family
    if adapt is not None:
        adapt(values, header, tensors)
    return values


def _scalar(key: str, value: Any, file: TensorFile) -> Any:
    """A number; a list of equal numbers, one for each layer, is that number."""
    if isinstance(value, list):
        if not value or any(item != value[0] for item in value):
            raise UnsupportedError(f"'{key}' differs from layer to layer", where=str(file.path))
        return value[0]
    return value


def _check(spec: Transformer, file: TensorFile) -> None:
    """Refuses a file whose tensors are not those of the described structure."""
    held = sum(t.weights for t in file.tensors if not any(part in t.name for part in _NOT_WEIGHTS))
    count = parameter_count(spec)
    close = min(abs(held - expected) for expected in (count.total, count.total + count.extra))
    if close > _MAX_MISMATCH * count.total:
        raise FileFormatError(
            f"the tensors hold {held} parameters, the header describes {count.total}", where=str(file.path)
        )


def _bytes(file: TensorFile) -> dict[str, float]:
    """Stored bytes of the embedding, head, routed experts and everything else."""
    parts = {"embedding": 0.0, "head": 0.0, "blocks": 0.0, "experts": 0.0}
    for tensor in file.tensors:
        parts[_part(tensor)] += tensor.nbytes
    return parts


def _part(tensor: TensorInfo) -> str:
    if tensor.name.startswith(_EMBEDDINGS):
        return "embedding"
    if tensor.name in ("output.weight", "output.bias"):
        return "head"
    return "experts" if "_exps." in tensor.name else "blocks"


def _weight_format(header: Values, file: TensorFile) -> str:
    """The mixture the file says it is (`general.file_type`), else the format most of its matrices are in."""
    import gguf

    known = set(format_names())
    try:
        name = gguf.LlamaFileType(int(header.get("general.file_type", -1))).name.lower()
    except (TypeError, ValueError):
        name = ""
    name = name.removeprefix("mostly_").removeprefix("all_").removesuffix("_moe").replace("f16", "fp16")
    name = {"f32": "fp32", "bfp16": "bf16"}.get(name, name)
    if name in known:
        return name
    weights: dict[str, int] = {}
    for tensor in file.tensors:
        if len(tensor.shape) > 1:
            weights[tensor.format] = weights.get(tensor.format, 0) + tensor.weights
    return max(weights, key=lambda f: weights[f]) if weights else "fp32"


Tensors = Mapping[str, TensorInfo]
Adapt = Callable[[Values, Values, Tensors], None]


def _llama(v: Values, header: Values, tensors: Tensors) -> None:
    if v.get("num_experts"):
        v["model_type"] = "mixtral"


def _qwen2_moe(v: Values, header: Values, tensors: Tensors) -> None:
    v.pop("n_shared_experts", None)


def _deepseek2(v: Values, header: Values, tensors: Tensors) -> None:
    """Later files cache the latent and give the head widths under `_mla` names."""
    key = header.get("deepseek2.attention.key_length_mla") or v.get("head_dim")
    value = header.get("deepseek2.attention.value_length_mla") or header.get("deepseek2.attention.value_length")
    rope = v.get("qk_rope_head_dim")
    if not all(isinstance(x, int) for x in (key, value, rope)):
        raise InvalidInputError("key, value and rotary lengths of the attention heads are missing or not whole numbers")
    assert isinstance(key, int) and isinstance(rope, int)
    v["qk_nope_head_dim"], v["v_head_dim"] = key - rope, value
    v["n_routed_experts"] = v.pop("num_experts", None)
    v.pop("head_dim", None)
    if "blk.0.attn_kv_b.weight" not in tensors and not any(
        ".attn_kv_b." in name or ".attn_k_b." in name for name in tensors
    ):
        raise InvalidInputError("no latent attention tensors")
    v["topk_method"] = "noaux_tc" if any("exp_probs_b" in name for name in tensors) else None


def _glm4_moe(v: Values, header: Values, tensors: Tensors) -> None:
    v["use_qk_norm"] = any(name.endswith("attn_q_norm.weight") for name in tensors)
    v["n_routed_experts"] = v.pop("num_experts", None)
    modules = v.get("num_nextn_predict_layers") or 0
    v["num_hidden_layers"] -= modules


def _uniform_experts(v: Values, header: Values, tensors: Tensors) -> None:
    v["intermediate_size"] = v.pop("moe_intermediate_size", None) or v.get("intermediate_size")


def _gemma3(v: Values, header: Values, tensors: Tensors) -> None:
    v["sliding_window_pattern"] = header.get("gemma3.attention.sliding_window_pattern") or 6


def _phi3(v: Values, header: Values, tensors: Tensors) -> None:
    v.pop("attention_bias", None)


def _starcoder2(v: Values, header: Values, tensors: Tensors) -> None:
    v["use_bias"] = v.pop("attention_bias")


def _falcon(v: Values, header: Values, tensors: Tensors) -> None:
    groups = v.pop("num_key_value_heads", 1)
    new = "blk.0.attn_norm_2.weight" in tensors
    v |= {"new_decoder_architecture": new, "num_kv_heads": groups, "multi_query": groups == 1, "bias": False}


def _mpt(v: Values, header: Values, tensors: Tensors) -> None:
    hidden, inner = v["hidden_size"], v["intermediate_size"]
    v |= {"d_model": hidden, "n_layers": v["num_hidden_layers"], "n_heads": v["num_attention_heads"]}
    v |= {"max_seq_len": v["max_position_embeddings"], "expansion_ratio": inner / hidden}
    v["no_bias"] = "blk.0.attn_qkv.bias" not in tensors
    v["attn_config"] = {"alibi": "position_embd.weight" not in tensors, "kv_n_heads": v.get("num_key_value_heads")}


def _mamba(v: Values, header: Values, tensors: Tensors) -> None:
    v["intermediate_size"] = header.get("mamba.ssm.inner_size")


def _mamba2(v: Values, header: Values, tensors: Tensors) -> None:
    inner, number = header.get("mamba2.ssm.inner_size"), v.get("time_step_rank")
    if not isinstance(inner, int) or not isinstance(number, int) or not number or inner % v["hidden_size"]:
        raise InvalidInputError("mamba2.ssm.inner_size and mamba2.ssm.time_step_rank do not describe heads")
    v |= {"num_heads": number, "head_dim": inner // number, "expand": inner // v["hidden_size"]}


def _bert(v: Values, header: Values, tensors: Tensors) -> None:
    types = tensors.get("token_types.weight")
    v["type_vocab_size"] = types.shape[0] if types is not None else 0
    positions = tensors.get("position_embd.weight")
    if positions is not None:
        v["max_position_embeddings"] = positions.shape[0]


def _dbrx(v: Values, header: Values, tensors: Tensors) -> None:
    v |= {"d_model": v["hidden_size"], "n_layers": v["num_hidden_layers"], "n_heads": v["num_attention_heads"]}
    v["attn_config"] = {"kv_n_heads": v.get("num_key_value_heads")}
    v["ffn_config"] = {
        "ffn_hidden_size": v.get("intermediate_size"),
        "moe_num_experts": v.get("num_experts"),
        "moe_top_k": v.get("num_experts_per_tok"),
    }


# Architecture in GGUF → (model_type, what the common keys do not say)
_ARCHITECTURES: Mapping[str, tuple[str, Adapt | None]] = {
    "llama": ("llama", _llama),
    "mistral3": ("mistral", None),
    "qwen2": ("qwen2", None),
    "qwen2moe": ("qwen2_moe", _qwen2_moe),
    "qwen3": ("qwen3", None),
    "qwen3moe": ("qwen3_moe", None),
    "gemma": ("gemma", None),
    "gemma2": ("gemma2", None),
    "gemma3": ("gemma3_text", _gemma3),
    "phi2": ("phi", None),
    "phi3": ("phi3", _phi3),
    "deepseek2": ("deepseek_v2", _deepseek2),
    "gpt-oss": ("gpt_oss", _uniform_experts),
    "minimax-m2": ("minimax_m2", _uniform_experts),
    "olmoe": ("olmoe", _uniform_experts),
    "glm4": ("glm4", None),
    "glm4moe": ("glm4_moe", _glm4_moe),
    "dbrx": ("dbrx", _dbrx),
    "internlm2": ("internlm2", None),
    "granite": ("granite", None),
    "smollm3": ("smollm3", None),
    "seed_oss": ("seed_oss", None),
    "stablelm": ("stablelm", None),
    "command-r": ("cohere", None),
    "olmo": ("olmo", None),
    "olmo2": ("olmo2", None),
    "starcoder2": ("starcoder2", _starcoder2),
    "starcoder": ("gpt_bigcode", None),
    "gpt2": ("gpt2", None),
    "gptneox": ("gpt_neox", None),
    "falcon": ("falcon", _falcon),
    "bloom": ("bloom", None),
    "mpt": ("mpt", _mpt),
    "mamba": ("mamba", _mamba),
    "mamba2": ("mamba2", _mamba2),
    "bert": ("bert", _bert),
}
