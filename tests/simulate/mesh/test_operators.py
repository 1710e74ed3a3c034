"""One operator, two answers: what a model is lowered to can be handed to the mesh, and the formula meets the run."""

import pytest

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import resolve
from waferline.machines.hardware import load_hardware
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs.fitted import best_stages, price_list
from waferline.predict.wafer.price import decode_price, prefill_price, products
from waferline.simulate.mesh.operators import all_reduce, matrix_product
from waferline.simulate.mesh.run import simulate
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

WSE2 = load_parameters("wse2-waferllm")
FP16 = resolve("fp16", load_hardware("cs2").arithmetic)
BLOCK = Block(count=2, mixer=Attention(heads=4, kv_heads=2, head_dim=16), ffn=FeedForward(intermediate=160))
SMALL = Transformer(name="small", title="", family="llama", hidden_size=64, vocab_size=96, blocks=(BLOCK,))
PREFILL = [op for op in lower_prefill(SMALL, batch=1, prompt=40, precision=FP16) if op.kind == "gemm"]
DECODE = [op for op in lower_decode(SMALL, batch=2, context=40, precision=FP16) if op.kind == "gemm"]


@pytest.mark.parametrize(("width", "height"), [(4, 4), (8, 8)])
@pytest.mark.parametrize(
    "op",
    [
        *PREFILL,
        *DECODE,
        matrix_product(24, 24, 24, "int8"),
        matrix_product(1, 256, 32, weights="q4_0"),
        all_reduce(32, 64),
    ],
    ids=lambda op: f"{op.name}-{op.shape.get('m', '')}",
)
def test_what_is_predicted_in_closed_form_is_what_a_run_takes(op, width, height):
    """Within 3 %, the bound of every scheme of equal groups; and the numbers agree with NumPy."""
    run, formula = (simulate(op, WSE2, width, height, fidelity=f) for f in ("event", "closed"))
    assert (run.how, formula.how) == ("simulated", "predicted")
    assert run.accuracy.passes
    assert run.cycles == pytest.approx(formula.cycles, rel=0.03)
    assert run.closed_form_cycles == formula.cycles


# Tiles as large as those of Llama-3-8B and Qwen2-72B in WaferLLM Table 3, at a side that runs event by event.
SIDE, PROMPT = 8, 8 * 7
TILED = Block(count=1, mixer=Attention(heads=4, kv_heads=2, head_dim=8 * 3), ffn=FeedForward(intermediate=8 * 30))
TABLE_3 = Transformer(name="t", title="", family="llama", hidden_size=8 * 9, vocab_size=96, blocks=(TILED,))


@pytest.mark.parametrize("name", ["attention.qkv", "attention.out", "ffn.gate_up", "ffn.down"])
def test_what_predict_charges_a_prompt_is_what_a_run_takes(name):
    """The price list was fitted on published prefills, the engine's figures on mechanisms: they agree to 6 % (5.5 % found)."""
    op = next(op for op in lower_prefill(TABLE_3, batch=1, prompt=PROMPT, precision=FP16) if op.name == name)
    price = prefill_price(op, TILED, price_list(WSE2), SIDE)
    runs = [
        x.count * simulate(matrix_product(int(x.m), int(x.k), int(x.n)), WSE2, SIDE, SIDE, fidelity="event").cycles
        for x in products(op, TILED, decode=False)
    ]
    assert price.total == pytest.approx(sum(runs), rel=0.06)


@pytest.mark.parametrize(
    ("side", "k", "n"), [(360, 4096, 4096), (480, 4096, 14336), (660, 14336, 4096), (660, 8192, 29568)]
)
def test_what_predict_charges_a_token_is_a_run_and_its_share_of_the_rest(side, k, n):
    """All-reduces of a decode step are within 10 % of a run (one payload is charged, a run pays one a level); of a product also
    norms, softmax and activation are charged, by the row: up to 50 % more than the product alone.
    """
    op = matrix_product(1, k, n)
    run = simulate(op, WSE2, side, side, fidelity="event", data=False)
    price = decode_price(op, None, price_list(WSE2), side, best_stages(side, 2), 1)
    assert price.communication == pytest.approx(run.communication_cycles, rel=0.10)
    assert 0.95 * run.cycles <= price.total <= 1.5 * run.cycles


def test_rows_decide_between_gemm_and_gemv():
    assert simulate(matrix_product(64, 32, 32), WSE2, 8, 8).operation.startswith("gemm")
    assert simulate(matrix_product(2, 32, 32), WSE2, 8, 8).operation.startswith("gemv")


def test_the_answer_is_of_the_operator_that_was_asked():
    op = next(op for op in PREFILL if op.name == "ffn.down")
    result = simulate(op, WSE2, 8, 8)
    assert result.operation == "gemm 40x160x64" and result.details["number_format"] == op.activations


def test_what_the_mesh_does_not_run_is_refused_by_name():
    norm = next(op for op in lower_decode(SMALL, batch=1, context=8, precision=FP16) if op.kind == "norm")
    with pytest.raises(UnsupportedError, match="norm"):
        simulate(norm, WSE2, 4, 4)
    many = lower_prefill(SMALL, batch=1, prompt=[8, 16], precision=FP16)
    with pytest.raises(InvalidInputError, match="one positive whole number"):
        simulate(next(op for op in many if op.kind == "gemm"), WSE2, 4, 4)
