"""A folder with a good file of every kind that a command reads, and with places that are no files at all."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import shutil
import zlib
from pathlib import Path

import numpy as np

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
}
MACHINE = """name: mine
title: Mine 8 GB
vendor: Me
kind: npu
architecture: systolic
year: 2026
group: Edge
units: 4
clock_hz: 1e9
peak_flops: {fp16: 4e12, int8: 8e12}
memory:
  - {name: SRAM, capacity_bytes: 32e6, bandwidth_bytes_per_s: 4e12}
  - {name: LPDDR5, capacity_bytes: 16e9, bandwidth_bytes_per_s: 100e9}
citations:
  - {title: sheet, url: "https://example.org/n1", date: 2026-11-21, covers: [units, peak_flops, memory]}
"""
MODEL = """name: mine-90m
title: Mine 90M
sources:
  - {title: model card, url: "https://example.org/mine", date: 2026-11-21}
transformer:
  hidden_size: 512
  vocab_size: 32000
  blocks:
    - {count: 12, attention: {heads: 8, kv_heads: 2, head_dim: 64}, ffn: {intermediate: 2048}}
"""
SWEEP = (
    "models: [gpt2]\nmachines: [l4]\naxes: {prompt: [128, 256], batch: {start: 1, stop: 3}}\nfields: [itl_s, ttft_s]\n"
)
ROWS = """id,hardware,model,phase,metric,value,batch,input_tokens,output_tokens,engine,weight_format,devices
0,l4,llama-3-8b,generate,tpot_s,0.055,1,512,128,vllm,fp16,1
1,l4,llama-3-8b,generate,tpot_s,0.057,2,512,128,vllm,fp16,1
2,l4,llama-3-8b,generate,tpot_s,0.059,4,512,128,vllm,fp16,1
3,l4,llama-3-8b,generate,tpot_s,0.061,8,512,128,vllm,fp16,1
4,l4,llama-3-8b,generate,tpot_s,0.063,1,512,128,vllm,fp16,1
5,l4,llama-3-8b,generate,tpot_s,0.065,16,512,128,vllm,fp16,1
c,l4,gpt2,prefill,ttft_s,0.01,1,512,1,vllm,fp16,1
"""
OPERATORS = "dtype,m,n,k,latency_ms\nbfloat16,16,4096,4096,0.01\nbfloat16,4096,4096,4096,0.3\n"
TRACE = "arrival_s,prompt_tokens,output_tokens\n0.0,100,10\n0.5,200,20\n1.0,50,5\n"
TRACE_JSON = "".join(
    json.dumps({"timestamp": 500 * i, "input_length": 600 + i, "output_length": 10, "hash_ids": [0, i]}) + "\n"
    for i in range(3)
)
PROFILE = """kind: waferline engine profile
engine: vllm
hardware: nvidia-l4
constants: {step_s: 0.001, decode_scale: 1.1}
residual: {decode: [-0.2, -0.1, 0.1, 0.2]}
card: {rows: 12}
"""
CLAIMS = (
    "defaults: {machine: h100}\nclaims:\n  - 'Llama-3-8B fp8 on H100: 100 tokens/s'\n  - {model: gpt2, tpot: 5 ms}\n"
)
CLAIM = "Llama-3-8B fp8 on H100: 100 tokens/s at batch 1"
STORE = '{"engaged": true, "what": "operator", "detail": {}, "versions": {}}\n{"engaged": false, "reason": "none"}\n'
_SPREAD = {
    "successful": {"mean": 9.0, "median": 9.0, "percentiles": {"p50": 9.0, "p90": 12.0, "p95": 14.0, "p99": 20.0}}
}
GUIDELLM = {
    "benchmarks": [{
        "args": {"strategy": {"type_": "concurrent", "streams": 16}},
        "run_stats": {"requests_made": {"successful": 95, "incomplete": 3, "errored": 2}},
        "metrics": dict.fromkeys(
            ("time_to_first_token_ms", "inter_token_latency_ms", "time_per_output_token_ms", "request_latency",
             "output_tokens_per_second", "requests_per_second"), _SPREAD,
        ),
    }]
}  # fmt: skip
RUNS = """id,hardware,devices,model,weight_format,tp,engine,arrival,rate_per_s,requests,input_tokens,output_tokens,ttft_mean_s
r1,nvidia-h100-sxm-80gb,1,llama-3-8b,fp16,1,vllm,poisson,2.5,20,100,10,0.05
"""
ENERGY = """id,kind,machine,devices,model,precision,engine,phase,batch,concurrency,prompt,output,metric,value,unit,scope,notes
e1,measured,nvidia-h100-sxm-80gb,1,qwen3-8b,bf16,vllm,generate,8,,500,500,energy_j_per_output_token,0.163,J,all GPUs,
"""
EFFECTS = """id,hardware,model,phase,metric,value,devices,batch,technique,technique_settings,baseline_value,speedup,acceptance
t1,nvidia-a100-sxm-80gb,llama-2-13b,generate,speedup_ratio,3.48,1,1,speculative-eagle3,"method=EAGLE3,batch=1",,3.48,2.8
"""
# A convolution, a depthwise one and a classifier in a TFLite file, compressed.
TFLITE = (
    r"c-p;`uX7VY7>3`=ZPQD7z==+$b%=_Jh^8sOW)KX5K~x|r5e$Q<sECL}RG=6nq9TGnp@U>9Dl!Zb(Wzn>1OibRfq;f*cfYhtNT7<HdGhV<z59OO"
    r"?(Jn+()NR`j&xOvs^nBMQ!o-EX$_u14t2O*lN<~)=_?$=0Iu=ugOd*70Q&F>o<kRQ;0bKQ7TkkPXu&FEmahy|lvEHa8Q0K)b*rI;ct|{kH_(Ge"
    r"iXK-i`sVl0r|`$H2H&ZB0DahnyRZnSEI5LF=)yy|KN^k3`R69Q{ruD9d7jMsegm4Y0521rGo61<TFr-(R#3-NcVS&&UYTh!+xJQ0RZHe`!&$A~"
    r"Z+wPL^QugrC3@M|dkyd=tgP_!G4_|1`1ut34PW!O*mpk9F!u92_?MwhUwLV^-uLupTw6@kT(kVWc1P9Ozcd@_p2dCp>GW(aG;O^`vk*1EdDZM("
    r"qHbM#Gx9m>_wGnv&@^V`3!2;9^~7g6dAHf5-!0B+hSntn?M?0~=UShV`&@HF+Cwv!>^1dF??TXT!swFuJMn$zf6KoSztNK0?ZPdK^OOEAsU;t;"
    r"ZTqzqw`AUK&GbDK#`!uv{C(=`!&~tGNAHL`!~^1c>mL%2;KVeaiQV8^58nQ3X@(JJXyd}hFW?7yCl|DZF50Yqr9a!MF4v~5-PQkXzW_v$p>O"
)
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *{'a' if i == 0 else f'b{i - 1}'}]\n" for i in range(40)
)
_SPARSE_BYTES = 10 << 30


def make(folder: Path) -> Path:
    """Fill `folder`. Sparse files claim 10 GB and hold nothing."""
    for name in ("model", "shared", "folder"):
        (folder / name).mkdir()
    texts = {
        "model/config.json": json.dumps(CONFIG), "machine.yaml": MACHINE, "model.yaml": MODEL, "study.yaml": SWEEP,
        "rows.csv": ROWS,
        "h100_gemm.csv": OPERATORS, "trace.csv": TRACE, "profile.yaml": PROFILE, "claims.yaml": CLAIMS, "store.jsonl": STORE,
        "guidellm.json": json.dumps(GUIDELLM),
        "runs.csv": RUNS, "energy.csv": ENERGY, "effects.csv": EFFECTS, "trace.jsonl": TRACE_JSON,
        "empty.yaml": "", "laughs.yaml": LAUGHS, "deep.json": "[" * 100_000,
        "twice.json": '{"model_type": "llama", "model_type": "gpt2"}',
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "shared" / "llm-inference.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    _tensors(folder)
    (folder / "net.tflite").write_bytes(zlib.decompress(base64.b85decode(TFLITE)))
    (folder / "net.onnx").write_bytes(_onnx())
    shutil.copy(folder / "model.gguf", folder / "tiny.gguf")
    noise = random.Random(1).randbytes(4096)
    for kind in ("gguf", "parquet", "safetensors", "onnx", "tflite", "pt2", "csv", "json", "yaml", "jsonl"):
        (folder / f"noise.{kind}").write_bytes(noise)
    (folder / "noise.csv.gz").write_bytes(gzip.compress(noise))
    for kind in ("gguf", "csv", "json"):
        with (folder / f"sparse.{kind}").open("wb") as file:
            file.truncate(_SPARSE_BYTES)
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "zero.yaml").symlink_to("/dev/zero")
    return folder


def _onnx() -> bytes:
    from onnx import TensorProto, helper

    shapes = {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3), "b": (4, 5), "y": (1, 5)}
    x, w, b, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    weights = [
        helper.make_tensor(
            v.name, TensorProto.FLOAT, shapes[v.name], np.ones(shapes[v.name], np.float32).tobytes(), raw=True
        )
        for v in (w, b)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "b"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "net", [x], [y], weights))
    return bytes(model.SerializeToString())


def _tensors(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from gguf import GGUFWriter
    from safetensors.numpy import save_file

    matrix = np.ones((64, 64), dtype=np.float32)
    save_file({"a.weight": matrix}, folder / "tensors.safetensors")
    table = {
        "itl_s": [1.0, 2.0, 3.0],
        "ttft_s": [3.0, 2.0, 1.0],
        "feasible": [True, True, False],
        "model": ["a", "b", "c"],
    }
    pq.write_table(pa.table(table), folder / "points.parquet")
    writer = GGUFWriter(folder / "model.gguf", "llama")
    for name, value in (
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 64),
        ("feed_forward_length", 64),
    ):
        writer.add_uint32(f"llama.{name}", value)
    for name, value in (("attention.head_count", 4), ("attention.head_count_kv", 2), ("vocab_size", 64)):
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    narrow = np.ones((32, 64), dtype=np.float32)
    parts = {"attn_q": matrix, "attn_k": narrow, "attn_v": narrow, "attn_output": matrix}
    parts |= {"ffn_gate": matrix, "ffn_up": matrix, "ffn_down": matrix}
    for name, value in parts.items():
        writer.add_tensor(f"blk.0.{name}.weight", value)
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", matrix)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", matrix[0])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([chr(33 + i) for i in range(64)])
    writer.add_token_types([1] * 64)
    writer.add_token_merges(["! #"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
