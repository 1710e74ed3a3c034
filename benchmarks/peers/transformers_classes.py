"""The defaults of transformers' configuration classes, as `catalog/model_defaults.yaml` holds them.

    python transformers_classes.py > src/waferline/catalog/model_defaults.yaml

in an environment with transformers alone. Only keys that can decide sizes are kept: numbers, flags and short lists of the
class's own fields, before anything is derived from them.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from typing import Any

import transformers
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# Keys that decide no size: training, tokens, numerics, routing details, outputs.
_IDLE = re.compile(
    r"token_id|token_index|dropout|drop|initializer|init_(?!pos)|_init|eps$|epsilon|output_(?!proj|dim)|return_|^chunk_size|use_cache|"
    r"is_encoder_decoder|is_decoder|add_cross|cross_attention_hidden|activation|hidden_act|theta|softcap|multiplier|scaling_factor|aux_loss|"
    r"z_loss|norm_topk|jitter|residual_in_fp32|time_step|rescale|use_\w*kernels?$|mamba_chunk_size|num_logits|pretraining_tp|seed|"
    r"summary_|layerdrop|scale_embedding|logit|clip|_coef|rope_interleave|mem_len|use_mem_eff|beam|gradient|mask_|"
    r"alpha|beta|gamma|temperature|_std|loss|ctc_|spec|swiglu|floor|_norm_min|sinkhorn|attention_scale|query_pre"
)
_MAPPINGS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ", "MASKED_LM")


def fields_of(kind: type) -> dict[str, Any]:
    """The class's own fields with a default that may decide a size."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = f.default if f.default is not dataclasses.MISSING else None
        if f.default_factory is not dataclasses.MISSING:
            value = f.default_factory()
        if _decides(f.name, value):
            found[f.name] = list(value) if isinstance(value, tuple) else value
    return found


def _decides(name: str, value: Any) -> bool:
    if name.startswith("_") or _IDLE.search(name) or value is None:
        return False
    if isinstance(value, list | tuple):
        return 0 < len(value) <= 64 and all(isinstance(v, int | str) for v in value)
    return isinstance(value, int | float | str) and value == value


def classes() -> dict[str, dict[str, Any]]:
    """Every class of a text model, and of the parts of a multimodal one."""
    wanted = {t for m in _MAPPINGS for t in getattr(auto, f"MODEL_FOR_{m}_MAPPING_NAMES")}
    wanted |= {t for t in CONFIG_MAPPING if "vision" in t or "audio" in t or "encoder" in t}
    found: dict[str, dict[str, Any]] = {}
    while wanted:
        name = wanted.pop()
        if name in found or name not in CONFIG_MAPPING:
            continue
        kind = CONFIG_MAPPING[name]
        found[name] = fields_of(kind)
        parts = (getattr(part, "model_type", "") for part in (getattr(kind, "sub_configs", None) or {}).values())
        wanted |= {part for part in parts if part}
    return {name: found[name] for name in sorted(found) if found[name]}


def main() -> None:
    print(
        "# Written by benchmarks/peers/transformers_classes.py. What a class assumes where a configuration is silent."
    )
    release = transformers.__version__
    url = f"https://github.com/huggingface/transformers/tree/v{release}/src/transformers/models"
    print(f"release: transformers {release}")
    print(f'sources: [{{title: "configuration_*.py", url: "{url}", date: {datetime.date.today()}}}]')
    print("classes:")
    for name, values in classes().items():
        print(f"  {json.dumps(name)}: {json.dumps(values)}")


if __name__ == "__main__":
    main()
