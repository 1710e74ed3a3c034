"""A whole Llama-style transformer on a mesh: prefill, decode, KV cache; numbers for small models, cycles for any."""

from waferline.simulate.mesh.transformer.run import simulate_decode, simulate_kv, simulate_prefill

__all__ = ["simulate_decode", "simulate_kv", "simulate_prefill"]
