"""Collectives as event programs: chain, K-tree, ring, broadcast; the words they move are real data."""

from waferline.simulate.mesh.collectives.run import CollectiveRun, allreduce, broadcast, reduce_scatter, reduce_to_root

__all__ = ["CollectiveRun", "allreduce", "broadcast", "reduce_scatter", "reduce_to_root"]
