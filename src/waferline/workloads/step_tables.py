"""What a step of an engine takes, in tables: the one record that `predict` fills and `simulate` looks up."""

from __future__ import annotations

from typing import NamedTuple

from waferline.arrays import FloatArray

OF_PROMPTS = ("rows_s", "logits_s", "tokens", "chunk_s")  # what steps with prompts alone are looked up in


class StepTables(NamedTuple):
    """Seconds of a step that carries decodes and a prompt chunk.

    rows_s[m]: everything but attention for `m` rows of which one becomes a token; logits_s[n]: what `n` tokens take beyond one;
    graph_s[n]: for `n` decodes alone, inside a graph, padding included. decode_s[i, j]: attention of `sequences[i]` decodes at a
    mean context of `contexts[j]`; chunk_s[i, j]: of a chunk of `tokens[i]` after `contexts[j]` tokens of the same sequence.
    launch_s[m]: what the host takes to launch a step with prompts, of `m` rows; it passes beside the device.
    sequence_s: host time of each sequence of a decode, of `host_sequences` at most; without limit it passes beside the device, and
    what is left is the root of the sum of the squares of both.
    """

    rows_s: FloatArray
    logits_s: FloatArray
    graph_s: FloatArray
    sequences: FloatArray
    contexts: FloatArray
    decode_s: FloatArray
    tokens: FloatArray
    chunk_s: FloatArray
    launch_s: FloatArray
    sequence_s: float
    host_sequences: float
