"""The memory planner: no overlap, never below what lives at once, and MCUFormer's rule for every network."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError
from waferline.evidence.studies.cases.arena import Buffer, live_bytes, peak_bytes, place, separate_bytes
from waferline.evidence.studies.cases.mcuformer import (
    NO_TRICKS,
    RELEASED,
    SmallViT,
    Tricks,
    block_buffers,
    released_rule_bytes,
)
from waferline.evidence.studies.registry import load_study, run_study

NET = SmallViT(width=192, depth=12, heads=3, mlp_ratio=4, rank_ratio=0.9, patch=16, image=224)


@st.composite
def buffers(draw):
    count = draw(st.integers(0, 12))
    steps = [sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))) for _ in range(count)]
    return [Buffer(f"b{i}", draw(st.integers(0, 1000)), a, b) for i, (a, b) in enumerate(steps)]


@settings(max_examples=200)
@given(buffers())
def test_no_two_living_buffers_overlap_and_the_peak_is_honest(given_buffers):
    placed = place(given_buffers)
    assert sorted(p.buffer.name for p in placed) == sorted(b.name for b in given_buffers)
    for i, a in enumerate(placed):
        for b in placed[:i]:
            if a.buffer.meets(b.buffer):
                assert a.end_bytes <= b.offset_bytes or b.end_bytes <= a.offset_bytes
    assert live_bytes(given_buffers) <= peak_bytes(placed) <= separate_bytes(given_buffers)


def test_a_buffer_needs_a_lifetime_and_a_size():
    with pytest.raises(InvalidInputError, match="steps 3 to 1"):
        Buffer("x", 4, 3, 1)


GOLDEN = [  # image, patch, width, mlp ratio, highest rank ratio that fits 320 KB by the released rule
    (224, 16, 192, 4.0, 0.90),
    (224, 16, 216, 4.0, 0.60),
    (240, 16, 192, 4.0, 0.75),
    (240, 16, 216, 4.0, 0.40),
]


@pytest.mark.parametrize(("image", "patch", "width", "mlp", "rank"), GOLDEN)
def test_the_edge_of_what_fits(image, patch, width, mlp, rank):
    def fits(ratio):
        net = SmallViT(width, 12, 3, mlp, ratio, patch, image)
        return peak_bytes(place(list(block_buffers(net, RELEASED)))) <= 320 * 1024

    assert fits(rank) and not fits(rank + 0.05)


def test_each_trick_needs_less_memory():
    def peak(tricks):
        return peak_bytes(place(list(block_buffers(NET, tricks))))

    naive = separate_bytes(list(block_buffers(NET, NO_TRICKS)))
    assert naive > peak(NO_TRICKS) > peak(RELEASED) > peak(replace(RELEASED, hidden_tokens=4))
    no_fusion = replace(Tricks(), operator_integration=False, hidden_tokens=1)
    assert peak(no_fusion) > peak(replace(no_fusion, operator_integration=True))


@given(width=st.sampled_from([168, 192, 216]), patch=st.sampled_from([16, 20, 24, 28, 32]), rank=st.floats(0.4, 0.95))
def test_the_plan_is_the_released_rule(width, patch, rank):
    net = replace(NET, width=width, patch=patch, rank_ratio=rank)
    planned = peak_bytes(place(list(block_buffers(net, RELEASED))))
    assert planned == pytest.approx(released_rule_bytes(net), rel=1e-12)


def test_the_study_classifies_the_whole_space():
    report = run_study(load_study("mcuformer"))
    assert not report.misses
    assert next(c for c in report.checks if c.quantity.startswith("fits")).unit == "of 4320"
