"""Block-format kernels on CPUs: threads, batches and bandwidth move times as cores and memory do; published runs are met."""

from __future__ import annotations

import numpy as np
import pytest

import waferline as wl
from waferline.evidence.machines import machine
from waferline.machines.hardware import hardware_names, load_hardware
from waferline.machines.threads import with_threads
from waferline.predict.cpu_kernels import core_of

_RUNS = [  # (machine, threads, model, format, metric, published): llama-bench of ik_llama.cpp and llama.cpp pull requests
    ("amd-ryzen-threadripper-pro-5975wx", 2, "llama-3.1-8b", "q4_k", "decode", 4.6),  # ik_llama.cpp PR 129
    ("amd-ryzen-threadripper-pro-5975wx", 8, "llama-3.1-8b", "q4_k", "decode", 11.67),
    ("amd-ryzen-threadripper-pro-5975wx", 32, "llama-3.1-8b", "q4_k", "prefill", 206.4),
    ("aws-graviton3", 16, "mistral-7b", "q3_k", "decode", 29.1),  # llama.cpp PR 11917, before it
]


@pytest.mark.parametrize(("slug", "threads", "model", "precision", "phase", "published"), _RUNS)
def test_published_runs_by_threads(slug, threads, model, precision, phase, published):
    engine = "ik_llama.cpp" if "threadripper" in slug else "llama.cpp"
    device = machine(slug, threads)
    r = wl.ServingModel().solve(
        model, device, 512 if phase == "prefill" else 1, 1, precision, output_len=2, engine=engine
    )
    rate = 512.0 / float(r["ttft_s"]) if phase == "prefill" else 1.0 / float(r["itl_s"])
    assert rate == pytest.approx(published, rel=0.25)


def _step_s(device, batch=1):
    return wl.ServingModel().solve("llama-3.1-8b", device, 128, batch, "q4_k", output_len=2, engine="llama.cpp")[
        "itl_s"
    ]


def test_more_threads_are_never_slower_and_memory_is_the_end_of_it():
    device = machine("amd-ryzen-threadripper-pro-5975wx")
    at = [with_threads(device, n) for n in (1, 2, 4, 8, 16, 32)]
    decode = [_step_s(d) for d in at]
    assert all(np.diff(decode[:5]) < 0)
    assert decode[0] / decode[1] > 1.9  # cores unpack
    assert decode[4] / decode[5] < 1.2  # memory is full


def test_a_larger_batch_never_takes_a_shorter_step():
    device = machine("aws-graviton3")
    assert np.all(np.diff(_step_s(device, np.arange(1, 65))) >= 0)


def test_unknown_engines_and_machines_keep_a_wider_interval():
    known, new = machine("aws-graviton3"), machine("aws-graviton4")
    widths = []
    for device in (known, new):
        r = wl.ServingModel().solve("llama-3.1-8b", device, 128, 1, "q4_k", output_len=2, engine="llama.cpp")
        widths.append(float(r["itl_high90_s"]) / float(r["itl_low90_s"]))
    assert widths[1] > widths[0]


def test_every_cpu_of_the_catalogue_has_a_design_and_an_instruction_for_products():
    every = [load_hardware(name) for name in hardware_names()]
    assert all(set(core_of(d)) == {"designs", "products"} for d in every if d.kind == "cpu")


def test_cores_of_nowhere_keep_what_the_model_says_of_all():
    device = machine("aws-graviton4")
    assert not core_of(device.with_(architecture="of nowhere"))
    assert _step_s(device.with_(architecture="of nowhere")) > 0


def test_prompts_gain_from_instructions_that_sum_more_products():
    """The same cores but for their instruction: FEAT_I8MM over FEAT_DotProd, vpdpbusd over vpmaddubsw."""
    for slug, older in (("aws-graviton4", "neoverse-n1"), ("amd-ryzen-9-9950x", "zen3")):
        device = machine(slug)
        new, old = (
            wl.ServingModel().solve("llama-3.1-8b", d, 512, 1, "q4_k", output_len=2, engine="llama.cpp")["ttft_s"]
            for d in (device, device.with_(architecture=older))
        )
        assert old > 1.2 * new


def test_look_up_kernels_pass_over_bits():
    """T-MAC (arXiv:2407.00088): one core takes half the time for half the bits, where kernels that multiply do not."""
    one = with_threads(load_hardware("apple-m2-ultra-cpu"), 1)

    def gain(engine):
        four, two = (
            float(wl.ServingModel().solve("llama-2-7b", one, 1, 1, f, output_len=2, engine=engine)["itl_s"])
            for f in ("int4", "int2")
        )
        return four / two

    assert gain("t-mac") > 1.6
    assert gain("llama.cpp") < gain("t-mac") - 0.3
