"""The tools compared with: what they are called, where they live, and how their questions were put."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADAPTORS = Path(__file__).parent / "adaptors"
ENVIRONMENTS = ROOT / ".peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool. `stride`: every how many-th question is put to it, so that a full run stays within minutes."""

    name: str  # on the package index, and the folder of its environment
    module: str
    adaptor: str
    settings: str
    mapping: tuple[str, ...]
    stride: int = 1

    @property
    def python(self) -> Path:
        return ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def script(self) -> Path:
        return ADAPTORS / self.adaptor

    @property
    def install_log(self) -> Path:
        return ENVIRONMENTS / self.name / "install.log"


PEERS: tuple[Peer, ...] = (
    Peer(
        "mlsysim",
        "mlsysim",
        "ask_mlsysim.py",
        "`ServingModel.solve` with its default efficiency of 0.5",
        (
            "one device only: its serving model has no parallel degrees, so rows of several devices are refused",
            "TTFT at the prompt length, ITL at the context half way through the generation",
            "`feasible` false is a refusal",
            "one precision for weights, arithmetic and KV cache: the weights' one is given",
        ),
    ),
    Peer(
        "genz-llm",
        "GenZ",
        "ask_genz.py",
        "`prefill_moddeling` and `decode_moddeling` with the default `system_eff` of 1 and no beams (`Bb=1`)",
        (
            "GH200 in its catalogue is the 144 GB version: rows of the 96 GB version are refused; B200 and H200 are not in it",
            "one width for weights, activations and KV cache: the weights' one is given, so weight-only formats also "
            "speed its arithmetic up",
            "tensor parallelism is given per expert-parallel group, because its degrees multiply to the device count",
            "the time of a batch is its batch over its throughput, which counts the micro-batches of a pipeline",
            "a decode step sees the prompt and half of the output",
        ),
        stride=5,
    ),
    Peer(
        "llm-analysis",
        "llm_analysis.analysis",
        "ask_llm_analysis.py",
        "`LLMAnalysis.inference` with the efficiencies of its authors' published inference examples: 0.7 of the FLOP/s, "
        "0.9 of the memory bandwidth",
        (
            "its MLP has two matrices: a gated one built here is given half as wide again, as its own Llama entries are",
            "formats count by width: fp8 as 8 bits, nvfp4 and mxfp4 as 4 bits",
            "TTFT is `prefill_latency`, time between tokens is `decode_latency`, whose KV cache has the full final length",
            "with pipeline stages, `decode_latency` is that of one stage",
            "training is left out: its training time needs the achieved efficiency as an input",
        ),
    ),
    Peer(
        "aiconfigurator-core",
        "aiconfigurator_core.sdk.engine",
        "ask_aiconfigurator.py",
        "static batches from the compiled engine (`EngineHandle.run_static`), served rows from its aggregated serving "
        "(`run_agg`) with a context budget of one prompt, the default of the full tool's `cli estimate`",
        (
            "only rows of vLLM, SGLang and TensorRT-LLM: it has tables for these engines",
            "the newest tables it holds for a machine stand for every release of the engine; older ones are not queryable",
            "formats of GEMM and experts as the source of the row names them, else by the row's weight format",
            "a KV format that the row does not state is the engine's default, as waferline takes it",
            "where its tables lack the formats: fp8 with block scales, then its own default for KV, then 16-bit attention",
            "expert tensor parallelism is tp·dp/ep; the batch of a data-parallel rank is the clients over dp",
            "its own end-to-end measurements are part of the rows",
        ),
    ),
)
