"""The context a model was trained for, and how rope scaling stretched it.

As vLLM derives the longest sequence (`_get_and_verify_max_len` in vllm/config/model.py): linear and dynamic scaling multiply
the stated positions, yarn multiplies the original ones, llama3 and longrope state the stretched length themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from waferline.workloads.config_reader import MAX_SIZE, ConfigReader

POSITIONS = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length", "max_sequence_length"),
    *("seq_length", "context_length", "max_context_length", "seq_len", "max_length"),
)
_STRETCHED_INSIDE = ("llama3", "longrope", "su")  # the positions in the file are those after scaling
_NONE = ("", "default", "mrope", "proportional", "none")


def trained_context(c: ConfigReader, stretched: bool = False) -> tuple[int, str]:
    """Tokens of the trained context (0: not said) and how scaling reached it ("" without scaling).

    `stretched`: the positions of this family hold the factor already, whatever the rule (Gemma 3).
    """
    positions = c.size_or(0, *POSITIONS, least=0)
    scaling = _scaling(c)
    if scaling is None:
        return positions, ""
    rule = scaling.text("", "rope_type", "type").lower()
    factor, alpha = scaling.number(1.0, "factor"), scaling.number(0.0, "alpha")
    original = scaling.size_or(0, "original_max_position_embeddings", least=0) or c.size_or(
        0, "original_max_position_embeddings", least=0
    )
    if rule in _NONE or not positions or factor <= 0:
        return positions, ""
    if rule in _STRETCHED_INSIDE or stretched:
        return positions, f"{rule} from {original:,}" if original else rule
    if factor == 1.0:
        return positions, f"{rule} (alpha {alpha:g})" if alpha else ""
    base = original if "yarn" in rule and original else positions
    return min(max(positions, round(base * factor)), MAX_SIZE), f"{rule} x{factor:g} from {base:,}"


def _scaling(c: ConfigReader) -> ConfigReader | None:
    """The scaling of the layers that attend to everything, in either spelling; newer files keep one for each kind of layer."""
    section = c.section("rope_scaling") or c.section("rope_parameters")
    if section is None:
        return None
    inner = section.get("full_attention")
    return section.section("full_attention") if isinstance(inner, Mapping) else section
