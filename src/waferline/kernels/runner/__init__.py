"""Run Llama-family GGUF models on the CPU kernels.

runner = load("model.gguf", threads=2)
runner.generate("Once upon", 64).text
"""

from waferline.kernels.runner.runner import Generation, Runner, Timings, load, warm_up
from waferline.kernels.runner.sampling import Sampling

__all__ = ["Generation", "Runner", "Sampling", "Timings", "load", "warm_up"]
