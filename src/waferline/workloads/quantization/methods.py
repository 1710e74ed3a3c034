"""The quantisation methods that checkpoints use, each with a reader of its section of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from reprlib import repr as shown

from waferline.errors import FileFormatError, UnsupportedError, nearest
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization import compressed_tensors, grouped, modelopt, quark, runtime, torchao
from waferline.workloads.quantization.resolve import in_formats
from waferline.workloads.quantization.scheme import Scheme
from waferline.workloads.spec import Transformer


@dataclass(frozen=True, slots=True)
class Method:
    """One method of quantisation: its names, its reader, what of its section counts, and what is assumed beside it."""

    names: tuple[str, ...]
    read: Callable[[ConfigReader], Scheme]
    reads: str
    assumes: str


METHODS: tuple[Method, ...] = (
    Method(
        ("compressed-tensors", "compressed_tensors"),
        compressed_tensors.read,
        "all groups with targets and ignore (classes, names, re: patterns, layer numbers), weights, input_activations,"
        " kv_cache_scheme",
        "symmetric integers keep a 16-bit scale a group; sparsity is counted dense",
    ),
    Method(
        ("modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"),
        modelopt.read,
        "quant_algo, MIXED_PRECISION with quantized_layers or config_groups, exclude_modules or ignore, group_size,"
        " kv_cache_quant_algo; also from hf_quant_config.json",
        "the head stays at 16 bits unless a layer names it",
    ),
    Method(
        ("fp8",),
        runtime.fp8,
        "weight_block_size, activation_scheme, ignored_layers, modules_to_not_convert, expert_dtype, kv_cache_scheme",
        "activations in FP8; head, embedding and router at 16 bits",
    ),
    Method(("w4afp8",), runtime.w4afp8, "as fp8, group_size", "routed experts in 4-bit integers, all else in FP8"),
    Method(("fbgemm_fp8", "fbgemm"), runtime.fbgemm_fp8, "modules_to_not_convert", "one scale a row, FP8 activations"),
    Method(
        ("gptq", "gptqmodel", "gptq_marlin", "auto-gptq", "auto_gptq"),
        grouped.gptq,
        "bits, group_size, dynamic, lm_head, modules_in_block_to_quantize, checkpoint_format",
        "a 16-bit scale and a packed zero point a group, also where sym is true",
    ),
    Method(
        ("awq", "awq_marlin"),
        grouped.awq,
        "bits or w_bit, group_size or q_group_size, zero_point, modules_to_not_convert",
        "a 16-bit scale and a packed zero point a group",
    ),
    Method(
        ("auto-round", "auto_round", "intel/auto-round", "inc"),
        grouped.auto_round,
        "bits, group_size, data_type, act_bits, extra_config, block_name_to_quantize, quant_lm_head",
        "stored as GPTQ stores it; head at 16 bits unless extra_config or quant_lm_head says else",
    ),
    Method(
        ("mlx",),
        grouped.mlx,
        "quantization or quantization_config: bits, group_size, mode (affine, mxfp4, mxfp8, nvfp4), overrides by module",
        "embedding and head are quantised too; affine groups keep a 16-bit scale and a 16-bit bias; the router at 16 bits",
    ),
    Method(
        ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"),
        runtime.bitsandbytes,
        "load_in_4bit, load_in_8bit, bnb_4bit_quant_type, bnb_4bit_use_double_quant, llm_int8_skip_modules",
        "blocks of 64 with one scale of 32 bits, or of 8 when quantised twice; 16-bit arithmetic",
    ),
    Method(
        ("hqq",),
        runtime.hqq,
        "quant_config (nbits, group_size, by layer tag too), skip_modules",
        "a 16-bit scale and a 16-bit zero point a group",
    ),
    Method(
        ("torchao",),
        torchao.read,
        "quant_type by name or by its configuration, also by module; modules_to_not_convert,"
        " include_input_output_embeddings",
        "a 16-bit scale and a 16-bit zero point a group of integers",
    ),
    Method(
        ("quark",),
        quark.read,
        "global_quant_config, layer_quant_config, layer_type_quant_config, exclude, kv_cache_quant_config",
        "a 16-bit scale a group, MX formats in groups of 32",
    ),
    Method(
        ("exl2", "exl3"),
        runtime.exllama,
        "bits, head_bits",
        "the mean width for every matrix of the layers; the embedding at 16 bits; 16-bit arithmetic",
    ),
    Method(
        ("mxfp4",),
        runtime.mxfp4,
        "modules_to_not_convert",
        "routed experts alone are quantised, as engines and transformers do; 16-bit activations",
    ),
    Method(
        ("bitnet",),
        runtime.bitnet,
        "quantization_mode, modules_to_not_convert",
        "two bits a weight as packed; quantization_mode online keeps the file at 16 bits",
    ),
    Method(("eetq",), runtime.eetq, "weights, modules_to_not_convert", "8-bit integers, one scale a row"),
    Method(
        ("quanto",),
        runtime.quanto,
        "weights, activations, modules_to_not_convert",
        "groups of 128, a scale and a shift each",
    ),
)
# Known by name and not read: their sizes follow from codebooks or from code of their own.
REFUSED = (
    "vptq",
    "aqlm",
    "spqr",
    "higgs",
    "quip",
    "qoq",
    "gguf",
    "sinq",
    "fp_quant",
    "squeezellm",
    "marlin",
    "fouroversix",
)
# Files that one engine alone reads (catalog/engines.yaml: containers).
_OF_ONE_ENGINE = ("mlx", "exl2", "exl3")
_BY_NAME = {name: method for method in METHODS for name in method.names}
_SIGNS = (  # how a section that does not name its method is known
    ("compressed-tensors", ("config_groups",)),
    ("quark", ("global_quant_config",)),
    ("modelopt", ("quant_algo",)),
    ("bitsandbytes", ("load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit")),
    ("awq", ("w_bit", "q_group_size")),
    ("fp8", ("weight_block_size", "activation_scheme")),
    ("gptq", ("desc_act", "damp_percent")),
    ("torchao", ("quant_type",)),
    ("mlx", ("bits",)),
)
# Keys that say nothing about sizes, whatever the method.
_KEYS = """
quant_method quant_library version producer global_compression_ratio quantization_status format export algo_config
quant_mode pack_method run_compressed is_checkpoint_bf16 batch_size iters low_gpu_mem_usage nsamples seqlen lr
autoround_version enable_quanted_input enable_minmax_tuning minmax_lr gradient_accumulate_steps scale_dtype dataset
tokenizer damp_percent damp_auto_increment static_groups true_sequential model_name_or_path model_file_base_name meta
use_exllama use_cuda_fp16 exllama_config max_input_length cache_block_outputs model_seqlen block_name_to_quantize
module_name_preceding_first_block pad_token_id disable_exllama backend do_fuse fuse_max_seq_len exllama_version
bnb_4bit_compute_dtype bnb_4bit_quant_storage llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight
llm_int8_threshold dequantize use_mxfp4 calibration out_scales transform_config linear_class use_rms_norm rms_norm_eps
activation_scale_ub fmt scale_fmt activation_scheme is_static enable_norm_bias_tuning amp to_quant_block_names
super_bits super_group_size weight_preprocess tensor_storage hadamard_size forward_method untie_embedding_weights
act_dynamic act_sym act_group_size kv_cache_post_rope softmax_quant_spec custom_mode min_kv_scale sub_method
quant_storage has_zero_point original_dtype modules_to_convert pre_quant_scale calib_dataset uniform
"""
_SILENT = frozenset(_KEYS.split())


def method_names() -> list[str]:
    """Every method that is read, by the name that checkpoints give it."""
    return sorted(m.names[0] for m in METHODS)


def quantised(model: Transformer, section: ConfigReader) -> Transformer:
    """`model` in the formats that a quantisation section of its configuration says.

    Raises: UnsupportedError (a method or width that is not known, or one that quantises nothing), FileFormatError (missing
    or misspelt keys), InvalidInputError (values of another kind).
    """
    inner = section.section("quantization")  # hf_quant_config.json, and configurations that hold its text
    if inner is not None and section.get("quant_method", "quant_algo", "config_groups") is None:
        section = inner
    name = _method(section)
    scheme = _BY_NAME[name].read(section)
    section.finish(ignore=_SILENT)
    unread = [k for k in section.unread(_SILENT) if not k.startswith("_")]
    if unread and name != "mlx":
        scheme = replace(scheme, notes=(*scheme.notes, f"{name}: not known and not read: {', '.join(unread[:5])}"))
    made = in_formats(model, scheme, section.where)
    return replace(made, metadata={**made.metadata, "container": name}) if name in _OF_ONE_ENGINE else made


def _method(section: ConfigReader) -> str:
    name = section.text("", "quant_method", "quant_library").lower()
    if not name:
        found = [method for method, keys in _SIGNS if section.get(*keys) is not None]
        if not found or (found == ["mlx"] and grouped.not_of_mlx(section)):
            raise FileFormatError("missing key 'quant_method'", where=section.where, hint=_known())
        return found[0]
    if name in _BY_NAME:
        return name
    if name in REFUSED:
        raise UnsupportedError(f"quantisation method {shown(name)} is not read", where=section.where, hint=_known())
    close = nearest(name, _BY_NAME)
    hint = "did you mean " + ", ".join(close) + "?" if close else _known()
    raise UnsupportedError(f"unknown quantization method {shown(name)}", where=section.where, hint=hint)


def _known() -> str:
    return "read: " + ", ".join(method_names())
