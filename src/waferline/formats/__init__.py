"""Number formats: what a weight costs, how it is packed, and what packing loses."""

from waferline.formats.format import Format, FormatArray, format_names, get_format
from waferline.formats.precision import Precision, resolve

__all__ = ["Format", "FormatArray", "Precision", "format_names", "get_format", "resolve"]
