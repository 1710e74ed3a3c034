"""Ask llama.cpp for the oracle data of `test_llama_cpp.py`:  python -m tests.kernels.make_golden  (needs llama-cpp-python)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kernels.llama import LlamaCpp
from tests.kernels.models import MODELS, TEXTS, TOKENS
from tests.kernels.random_gguf import write_random_gguf

GOLDEN = Path(__file__).parent / "data" / "llama_cpp.json"


def main() -> None:
    """Logits of the first token in full, argmax and runner-up margin of all, and token numbers of the texts."""
    models: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in MODELS.items():
            path = write_random_gguf(Path(folder) / f"{name}.gguf", model)
            peer = LlamaCpp(str(path), threads=1, context=256)
            logits = [peer.evaluate([token]) for token in TOKENS]
            top = [sorted(row.tolist(), reverse=True)[:2] for row in logits]
            models[name] = {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "first_logits": [float(f"{v:.9g}") for v in logits[0].tolist()],
                "argmax": [int(row.argmax()) for row in logits],
                "margin": [round((a - b) / float(row.std()), 4) for (a, b), row in zip(top, logits, strict=True)],
                "texts": [peer.tokenize(text) for text in TEXTS],
            }
            peer.close()
    about = {"llama-cpp-python": version("llama-cpp-python"), "tokens": TOKENS, "texts": TEXTS}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({"about": about, "models": models}, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
