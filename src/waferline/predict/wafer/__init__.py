"""Wafer-scale inference: weights resident in SRAM over a mesh of cores, or streamed through it layer by layer."""
