"""What a model is made of: records that say enough to count every parameter, FLOP and byte, and nothing else.

A `Transformer` is a stack of `Block`s (a sequence mixer and a feed-forward part, repeated `count` times) between an
embedding and a head. A `ConvNet` is a list of convolutions and dense layers, a `StreamNet` layers over patches of an image.
Sizes are element counts, never bytes: bytes appear only when a number format is chosen (`waferline.workloads.lower`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from waferline.workloads.described import Described, DescribedTransformer
from waferline.workloads.source import Source
from waferline.workloads.streams import StreamNet, Tower


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention with `heads` query heads sharing `kv_heads` key/value heads (MHA, GQA or MQA)."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None  # sliding window in tokens; None attends to everything before
    causal: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    key_bias: bool | None = None  # None: as qkv_bias; Whisper has biases on queries and values alone
    qk_norm: bool = False  # RMSNorm over head_dim on q and k (Qwen3, Gemma 3)
    qk_norm_full: bool = False  # RMSNorm over all heads together on q and k (OLMo-2, MiniMax-M2)
    sinks: bool = False  # one learned logit per head (gpt-oss)
    cross: bool = False  # keys and values come from the encoder (Whisper decoder)
    output_gate: bool = False  # the query projection is twice as wide; its second half gates the output (Qwen3-Next)
    chunked: bool = False  # `window` is a chunk that starts at multiples of itself (Llama 4)
    inner_norm: bool = False  # a norm of heads * head_dim before the output projection (BitNet)
    value_dim: int | None = None  # width of a value head where it is not head_dim (MiMo-V2)
    value_is_key: bool = False  # no value projection: the key is cached as value, too (global layers of Gemma 4)
    shared_kv: bool = False  # keys and values are those of an earlier layer: no projections, no cache (Gemma 3n)
    head_gate: bool = False  # one sigmoid gate a head on the output (Laguna, Step 3.5)
    # Sparse attention over blocks of tokens (MiniMax-M3): an indexer picks the `index_topk` tokens each query attends to.
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0

    @property
    def v_head_dim(self) -> int:
        return self.value_dim or self.head_dim

    @property
    def kv_elements_per_token(self) -> int:
        """Elements of KV cache one token adds in one layer, an indexer's keys apart."""
        return 0 if self.shared_kv else self.kv_heads * (self.head_dim + self.v_head_dim)


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): KV cached as one low-rank latent."""

    heads: int
    q_lora_rank: int | None  # None: full-rank query projection (V2-Lite)
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    causal: bool = True
    window: int | None = None
    # DeepSeek sparse attention (V3.2, GLM-5): a light indexer picks the `index_topk` tokens each query attends to.
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0  # 0: no indexer, every token is attended to
    index_shared: bool = (
        False  # attends to what an earlier layer's indexer picked: no indexer, no index keys of its own
    )
    head_gate: bool = False  # one sigmoid gate a head on the output (Ling 2.5, dots 3)
    full_gate: bool = False  # a gate as wide as the heads' output (Kimi K3)

    @property
    def kv_heads(self) -> int:
        return 1

    @property
    def head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def kv_elements_per_token(self) -> int:
        return self.kv_lora_rank + self.qk_rope_head_dim


@dataclass(frozen=True, slots=True)
class CompressedAttention:
    """DeepSeek-V4: all heads share one key that is its value, too; of the far past one entry for `ratio` tokens is kept.

    Each query sees a window of single tokens and those entries: all of them, or the `index_topk` that an indexer picks.
    The output passes `output_groups` groups of heads through a bottleneck of `output_rank` each.
    """

    heads: int
    head_dim: int
    q_lora_rank: int
    output_groups: int
    output_rank: int
    window: int
    ratio: int = 0  # tokens of one compressed entry; 0: the window is all that is seen
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0  # 0: every entry is seen
    causal: bool = True

    @property
    def kv_heads(self) -> int:
        return 1

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that a token adds for good: a share of its entry, or of a layer of windows alone its place there."""
        return self.head_dim // (self.ratio or 1)

    @property
    def series(self) -> int:
        """Compressions that overlap: entries that an indexer picks from are made of two windows of tokens."""
        return 2 if self.index_topk else 1


@dataclass(frozen=True, slots=True)
class StateSpace:
    """A selective state-space mixer: Mamba-2 (arXiv:2405.21060) when `heads` is set; Mamba-1 when it is None."""

    inner: int
    state: int
    conv_kernel: int
    groups: int = 1
    heads: int | None = None
    dt_rank: int | None = None  # Mamba-1 only
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False  # Jamba: norms on dt, B and C
    gated_norm: bool = True  # Mamba-2: a norm of `inner` before the output projection (Falcon-H1 has none)

    @property
    def kv_elements_per_token(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated delta-rule linear attention (Qwen3-Next, Qwen3.5; arXiv:2412.06464): constant-size recurrent state.

    `key_dim` and `value_dim` are the widths of one head; the state of a layer is `value_heads * key_dim * value_dim`.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int = 4

    @property
    def kv_elements_per_token(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Recurrent:
    """Any other mixer whose state does not grow: Kimi Delta Attention, lightning attention, mLSTM, RWKV, RG-LRU, and the
    gated short convolution of LFM2 (which keeps a few inputs and no state). Said by its sizes alone.
    """

    inputs: int  # width of all projections of the hidden state
    outputs: int  # width that the output projection reads
    state: int = 0  # elements of state that one sequence keeps
    conv_channels: int = 0
    conv_kernel: int = 0
    low_rank: int = 0  # weights of further projections: gates and decays through a bottleneck
    small: int = 0  # parameters that multiply no matrix: norms, decays, biases

    @property
    def kv_elements_per_token(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class FeedForward:
    """A dense feed-forward part; `gated` has three matrices (SwiGLU, GeGLU), else two."""

    intermediate: int
    gated: bool = True
    bias: bool = False
    inner_norm: bool = False  # a norm of `intermediate` before the down projection (BitNet)


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """Routed experts (`experts_per_token` of `experts`) and shared ones that every token takes.

    `routed_groups` > 1 is grouped routing (MoGE, arXiv:2505.21411): `experts_per_token / routed_groups` from each.
    """

    experts: int
    experts_per_token: int
    intermediate: int  # of one routed expert
    shared_intermediate: int = 0  # all shared experts together
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False  # a 1-wide gate on the shared expert (Qwen2-MoE)
    routed_groups: int = 1
    latent: int | None = None  # routed experts work at this width, between a down and an up projection (Nemotron 3)


SoftmaxAttention = Attention | LatentAttention | CompressedAttention  # what attends to a cache
Mixer = SoftmaxAttention | StateSpace | LinearAttention | Recurrent
Ffn = FeedForward | MixtureOfExperts


@dataclass(frozen=True, slots=True)
class Block:
    """`count` identical layers: an optional mixer, an optional cross-attention, an optional feed-forward part."""

    count: int
    mixer: Mixer | None = None
    ffn: Ffn | None = None
    cross: Attention | None = None
    norms: int = 2  # norms of `hidden_size` in each layer
    distinct: int | None = None  # sets of weights that the layers share between them (ALBERT); None: one each
    parallel: bool = False  # mixer and feed-forward read the same input (GPT-J, Falcon): one all-reduce instead of two
    beside: Mixer | None = None  # a second mixer on the same input (Falcon-H1: attention beside Mamba-2)
    side: int = (
        0  # further weights every token meets: per-layer inputs, LAuReL, hyper-connections, small gates and scales
    )
    places: tuple[int, ...] = field(default=(), compare=False)  # of these layers in the stack; (): not said
    # Operators whose weights the checkpoint keeps in another format than its `weight_format`: operator, format, and the
    # share of its elements, over all `count` layers. "bf16" stands for any 16-bit format.
    formats: tuple[tuple[str, str, float], ...] = ()

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The mixers over the sequence itself: none, one, or two side by side."""
        return tuple(m for m in (self.mixer, self.beside) if m is not None)


@dataclass(frozen=True, slots=True)
class Stored:
    """How a quantised checkpoint keeps what is no block, and how its weights are multiplied; blocks have `formats`."""

    method: str  # as it calls itself, such as "compressed-tensors"
    head: str
    embedding: str
    activations: tuple[tuple[str, str], ...] = ()  # weight format, activations multiplied with it; absent: 16 bits
    kv: str | None = None  # format of the KV cache that it was calibrated for; None: engines keep 16 bits

    def activations_of(self, weights: str) -> str | None:
        """Format of the activations that weights in this format are multiplied with; None for 16 bits."""
        return dict(self.activations).get(weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer(DescribedTransformer):
    """A decoder, an encoder, or both. `encoder` blocks run once per input; `blocks` run for every generated token."""

    name: str
    title: str
    family: str
    hidden_size: int
    vocab_size: int
    blocks: tuple[Block, ...]
    encoder: tuple[Block, ...] = ()
    towers: tuple[Tower, ...] = ()  # encoders of images and audio beside the decoder
    encoder_tokens: int = 0  # fixed encoder length (Whisper: 1500); 0: the encoder reads the prompt (T5, BART)
    usual_prompt: int = 0  # prompt tokens of the decoder when nobody says (Whisper); 0: no usual length
    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    tied_embeddings: bool = False
    has_head: bool = True  # False: no LM head (BERT, ViT have `head_classes` instead)
    head_classes: int = 0
    learned_positions: int = 0  # rows of a learned position table
    position_params: int = 0  # other learned position parameters (T5: relative biases)
    token_types: int = 0  # rows of the segment table (BERT)
    embedding_size: int | None = None  # factorised embedding (OPT-350m); None: hidden_size
    lookup_params: int = 0  # tables beside the embedding that are only looked up (Gemma 3n: per-layer embeddings)
    embedding_norm: bool = False  # a norm right after the embedding (BERT, BLOOM)
    norm_bias: bool = False  # LayerNorm (weight and bias) rather than RMSNorm
    norm_weight: bool = True  # False: norms without parameters (OLMo)
    final_norm: bool = True
    head_bias: bool = False
    max_positions: int = 0  # trained context in tokens, as rope scaling extends it; 0: not said
    context_rule: str = ""  # how rope scaling reached it, such as "yarn x4 from 32768"; "": no scaling
    fixed_tokens: int = 0  # ViT: patches + class token; 0: the caller says
    stem_params: int = 0  # patch or audio convolutions in front
    stem_flops: int = 0  # of that stem, per input
    extra_params: int = 0  # anything else that is stored but not used in a forward pass (pooler, MTP module)
    published_params: float | None = None
    published_active_params: float | None = None
    weight_format: str | None = None  # most matrices of the checkpoint, e.g. "fp8", "mxfp4", "q4_k"; None: 16 bit
    stored: Stored | None = None  # what else the checkpoint says of its formats; None: nothing
    weight_bytes_exact: Mapping[str, float] | None = None  # as in its files: "embedding", "head", "blocks", "experts"
    aliases: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what an answer about this model should say: assumptions of its reader


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution (or dense layer, with kernel and output 1) on `h_out` × `w_out` positions."""

    name: str
    c_in: int
    c_out: int
    kernel_h: int
    kernel_w: int
    h_out: int
    w_out: int
    stride: int = 1
    groups: int = 1
    bias: bool = False
    batch_norm: bool = True
    count: int = 1

    @property
    def macs(self) -> int:
        per_position = self.c_in // self.groups * self.c_out * self.kernel_h * self.kernel_w
        return per_position * self.h_out * self.w_out * self.count

    @property
    def params(self) -> int:
        weights = self.c_in // self.groups * self.c_out * self.kernel_h * self.kernel_w
        return (weights + self.c_out * (self.bias + 2 * self.batch_norm)) * self.count

    @property
    def input_elements(self) -> int:
        return self.c_in * self.h_out * self.w_out * self.stride * self.stride * self.count

    @property
    def output_elements(self) -> int:
        return self.c_out * self.h_out * self.w_out * self.count


@dataclass(frozen=True, slots=True)
class Work:
    """One operator of a network from a file, for the batch that the file has.

    Matrix products: `count` of m × n × k in `groups` parts each, m rows of activations; those of activations alone run as
    `kernels`. Else `count` streams over its output.
    """

    name: str
    kind: Literal["conv", "gemm", "norm", "softmax", "elementwise", "gather"]
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    count: int = 1
    params: int = 0  # learned numbers that no operator before it has
    weight_bytes: int = 0  # of all that it reads, as stored
    input_elements: int = 0  # activations alone
    output_elements: int = 0
    kernels: int = 1
    kernel: int = 1  # input elements that each output element of a stream takes

    @property
    def macs(self) -> int:
        return self.m * self.n * self.k * self.groups * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNet(Described):
    """A network of any shape that makes one pass: convolutions as the catalogue writes them, or any operators of a file."""

    name: str
    title: str
    family: str
    layers: tuple[Conv | Work, ...]
    input_shape: tuple[int, ...]  # channels, height, width; of a file the shape of its first input
    classes: int = 0
    published_params: float | None = None
    published_macs: float | None = None
    precision: str | None = None  # what a file's arithmetic is in, as `--precision` takes it; None: no file
    stored_bytes: int = 0  # of all weights in the file
    peak_bytes: int = 0  # most activations of the file's batch that are alive at once, in the file's order and formats
    aliases: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


ModelSpec = Transformer | ConvNet | StreamNet
