"""A device is checked however it is made: what no machine can have is one typed line, which names the figure.

Once an answer has held a device, the door checks the kinds of its arguments first, in words of its own: either line will do.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnknownNameError, WaferlineError
from waferline.machines.device import Link, MemoryLevel
from waferline.machines.hardware import load_hardware

H100 = load_hardware("h100")
NO_FIGURES = (-5, 0, math.nan, math.inf, -math.inf, "x", None, True, [1], 1j)


@pytest.mark.parametrize("value", NO_FIGURES, ids=repr)
@pytest.mark.parametrize("figure", ["units", "clock_hz", "tdp_w", "idle_w", "price_usd", "hourly_usd"])
def test_what_if_refuses_what_no_machine_can_have(figure, value):
    if value is None and figure not in ("units", "clock_hz"):
        assert getattr(H100.with_(**{figure: None}), figure) is None  # not known
        return
    with pytest.raises(InvalidInputError, match=f"{figure} (is a finite number above 0, not|must be a) "):
        H100.with_(**{figure: value})


@pytest.mark.parametrize("value", NO_FIGURES, ids=repr)
def test_levels_links_and_peaks_are_checked(value):
    with pytest.raises(InvalidInputError, match="capacity_bytes"):
        MemoryLevel("HBM", value, 1e12)
    with pytest.raises(InvalidInputError, match="bandwidth_bytes_per_s"):
        MemoryLevel("HBM", 1e9, value)
    with pytest.raises(InvalidInputError, match="bandwidth_bytes_per_s"):
        Link("X", "scale-up", value, 1e-6, 8)
    with pytest.raises(InvalidInputError, match="max_devices"):
        Link("X", "scale-up", 1e9, 1e-6, value)
    with pytest.raises(InvalidInputError, match="peak_flops"):
        H100.with_(peak_flops={"fp16": value})
    if value != 0:
        with pytest.raises(InvalidInputError, match=r"latency_s (is a finite number of at least 0|must be a number)"):
            Link("X", "scale-up", 1e9, value, 8)


@pytest.mark.parametrize(
    "changes", [{"links": "x"}, {"links": (1,)}, {"memory": ()}, {"memory": "HBM"}, {"peak_flops": {}}]
)
def test_parts_of_another_type_are_refused(changes):
    with pytest.raises(InvalidInputError, match=r"links?|memory|peak_flops"):
        H100.with_(**changes)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UnknownNameError, match="clock_hz"):
        H100.with_(clock_h=1e9)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(), st.dates(),
    st.lists(st.floats()), st.tuples(st.none()), st.dictionaries(st.text(), st.floats()), st.sets(st.integers()),
)  # fmt: skip


@given(st.sampled_from(["units", "clock_hz", "tdp_w", "links", "memory", "peak_flops"]), ANYTHING)
def test_any_value_is_taken_or_refused_with_a_typed_line(figure, value):
    try:
        H100.with_(**{figure: value})
    except WaferlineError as error:
        assert "\n" not in str(error)


def test_a_machine_has_no_silent_clock_units_or_group():
    for missing in ("clock_hz", "units", "group"):
        figures = {f: getattr(H100, f) for f in H100.__dataclass_fields__ if f != missing}
        with pytest.raises((TypeError, InvalidInputError), match=missing):
            type(H100)(**figures)
