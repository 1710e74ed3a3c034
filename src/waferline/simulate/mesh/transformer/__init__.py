"""A Llama-style transformer on a mesh: the logits of a small one, the KV cache of any."""

from waferline.simulate.mesh.transformer.run import simulate_forward, simulate_kv

__all__ = ["simulate_forward", "simulate_kv"]
