"""Elementwise functions on one number or many, with the same answer for both.

A scenario of one point is plain floats, whose arithmetic costs tens of nanoseconds; many points are NumPy arrays. Formulas are
written once, with these functions in the places where `np.maximum` and its like would turn a float into an array.
Functions whose last bit differs between C libraries (exp, log) always ask NumPy, so that one point and many agree.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from waferline.arrays import Floats


def number(value: Any) -> Floats:
    """`value` as a float, or as an array where it has axes."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    array = np.asarray(value, dtype=np.float64)
    return array if array.ndim else float(array)


def maximum(a: Any, b: Any) -> Any:
    if type(a) is float and type(b) is float:
        return a if a > b else b
    return np.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    if type(a) is float and type(b) is float:
        return a if a < b else b
    return np.minimum(a, b)


def where(condition: Any, then: Any, otherwise: Any) -> Any:
    """`then` where the condition holds, else `otherwise`; both are computed."""
    if type(condition) is bool:
        return then if condition else otherwise
    return np.where(condition, then, otherwise)


def ceil(x: Any) -> Any:
    if type(x) is float:
        return float(math.ceil(x)) if math.isfinite(x) else x
    return np.ceil(x)


def floor(x: Any) -> Any:
    if type(x) is float:
        return float(math.floor(x)) if math.isfinite(x) else x
    return np.floor(x)


def exp(x: Any) -> Any:
    return float(np.exp(x)) if type(x) is float else np.exp(x)


def log(x: Any) -> Any:
    return float(np.log(x)) if type(x) is float else np.log(x)


def log1p(x: Any) -> Any:
    return float(np.log1p(x)) if type(x) is float else np.log1p(x)


def sqrt(x: Any) -> Any:
    return math.sqrt(x) if type(x) is float else np.sqrt(x)


def both(a: Any, b: Any) -> Any:
    """Whether two conditions hold."""
    return (a and b) if type(a) is bool and type(b) is bool else a & b


def anywhere(condition: Any) -> bool:
    """Whether a condition holds at any point."""
    return condition if type(condition) is bool else bool(np.any(condition))
