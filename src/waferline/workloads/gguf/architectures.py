"""Architectures of GGUF files, as data: the `model_type` of the same family's configuration, and what no tensor says.

Names: `gguf.MODEL_ARCH_NAMES` and llama.cpp's src/llama-arch.cpp. Windows: `set_swa_pattern` in llama.cpp's model files
(src/llama-model.cpp, src/models); a file that has a pattern of its own is believed before the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["decoder", "encoder", "encoder-decoder"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Every `period`-th layer attends to everything, the first or the last of each group; 0: none does, 1: all do.

    `size` is the window in tokens where the file does not say it; `chunked`: it starts at multiples of itself.
    """

    period: int
    dense_first: bool = False
    size: int | None = None
    chunked: bool = False

    def slides(self, layer: int) -> bool:
        return self.period == 0 or layer % self.period != (0 if self.dense_first else self.period - 1)


@dataclass(frozen=True, slots=True)
class Architecture:
    """`model_type` names the family; `experts` that of the same architecture with experts.

    `parallel`: mixer and feed-forward part read the same input, though there are two norms. `bare_norms`: norms without
    weights. Windows apply where the file has a window: others keep llama.cpp's full cache. kv_layers: layers from there on
    use keys and values of earlier ones, where the file does not say how many do.
    """

    model_type: str
    kind: Kind = "decoder"
    windows: Windows | None = None
    experts: str | None = None
    parallel: bool = False
    bare_norms: int = 0
    kv_layers: int | None = None


A = Architecture

ARCHITECTURES: Mapping[str, Architecture] = {
    "afmoe": A("afmoe", windows=Windows(4)),
    "apertus": A("apertus"),
    "arcee": A("arcee"),
    "arctic": A("arctic"),
    "arwkv7": A("rwkv7"),
    "baichuan": A("baichuan"),
    "bailingmoe": A("bailing_moe"),
    "bailingmoe2": A("bailing_moe_v2"),
    "bert": A("bert", "encoder"),
    "bitnet": A("bitnet"),
    "bloom": A("bloom"),
    "chatglm": A("chatglm"),
    "codeshell": A("codeshell"),
    "cohere2": A("cohere2", windows=Windows(4)),
    "cohere2moe": A("cohere2_moe"),
    "command-r": A("cohere"),
    "dbrx": A("dbrx"),
    "deci": A("nemotron-nas"),
    "deepseek": A("deepseek"),
    "deepseek2": A("deepseek_v2"),
    "deepseek2-ocr": A("deepseek_v2"),
    "deepseek32": A("deepseek_v32"),
    "dots1": A("dots1"),
    "ernie4_5": A("ernie4_5"),
    "ernie4_5-moe": A("ernie4_5_moe"),
    "eurobert": A("eurobert", "encoder"),
    "exaone": A("exaone"),
    "exaone-moe": A("exaone_moe", windows=Windows(4)),
    "exaone4": A("exaone4", windows=Windows(4)),
    "falcon": A("falcon", parallel=True),
    "falcon-h1": A("falcon_h1"),
    "gemma": A("gemma"),
    "gemma-embedding": A("gemma3_text", "encoder", Windows(6)),
    "gemma2": A("gemma2", windows=Windows(2, size=4096)),
    "gemma3": A("gemma3_text", windows=Windows(6)),
    "gemma3n": A("gemma3n_text", windows=Windows(5), kv_layers=20),
    "gemma4": A("gemma4_text"),
    "glm-dsa": A("glm_moe_dsa"),
    "glm4": A("glm4"),
    "glm4moe": A("glm4_moe"),
    "gpt-oss": A("gpt_oss", windows=Windows(2)),
    "gpt2": A("gpt2"),
    "gptj": A("gptj"),
    "gptneox": A("gpt_neox"),
    "granite": A("granite", experts="granitemoe"),
    "granitehybrid": A("granitemoehybrid"),
    "granitemoe": A("granitemoe"),
    "grok": A("grok-1"),
    "hunyuan-dense": A("hunyuan_v1_dense"),
    "hunyuan-moe": A("hunyuan_v1_moe"),
    "hunyuan_vl": A("hunyuan_v1_dense"),
    "hy_v3": A("hy_v3"),
    "internlm2": A("internlm2"),
    "jais": A("jais"),
    "jais2": A("jais2"),
    "jamba": A("jamba"),
    "jina-bert-v2": A("bert", "encoder"),
    "jina-bert-v3": A("xlm-roberta", "encoder"),
    "kimi-linear": A("kimi_linear"),
    "laguna": A("laguna", windows=Windows(4, dense_first=True)),
    "lfm2": A("lfm2"),
    "lfm2moe": A("lfm2_moe"),
    "llama": A("llama", experts="mixtral"),
    "llama-embed": A("llama"),
    "llama4": A("llama4_text", windows=Windows(4, size=8192, chunked=True)),
    "maincoder": A("maincoder"),
    "mamba": A("mamba"),
    "mamba2": A("mamba2"),
    "mellum": A("mellum"),
    "mimo2": A("mimo_v2_flash"),
    "minicpm": A("minicpm"),
    "minicpm3": A("minicpm3"),
    "minimax-m2": A("minimax_m2"),
    "mistral3": A("mistral", experts="mixtral"),
    "mistral4": A("mistral4"),
    "modern-bert": A("modernbert", "encoder", Windows(3, dense_first=True)),
    "mpt": A("mpt"),
    "nemotron": A("nemotron"),
    "nemotron_h": A("nemotron_h"),
    "nemotron_h_moe": A("nemotron_h"),
    "neo-bert": A("neobert", "encoder"),
    "nomic-bert": A("nomic_bert", "encoder"),
    "nomic-bert-moe": A("nomic_bert", "encoder"),
    "olmo": A("olmo", bare_norms=2),
    "olmo2": A("olmo2", windows=Windows(4)),
    "olmoe": A("olmoe"),
    "openelm": A("openelm"),
    "orion": A("orion"),
    "paddleocr": A("ernie4_5"),
    "pangu-embedded": A("pangu_embedded"),
    "phi2": A("phi"),
    "phi3": A("phi3", windows=Windows(1)),
    "phimoe": A("phimoe"),
    "plamo": A("plamo"),
    "plamo3": A("plamo3", windows=Windows(8)),
    "plm": A("plm"),
    "qwen": A("qwen"),
    "qwen2": A("qwen2"),
    "qwen2moe": A("qwen2_moe"),
    "qwen2vl": A("qwen2"),
    "qwen3": A("qwen3"),
    "qwen35": A("qwen3_5_text"),
    "qwen35moe": A("qwen3_5_moe_text"),
    "qwen3moe": A("qwen3_moe"),
    "qwen3next": A("qwen3_next"),
    "qwen3vl": A("qwen3"),
    "qwen3vlmoe": A("qwen3_moe"),
    "refact": A("refact"),
    "rwkv6": A("rwkv6"),
    "rwkv6qwen2": A("rwkv6"),
    "rwkv7": A("rwkv7"),
    "seed_oss": A("seed_oss"),
    "smallthinker": A("smallthinker", windows=Windows(4, dense_first=True)),
    "smollm3": A("smollm3"),
    "stablelm": A("stablelm"),
    "starcoder": A("gpt_bigcode"),
    "starcoder2": A("starcoder2"),
    "step35": A("step3p5"),
    "t5": A("t5", "encoder-decoder"),
    "t5encoder": A("t5", "encoder"),
    "xverse": A("xverse"),
}
# Architectures that llama.cpp has and that are not read, and why.
UNREAD: Mapping[str, str] = {
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), "it fills in all tokens at once, step by step"),
    "chameleon": "llama.cpp itself has it in part only",
    "clip": "it is the tower of another model",
    "cogvlm": "images have weights of their own in every layer",
    "deepseek4": "its caches of compressed tokens are not modelled",
    "grovemoe": "its experts share further ones in groups",
    "plamo2": "its state-space layers are of a kind of their own",
    "wavtokenizer-dec": "it decodes audio, not tokens",
}
