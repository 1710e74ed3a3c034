"""What a checkpoint's quantisation section says: the format of every matrix, of the activations and of the KV cache."""
