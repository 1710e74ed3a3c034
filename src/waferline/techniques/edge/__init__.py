"""Techniques of small machines: microcontroller and FPGA cycle models, memory planners, arithmetic engines."""
