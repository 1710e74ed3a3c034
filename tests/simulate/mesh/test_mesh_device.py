"""Parameter sets, a core's SRAM, colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hyp

from waferline.errors import DoesNotFitError, FileFormatError, InvalidInputError, UnknownNameError
from waferline.machines import mesh
from waferline.simulate.mesh.lines import interleave_ring, natural_ring
from waferline.simulate.mesh.memory import SramLedger

SETS = ("hpdc24", "sdk-sim-wse3", "wse2-waferllm", "wse3-notebook")


def test_the_named_sets_are_there_and_every_figure_has_a_source():
    assert tuple(mesh.parameter_set_names()) == SETS
    for name in SETS:
        p = mesh.load_parameters(name)
        assert p.name == name
        figures = {f for f in p.__slots__ if f not in ("name", "description", "device", "provenance")}
        assert set(p.provenance) == figures
        assert all(len(source) > 5 for source in p.provenance.values())


def test_cohorts_keep_their_own_constants():
    assert mesh.load_parameters("wse2").stage_cycles == 25.6
    assert mesh.load_parameters("wse3").stage_cycles == 51
    hpdc = mesh.load_parameters("hpdc24")
    assert hpdc.stage_cycles == 2 * hpdc.ramp_cycles + 1
    assert hpdc.clock_hz == 0.85e9


def test_unknown_names_and_bad_files_are_refused():
    with pytest.raises(UnknownNameError, match="wse2"):
        mesh.load_parameters("wse4")
    with pytest.raises(FileFormatError, match="hop_cycles"):
        mesh.parameters_from_mapping({"name": "x", "description": "", "device": "y", "figures": {}}, where="x.yaml")
    changed = mesh.load_parameters("wse2").with_values(colours=4)
    assert changed.colours == 4
    assert changed.provenance["colours"] == "set by the caller"


@pytest.mark.parametrize(("width", "height"), [(751, 10), (10, 995), (0, 3)])
def test_a_grid_must_lie_on_the_device(width, height):
    with pytest.raises(InvalidInputError, match="grid"):
        mesh.check_grid(mesh.load_parameters("wse2"), width, height)


@given(hyp.lists(hyp.integers(0, 9000), max_size=12))
def test_the_ledger_never_holds_more_than_the_sram(sizes):
    p = mesh.load_parameters("wse2")
    ledger = SramLedger(p)
    for number, size in enumerate(sizes):
        free = ledger.free_bytes
        if -(-size // 4) * 4 <= free:
            ledger.allocate(str(number), size)
        else:
            with pytest.raises(DoesNotFitError, match=f"{free} of {p.sram_bytes}"):
                ledger.allocate(str(number), size)
    assert 0 <= ledger.used_bytes <= p.sram_bytes
    assert ledger.used_bytes + ledger.free_bytes == p.sram_bytes


@given(hyp.integers(3, 200))
def test_the_interleaved_ring_takes_two_hops_and_three_colours(size):
    ring = interleave_ring(size)
    assert sorted(ring.order) == list(range(size))
    assert ring.longest_hop == 2
    assert ring.n_colours == 3
    assert natural_ring(size).longest_hop == size - 1
    assert np.array_equal(ring.order[(ring.index + 1) % size], ring.target)


@pytest.mark.parametrize("size", [5, 8, 9])
def test_the_ring_is_waferllm_algorithm_1(size):
    """send = i + 2 for even i and i - 2 for odd i, kept inside the line; the ends turn round."""
    ring = interleave_ring(size)
    send = [min(i + 2, size - 1) if i % 2 == 0 else max(i - 2, 0) for i in range(size)]
    if size % 2:
        send[size - 1] = size - 2
    assert list(ring.target) == send
