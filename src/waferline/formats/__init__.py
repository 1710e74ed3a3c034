"""Number formats: what a weight costs, how it is packed, and what packing loses."""

from waferline.formats.format import Format, format_names, get_format
from waferline.formats.precision import Precision, computed_notes, labels_of, resolve

__all__ = ["Format", "Precision", "computed_notes", "format_names", "get_format", "labels_of", "resolve"]
