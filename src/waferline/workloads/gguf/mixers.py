"""Sequence mixers of a layer, told by which tensors it has; their sizes are those of the tensors.

Tensor names: `gguf.TENSOR_NAMES`; what each means: the model files of llama.cpp (src/llama-model.cpp, src/models).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from waferline.workloads.gguf.architectures import ARCHITECTURES
from waferline.workloads.gguf.header import Header
from waferline.workloads.gguf.layer import Layer, divided
from waferline.workloads.spec import Attention, LatentAttention, LinearAttention, Mixer, Recurrent, StateSpace


def mixers(layer: Layer, header: Header, hidden: int) -> tuple[Mixer, ...]:
    """The mixers over the sequence, none, one, or two side by side (Falcon-H1).

    Raises: FileFormatError for tensors whose sizes are not those that the header says.
    """
    return tuple(read(layer, header, hidden) for name, read in _READERS if layer.has(f"{name}.weight"))


def attention(layer: Layer, header: Header, hidden: int) -> Attention:
    """Softmax attention: heads from the header, their widths from the rows of the projections."""
    heads = header.size("attention.head_count", layer.number)
    groups = header.whole("attention.head_count_kv", layer.number) or heads
    if heads % groups:
        raise layer.wrong(f"{heads} query heads cannot share {groups} key/value heads equally")
    fused = layer.matrix("attn_qkv.weight")
    if fused:
        width, value = _fused_widths(layer, header, fused[0], heads, groups)
        rows, has_value = heads * width, True
        bias = layer.elements("attn_qkv.bias") > 0
    else:
        rows, _ = layer.need("attn_q.weight")
        keys, values = layer.matrix("attn_k.weight"), layer.matrix("attn_v.weight")
        key_length = header.whole("attention.key_length", layer.number) or rows // heads
        width = divided(layer, keys[0], groups, "rows of 'attn_k'") if keys else key_length
        value = divided(layer, values[0], groups, "rows of 'attn_v'") if values else width
        has_value = values is not None
        if layer.number >= first_borrowing(header) or not (keys or values):
            layer.unused += sum(found[0] * found[1] for found in (keys, values) if found)
            return _borrowed(layer, rows, heads, groups)
        bias = layer.all("attn_q.bias", "attn_k.bias", "attn_v.bias")
    if rows not in (heads * width, 2 * heads * width):
        raise layer.wrong(f"{rows} rows of 'attn_q' are not {heads} heads of {width}")
    read = Attention(
        heads=heads,
        kv_heads=groups,
        head_dim=width,
        value_dim=None if value == width else value,
        value_is_key=not has_value,
        qkv_bias=bias,
        output_gate=rows == 2 * heads * width,
    )
    return _finished(layer, read)


def _fused_widths(layer: Layer, header: Header, rows: int, heads: int, groups: int) -> tuple[int, int]:
    """Widths of a key and of a value head in one matrix: as the header says them, if they fit, else equal ones."""
    for end in ("", "_swa"):
        key, value = (header.whole(f"attention.{name}_length{end}", layer.number) for name in ("key", "value"))
        if key and value and rows == (heads + groups) * key + groups * value:
            return key, value
    width = divided(layer, rows, heads + 2 * groups, "rows of 'attn_qkv'")
    return width, width


def first_borrowing(header: Header) -> int:
    """The first of the last layers that use keys and values of earlier ones."""
    shared = header.whole("attention.shared_kv_layers")
    if shared is not None:
        return header.layers() - shared
    usual = ARCHITECTURES[header.architecture].kv_layers
    return header.layers() if usual is None else usual


def _borrowed(layer: Layer, rows: int, heads: int, groups: int) -> Attention:
    """A layer without keys and values of its own attends to those of an earlier one (Gemma 3n)."""
    width = divided(layer, rows, heads, "rows of 'attn_q'")
    layer.unused += layer.elements("attn_k_norm.weight")
    return _finished(layer, Attention(heads, groups, width, shared_kv=True))


def _finished(layer: Layer, a: Attention) -> Attention:
    """The output projection, and what else a file says of attention by having it."""
    out = layer.need("attn_output.weight", "attn_o.weight")
    if out[1] != a.heads * a.v_head_dim:
        raise layer.wrong(f"{out[1]} columns of 'attn_output' are not {a.heads} heads of {a.v_head_dim}")
    gate = layer.matrix("attn_gate.weight")
    one_norm, all_norms = a.head_dim, (a.heads * a.head_dim, a.kv_heads * a.head_dim)
    norm = layer.elements("attn_q_norm.weight")
    key_norm = layer.elements("attn_k_norm.weight")
    return replace(
        a,
        out_bias=layer.elements("attn_output.bias") > 0,
        qk_norm=norm == one_norm and (key_norm == one_norm or a.shared_kv),
        qk_norm_full=norm != one_norm and (norm, key_norm) == all_norms,
        sinks=layer.elements("attn_sinks.weight") > 0,
        inner_norm=layer.elements("attn_sub_norm.weight") > 0,
        output_gate=a.output_gate or (gate is not None and gate[0] == a.heads * a.v_head_dim),
        head_gate=gate is not None and gate[0] == a.heads,
    )


def cross_attention(layer: Layer, header: Header) -> Attention:
    """Attention of a decoder over the encoder's states (T5)."""
    heads = header.size("attention.head_count", layer.number)
    width = divided(layer, layer.need("cross_attn_q.weight")[0], heads, "rows of 'cross_attn_q'")
    for name in ("cross_attn_k.weight", "cross_attn_v.weight", "cross_attn_o.weight"):
        layer.need(name)
    return Attention(heads, heads, width, causal=False, cross=True)


def latent(layer: Layer, header: Header, hidden: int) -> LatentAttention:
    """Multi-head latent attention; later files hold the up-projection of the latent in two parts."""
    heads = header.size("attention.head_count", layer.number)
    rank = header.size("attention.kv_lora_rank", layer.number)
    down = layer.need("attn_kv_a_mqa.weight")
    layer.elements("attn_kv_a_norm.weight")
    rope = down[0] - rank
    query_down = layer.matrix("attn_q_a.weight")
    layer.elements("attn_q_a_norm.weight")
    query = layer.need("attn_q_b.weight") if query_down else layer.need("attn_q.weight")
    width = divided(layer, query[0], heads, "rows of the query projection")
    value = divided(layer, layer.need("attn_output.weight")[1], heads, "columns of 'attn_output'")
    whole, halves = layer.elements("attn_kv_b.weight"), layer.elements("attn_k_b.weight")
    halves += layer.elements("attn_v_b.weight")
    up = whole or halves
    layer.unused += halves if whole else 0
    if rope < 0 or width <= rope or up != rank * heads * (width - rope + value):
        raise layer.wrong("the latent attention's tensors are not of the sizes that the header says")
    index, picked = layer.matrix("indexer.attn_q_b.weight"), header.whole("attention.indexer.top_k", layer.number) or 0
    index_heads = header.size("attention.indexer.head_count", layer.number) if picked else 0
    index_dim = divided(layer, index[0], index_heads, "rows of the indexer") if index else 0
    gate = layer.matrix("attn_gate.weight")
    for name in ("attn_k.weight", "proj.weight", "k_norm.weight", "k_norm.bias"):
        layer.elements(f"indexer.{name}")
    return LatentAttention(
        heads=heads,
        q_lora_rank=query_down[0] if query_down else None,
        kv_lora_rank=rank,
        qk_nope_head_dim=width - rope,
        qk_rope_head_dim=rope,
        v_head_dim=value,
        index_heads=index_heads,
        index_head_dim=index_dim or (header.whole("attention.indexer.key_length", layer.number) or 0 if picked else 0),
        index_topk=picked,
        index_shared=picked > 0 and index is None,
        head_gate=gate is not None and gate[0] == heads,
        full_gate=gate is not None and gate[0] == heads * value,
    )


def state_space(layer: Layer, header: Header, hidden: int) -> StateSpace:
    """Mamba-1, whose Δ, B and C come from x through 'ssm_x', or Mamba-2, which projects them beside x."""
    rows, _ = layer.need("ssm_in.weight")
    channels, kernel = layer.need("ssm_conv1d.weight")
    conv_bias = layer.elements("ssm_conv1d.bias") > 0
    inner, kernel = layer.need("ssm_out.weight")[1] or header.size("ssm.inner_size"), kernel or _kernel(header)
    state = header.size("ssm.state_size", layer.number)
    projected = layer.matrix("ssm_x.weight")
    if projected:
        rank = layer.need("ssm_dt.weight")[1]
        norms = [layer.elements(f"ssm_{name}_norm.weight") for name in ("dt", "b", "c")]
        for name in ("ssm_dt.bias", "ssm_a", "ssm_d"):
            layer.elements(name)
        if rows != 2 * inner or projected[0] != rank + 2 * state:
            raise layer.wrong("the state-space tensors are not of the sizes that the header says")
        return StateSpace(
            inner, state, kernel, dt_rank=rank, conv_bias=conv_bias, inner_norms=all(norms), gated_norm=False
        )
    heads = layer.elements("ssm_dt.bias")
    for name in ("ssm_a", "ssm_d"):
        layer.elements(name)
    groups = divided(layer, channels - inner, 2 * state, "channels of the convolution beside x")
    if rows != inner + channels + heads or not heads:
        raise layer.wrong("the state-space tensors are not of the sizes that the header says")
    return StateSpace(
        inner,
        state,
        kernel,
        groups,
        heads,
        conv_bias=conv_bias,
        gated_norm=layer.elements("ssm_norm.weight") > 0,
    )


def delta_rule(layer: Layer, header: Header, hidden: int) -> LinearAttention:
    """Gated delta rule of Qwen3-Next and Qwen3.5; the first has z beside q, k, v and β beside α, in either order."""
    values_total = layer.need("ssm_out.weight")[1] or header.size("ssm.inner_size")
    channels, kernel = layer.need("ssm_conv1d.weight")
    key_heads, value_heads = header.size("ssm.group_count"), header.size("ssm.time_step_rank")
    key_dim = divided(layer, channels - values_total, 2 * key_heads, "channels of queries and keys")
    projections = ("attn_qkv", "attn_gate", "ssm_in", "ssm_alpha", "ssm_beta", "ssm_ba")
    rows = sum(layer.elements(f"{name}.weight") for name in projections)
    for name in ("ssm_a", "ssm_dt.bias", "ssm_norm.weight"):
        layer.elements(name)
    if rows != hidden * (channels + values_total + 2 * value_heads):
        raise layer.wrong("the delta rule's projections are not of the sizes that the header says")
    value_dim = divided(layer, values_total, value_heads, "columns of 'ssm_out'")
    return LinearAttention(key_heads, value_heads, key_dim, value_dim, kernel or _kernel(header))


def _kernel(header: Header) -> int:
    """Tokens that the convolution sees, where a file keeps no weights of it."""
    return header.size("ssm.conv_kernel")


def kimi_delta(layer: Layer, header: Header, hidden: int) -> Recurrent:
    """Kimi Delta Attention: q, k, v with a short convolution each; decays and output gate through a bottleneck."""
    heads, width = header.size("attention.head_count", layer.number), header.size("kda.head_dim")
    inner = heads * width
    names = ("attn_q", "attn_k", "attn_v", "ssm_beta")
    inputs = sum(layer.need(f"{name}.weight")[0] for name in names)
    kernels = [layer.need(f"ssm_conv1d_{name}.weight") for name in "qkv"]
    conv = sum(rows * columns for rows, columns in kernels)
    low_rank = sum(layer.elements(f"ssm_{name}.weight") for name in ("f_a", "f_b", "g_a", "g_b"))
    small = sum(layer.elements(name) for name in ("ssm_a", "ssm_dt.bias", "ssm_norm.weight", "ssm_g_b.bias"))
    out = layer.need("attn_output.weight")
    if out[1] != inner:
        raise layer.wrong(f"{out[1]} columns of 'attn_output' are not {heads} heads of {width}")
    return Recurrent(inputs, inner, heads * width * width, 3 * inner, conv // (3 * inner), low_rank, small)


def short_convolution(layer: Layer, header: Header, hidden: int) -> Recurrent:
    """LFM2: two gates and a value, a convolution over a few tokens, an output projection."""
    inputs, _ = layer.need("shortconv.in_proj.weight")
    channels, kernel = layer.need("shortconv.conv.weight")
    kernel = kernel or header.size("shortconv.l_cache")
    return Recurrent(inputs, layer.need("shortconv.out_proj.weight")[1], 0, channels, kernel)


def rwkv(layer: Layer, header: Header, hidden: int) -> Recurrent:
    """RWKV-6 and 7: receptance, key, value (and gate), decays through bottlenecks, a state of head size squared a head."""
    head = header.size("wkv.head_size")
    square = [layer.matrix(f"time_mix_{name}.weight") for name in ("receptance", "key", "value", "gate")]
    inputs = sum(found[0] for found in square if found)
    out = layer.need("time_mix_output.weight")[1]
    named = [f"time_mix_{name}{end}" for name in _RWKV_LOW_RANK for end in ("", ".weight")]
    low_rank = sum(layer.elements(name) for name in named)
    return Recurrent(inputs, out, out * head, low_rank=low_rank)


_RWKV_LOW_RANK = ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2", "decay_w1", "decay_w2")

# What tells a mixer → its reader, the first that is there; the second one of a pair beside attention comes with it.
_READERS: tuple[tuple[str, Callable[[Layer, Header, int], Mixer]], ...] = (
    ("attn_kv_a_mqa", latent),
    ("ssm_conv1d_q", kimi_delta),
    ("ssm_beta", delta_rule),
    ("ssm_ba", delta_rule),
    ("shortconv.in_proj", short_convolution),
    ("time_mix_output", rwkv),
    ("attn_qkv", attention),
    ("attn_q", attention),
    ("ssm_in", state_space),
)
