"""Methods that a few keys say: FP8, bitsandbytes, HQQ, ExLlama, MXFP4, BitNet, EETQ, Quanto."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from reprlib import repr as shown

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, named
from waferline.workloads.quantization.storage import cache_format, group_of, integer, kept


def fp8(c: ConfigReader) -> Scheme:
    """FP8 weights with one scale a tensor, or one a block; activations in FP8."""
    block = c.items("weight_block_size", length=2)
    for size in block or ():
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= 10**6:
            raise InvalidInputError(f"'weight_block_size' must hold whole numbers, not {shown(size)}", where=c.where)
    activations = c.text("dynamic", "activation_scheme")
    if activations not in ("dynamic", "static", "none"):
        raise UnsupportedError(
            f"unknown activation_scheme {shown(activations)}", where=c.where, hint="dynamic or static"
        )
    kind = c.text("e4m3", "fmt")
    if kind not in ("e4m3", "float8_e4m3fn", "e5m2"):
        raise UnsupportedError(f"unknown fmt {shown(kind)}", where=c.where, hint="e4m3 or e5m2")
    whole = Storage("fp8_block" if block else "fp8", "fp8")
    experts = list(named(["experts"], _expert_storage(c), c.where)) if c.get("expert_dtype") is not None else []
    return Scheme("fp8", whole, (*kept(c), *experts), kv=_fp8_cache(c))


def _expert_storage(c: ConfigReader) -> Storage:
    """Routed experts may be narrower than the rest (DeepSeek-V4: FP4 with a scale for each 32)."""
    kind = c.text("", "expert_dtype")
    if kind not in ("fp4", "fp8"):
        raise UnsupportedError(f"unknown expert_dtype {shown(kind)}", where=c.where, hint="fp4 or fp8")
    return Storage("mxfp4" if kind == "fp4" else "fp8_block", "fp8")


def _fp8_cache(c: ConfigReader) -> str | None:
    """`kv_cache_scheme` as compressed-tensors writes it, or "static" as AutoFP8 does."""
    if isinstance(c.get("kv_cache_scheme"), str):
        return "fp8"
    cache = c.section("kv_cache_scheme")
    return None if cache is None else cache_format(cache.where, cache.size("num_bits"), cache.text("float", "type"))


def w4afp8(c: ConfigReader) -> Scheme:
    """Routed experts in 4-bit integers multiplied in FP8, all else in FP8."""
    scheme = fp8(c)
    group, notes = group_of(c, "group_size", usual=128)
    experts = named(["experts"], Storage(integer(c.where, 4, group, "_sym"), "fp8"), c.where)
    return replace(scheme, method="w4afp8", rules=(*scheme.rules, *experts), notes=notes)


def fbgemm_fp8(c: ConfigReader) -> Scheme:
    return Scheme("fbgemm_fp8", Storage("fp8", "fp8"), tuple(kept(c)))


def bitsandbytes(c: ConfigReader) -> Scheme:
    four, eight = c.flag(False, "load_in_4bit", "_load_in_4bit"), c.flag(False, "load_in_8bit", "_load_in_8bit")
    c.get("_load_in_4bit", "_load_in_8bit")
    if four == eight:
        raise FileFormatError("one of load_in_4bit and load_in_8bit must be true", where=c.where)
    kind = c.text("fp4", "bnb_4bit_quant_type")
    if kind not in ("nf4", "fp4"):
        raise UnsupportedError(f"unknown bnb_4bit_quant_type {shown(kind)}", where=c.where, hint="nf4 or fp4")
    twice = c.flag(False, "bnb_4bit_use_double_quant")
    storage = Storage(("nf4" if twice else "nf4_single") if four else "int8")
    return Scheme("bitsandbytes", storage, tuple(kept(c, "llm_int8_skip_modules", "modules_to_not_convert")))


def hqq(c: ConfigReader) -> Scheme:
    """One `weight_quant_params` for all, or one for each layer tag (`self_attn.q_proj`); other tags stay at 16 bits."""
    rules = list(kept(c, "skip_modules", "modules_to_not_convert"))
    config = c.section("quant_config")
    if config is None:
        return Scheme("hqq", _hqq_storage(c), tuple(rules))
    whole = config.section("weight_quant_params")
    if whole is not None:
        config.get("scale_quant_params", "zero_quant_params", "offload_meta")
        return Scheme("hqq", _hqq_storage(whole), tuple(rules))
    for tag in config.names():
        entry = config.section(tag)
        if entry is not None:
            inner = entry.section("weight_quant_params") or entry
            rules += named([tag], _hqq_storage(inner), config.where)
    return Scheme("hqq", WIDE, tuple(rules))


def _hqq_storage(c: ConfigReader) -> Storage:
    bits = c.size("nbits")
    group, _ = group_of(c, "group_size")
    return Storage(integer(c.where, bits, group, "_affine"))


def exllama(c: ConfigReader) -> Scheme:
    """The mean width of all matrices of the layers, and that of the head."""
    version = "exl3" if c.text("exl2", "quant_method").lower() == "exl3" else "exl2"
    return Scheme(version, _exllama(c, version, "bits"), head=_exllama(c, version, "head_bits"))


def _exllama(c: ConfigReader, version: str, key: str) -> Storage:
    if c.get(key) is None:
        raise FileFormatError(f"missing key '{key}'", where=c.where)
    bits = c.number(0.0, key)
    if bits == 16:
        return WIDE
    if not 1.0 <= bits <= 8.0:
        raise InvalidInputError(f"'{key}' must be between 1 and 8, not {bits:g}", where=c.where)
    return Storage(f"{version}_{round(bits, 3):g}")


def mxfp4(c: ConfigReader) -> Scheme:
    """Routed experts alone: engines and transformers convert no other module."""
    rules = [*kept(c), *_experts(Storage("mxfp4"))]
    return Scheme("mxfp4", WIDE, tuple(rules))


def _experts(storage: Storage) -> Iterator[Rule]:
    yield from named(["experts"], storage, "")


def bitnet(c: ConfigReader) -> Scheme:
    mode = c.text("offline", "quantization_mode")
    if mode not in ("offline", "online"):
        raise UnsupportedError(f"unknown quantization_mode {shown(mode)}", where=c.where, hint="offline or online")
    notes = ("the file keeps 16 bits a weight; ternary weights are made as it is loaded",) if mode == "online" else ()
    return Scheme("bitnet", Storage("ternary", "int8"), tuple(kept(c)), notes=notes)


def eetq(c: ConfigReader) -> Scheme:
    kind = c.text("int8", "weights")
    if kind != "int8":
        raise UnsupportedError(f"EETQ weights {shown(kind)}", where=c.where, hint="int8")
    return Scheme("eetq", Storage("int8"), tuple(kept(c)))


_QUANTO = {"float8": "fp8", "int8": "int8", "int4": "int4_g128_affine", "int2": "int2_g128_affine"}


def quanto(c: ConfigReader) -> Scheme:
    kind, acts = c.text("int8", "weights"), c.text("", "activations")
    if kind not in _QUANTO or acts not in ("", "int8", "float8"):
        raise UnsupportedError(
            f"Quanto weights {shown(kind)}, activations {shown(acts)}", where=c.where, hint=", ".join(_QUANTO)
        )
    return Scheme("quanto", Storage(_QUANTO[kind], {"int8": "int8", "float8": "fp8"}.get(acts)), tuple(kept(c)))
