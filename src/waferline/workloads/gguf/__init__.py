"""Models from GGUF files: the structure is read from the tensors, what they cannot say from the header."""
