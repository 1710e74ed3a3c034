"""Number formats: what a weight costs, how it is packed, and what packing loses."""

from waferline.formats.format import Format, format_names, get_format
from waferline.formats.precision import Precision, labels_of, resolve

__all__ = ["Format", "Precision", "format_names", "get_format", "labels_of", "resolve"]
