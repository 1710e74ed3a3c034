"""Networks of any shape from files (ONNX, TFLite) and from PyTorch: operators with exact counts, and what is alive when."""
