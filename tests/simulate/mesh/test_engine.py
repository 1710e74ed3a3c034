"""The event engine: one word per cycle and link, back-pressure, shared links, deadlock, determinism."""

import numpy as np
import pytest

from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.machines.mesh import load_parameters
from waferline.simulate.mesh.engine import MeshMachine, Program
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.engine.machine import DeadlockError

P = load_parameters("hpdc24")


def stream(cores: int, words: int, late: int = 0) -> tuple[Program, MeshMachine]:
    """Core 0 sends to the last core, which starts to listen `late` cycles later."""
    machine = MeshMachine(P, cores, 1, words, number_format="fp32")
    program = Program(cores, 1, 1, colour_limit=P.colours)
    program.route(0, 0, st.RAMP, 1 << st.EAST)
    if cores > 2:
        program.route(np.arange(1, cores - 1), 0, st.WEST, 1 << st.EAST)
    program.route(cores - 1, 0, st.WEST, 1 << st.RAMP)
    program.add(0, st.SEND, c_out=0, count=words, ticks=1)
    program.add(cores - 1, st.COMPUTE, ticks=late)
    program.add(cores - 1, st.RECV, c_in=0, count=words, ticks=1, latency=1)
    return program, machine


@pytest.mark.parametrize(("cores", "words"), [(2, 1), (2, 32), (4, 32), (9, 100)])
def test_a_stream_takes_one_cycle_per_word_one_per_hop_and_both_ramps(cores, words):
    program, machine = stream(cores, words)
    machine.memory[0] = np.arange(words)
    run = machine.run(program)
    assert run.cycles == words + (cores - 1) + 2 * P.ramp_cycles + 1
    assert np.array_equal(machine.memory[-1], np.arange(words))
    assert run.hop_words == words * (cores - 1)


@pytest.mark.parametrize("words", [32, 500])
def test_a_late_receiver_holds_the_sender_back_and_loses_nothing(words):
    program, machine = stream(4, words, late=200)
    machine.memory[0] = np.arange(words)
    run = machine.run(program)
    assert run.peak_queue_words <= P.queue_words
    assert np.array_equal(machine.memory[-1], np.arange(words))
    assert run.cycles == max(200 + words, words + 3 + 2 * P.ramp_cycles + 1)
    if words > 4 * P.queue_words:  # more than the routers hold: the sender itself is late
        assert run.finish_cycles[0] > 200


def test_nobody_counts_the_cycles_in_which_nothing_happens():
    program, machine = stream(2, 8, late=2 * 10**9)  # a clock that went cycle by cycle would take long
    assert machine.run(program).cycles == 2 * 10**9 + 8
    with pytest.raises(InvalidInputError, match="1e\\+15"):  # it was 14 cycles
        machine.run(stream(2, 8, late=10**15)[0])


def test_two_streams_over_one_link_share_it_fairly():
    words = 60
    machine = MeshMachine(P, 3, 1, 2 * words, number_format="fp32")
    program = Program(3, 1, 2, colour_limit=P.colours)
    for colour, sender in ((0, 0), (1, 1)):  # both cross the link from core 1 to core 2
        program.route(sender, colour, st.RAMP, 1 << st.EAST)
        program.route(2, colour, st.WEST, 1 << st.RAMP)
        program.add(sender, st.SEND, c_out=colour, count=words, ticks=1)
        program.add(2, st.RECV, c_in=colour, addr=colour * words, count=words, ticks=1, latency=1, run_async=1)
    program.route(1, 0, st.WEST, 1 << st.EAST)
    program.add(2, st.JOIN)
    run = machine.run(program)
    alone = stream(3, words)
    assert run.cycles >= 2 * words  # the shared link carries 2 x words, one per cycle
    assert run.cycles <= 2 * words + alone[1].run(alone[0]).cycles - words
    # Neither is served first: each gets every other slot, but for the words that routers hold on its way.
    assert run.finish_cycles[0] >= 2 * (words - 2 * P.queue_words)
    assert run.finish_cycles[1] >= 2 * (words - P.queue_words)


def test_a_receive_without_a_send_is_named_and_not_waited_for():
    machine = MeshMachine(P, 2, 1, 4)
    program = Program(2, 1, 1, colour_limit=P.colours)
    program.add(1, st.RECV, c_in=0, count=4, ticks=1, latency=1)
    with pytest.raises(DeadlockError, match=r"core \(1, 0\)"):
        machine.run(program)


def test_routes_that_clash_or_lead_nowhere_are_refused():
    program = Program(2, 1, 1, colour_limit=P.colours)
    program.route(0, 0, st.RAMP, 1 << st.EAST)
    with pytest.raises(InvalidInputError, match=r"router \(0, 0\)"):
        program.route(0, 0, st.EAST, 1 << st.RAMP)
    with pytest.raises(InvalidInputError, match="does not take it"):
        MeshMachine(P, 2, 1, 1).run(program)
    with pytest.raises(DoesNotFitError, match="25 colours"):
        Program(2, 1, 25, colour_limit=P.colours)


def test_the_same_program_gives_the_same_bytes():
    def once() -> tuple[bytes, bytes]:
        program, machine = stream(5, 40, late=33)
        machine.memory[0] = np.linspace(0, 1, 40)
        run = machine.run(program)
        return machine.memory.tobytes(), run.finish_cycles.tobytes() + run.link_words.tobytes()

    assert once() == once()


def test_compute_hides_communication_and_the_account_says_so():
    program, machine = stream(2, 50)
    program.add(0, st.COMPUTE, ticks=10)
    both = Program(2, 1, 1, colour_limit=P.colours)
    both.route(0, 0, st.RAMP, 1 << st.EAST)
    both.route(1, 0, st.WEST, 1 << st.RAMP)
    both.add(0, st.SEND, c_out=0, count=50, ticks=1, run_async=1)
    both.add(0, st.COMPUTE, ticks=40)
    both.add(0, st.JOIN)
    both.add(1, st.RECV, c_in=0, count=50, ticks=1, latency=1)
    run = machine.run(both)
    assert run.compute_cycles[0] == 40
    assert run.overlap_cycles[0] == 40
    assert run.communication_cycles[0] > 50
