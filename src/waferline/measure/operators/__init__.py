"""The very operators that predict reasons about, run for real: weights made, packed, timed and checked."""

from waferline.measure.operators.request import OperatorRequest, parse_shape
from waferline.measure.operators.run import OPERATORS, entry_of, measure_operator, operator_of

__all__ = ["OPERATORS", "OperatorRequest", "entry_of", "measure_operator", "operator_of", "parse_shape"]
