"""Bit-level encoders and decoders, one family of number formats a file; `waferline.formats.codec` is their one door."""
