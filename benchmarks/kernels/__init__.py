"""CPU kernels and whole models beside llama.cpp."""

from waferline.kernels.binding import bind_threads

bind_threads()  # ours and the peer's, before either starts a pool
