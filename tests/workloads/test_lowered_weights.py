"""Two statements of one structure: a pass over many tokens reads every weight that the parameter count knows, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from waferline.formats import resolve
from waferline.workloads.counts import parameter_count
from waferline.workloads.lower import lower_prefill
from waferline.workloads.models import catalog_model, model_names
from waferline.workloads.spec import Transformer

MANY = 4096  # sequences: every expert is drawn
SMALL = 0.005  # norms and biases are counted, and ride along in other operators


def decoders() -> list[str]:
    models = ((name, catalog_model(name)) for name in model_names())
    return [name for name, m in models if isinstance(m, Transformer) and not m.encoder]


@pytest.mark.parametrize("name", decoders())
def test_a_pass_reads_every_weight_once(name: str) -> None:
    model = catalog_model(name)
    assert isinstance(model, Transformer)
    wide = replace(model, weight_format=None, blocks=tuple(replace(block, formats=()) for block in model.blocks))
    operators = lower_prefill(wide, batch=MANY, prompt=256, precision=resolve("bf16", lambda fmt: fmt))
    read = sum(float(np.max(op.weight_bytes * op.count)) for op in operators) / 2
    count = parameter_count(model)
    table = model.vocab_size * (model.embedding_size or model.hidden_size) if model.has_head else 0
    matrices = count.attention + count.ffn + count.shared_experts + count.router + count.experts + (count.head or table)
    sides = sum(block.count * block.side for block in model.blocks)
    assert read == pytest.approx(matrices + model.stem_params + sides, rel=SMALL)
