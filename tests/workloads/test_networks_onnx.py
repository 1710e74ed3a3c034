"""Networks from ONNX files: counts are those that torchvision prints, whatever the file leaves to be inferred."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.spec import ConvNet


class Writer:
    """Nodes one after another; weights are sizes alone, as in files that keep them outside."""

    def __init__(self, shape: tuple[int | str, ...], kind: int = TensorProto.FLOAT) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.kind, self.input = kind, helper.make_tensor_value_info("x", kind, shape)
        self.channels = {"x": shape[1]}

    def weight(self, *shape: int, kind: int | None = None) -> str:
        name = f"w{len(self.weights)}"
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=self.kind if kind is None else kind)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        self.weights.append(tensor)
        return name

    def numbers(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, op: str, *inputs: str, channels: Any = None, outputs: int = 1, **attributes: Any) -> str:
        names = [f"t{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        self.channels.update(dict.fromkeys(names, self.channels.get(inputs[0]) if channels is None else channels))
        return names[0]

    def conv(self, x: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, norm: bool = True) -> str:
        weight = self.weight(out, self.channels[x] // groups, kernel, kernel)
        bias = () if norm else (self.weight(out),)
        pads = [kernel // 2] * 4
        y = self.add("Conv", x, weight, *bias, channels=out, group=groups, strides=[stride] * 2, pads=pads)
        return self.add("BatchNormalization", y, *(self.weight(out) for _ in range(4))) if norm else y

    def dense(self, x: str, out: int) -> str:
        return self.add("Gemm", x, self.weight(out, self.channels[x]), self.weight(out), channels=out, transB=1)

    def classes(self, x: str, out: int) -> str:
        return self.dense(self.add("Flatten", self.add("GlobalAveragePool", x)), out)

    def save(self, path: Path, *outputs: str) -> Path:
        results = [helper.make_tensor_value_info(name, self.kind, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "network", [self.input], results, self.weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        onnx.save_model(helper.make_model(graph, opset_imports=opsets), path)
        return path


def resnet(w: Writer, depths: tuple[int, ...], bottleneck: bool) -> str:
    x = w.add("Relu", w.conv("x", 64, 7, 2))
    x = w.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, depth in enumerate(depths):
        inner = 64 << stage
        out = inner * (4 if bottleneck else 1)
        for i in range(depth):
            stride = 2 if stage and not i else 1
            if bottleneck:
                y = w.add("Relu", w.conv(w.add("Relu", w.conv(x, inner)), inner, 3, stride))
                y = w.conv(y, out)
            else:
                y = w.conv(w.add("Relu", w.conv(x, inner, 3, stride)), inner, 3)
            short = w.conv(x, out, 1, stride) if stride != 1 or w.channels[x] != out else x
            x = w.add("Relu", w.add("Add", y, short))
    return w.classes(x, 1000)


MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(w: Writer) -> str:
    x = w.add("Clip", w.conv("x", 32, 3, 2))
    for expansion, out, repeats, first in MOBILENET_V2:
        for i in range(repeats):
            stride, inner, y = first if not i else 1, w.channels[x] * expansion, x
            if expansion > 1:
                y = w.add("Clip", w.conv(y, inner))
            y = w.conv(w.add("Clip", w.conv(y, inner, 3, stride, inner)), out)
            x = w.add("Add", x, y) if stride == 1 and w.channels[x] == out else y
    return w.classes(w.add("Clip", w.conv(x, 1280)), 1000)


def vgg16(w: Writer) -> str:
    x = "x"
    for out in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if out:
            x = w.add("Relu", w.conv(x, out, 3, norm=False))
        else:
            x = w.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = w.add("Flatten", x, channels=512 * 49)
    return w.dense(w.add("Relu", w.dense(w.add("Relu", w.dense(x, 4096)), 4096)), 1000)


def vit_b_16(w: Writer) -> str:
    """Shapes are computed as exporters write them: Shape, Gather, Concat, Reshape."""
    hidden, heads, width = 768, 12, 64
    x = w.add("Conv", "x", w.weight(hidden, 3, 16, 16), w.weight(hidden), channels=hidden, strides=[16, 16])
    batch = w.add("Gather", w.add("Shape", x), w.numbers(0))
    batch = w.add("Unsqueeze", batch, w.numbers([0]))
    x = w.add("Reshape", x, w.add("Concat", batch, w.numbers([hidden]), w.numbers([-1]), axis=0))
    x = w.add("Transpose", x, perm=[0, 2, 1])
    x = w.add("Add", w.add("Concat", w.weight(1, 1, hidden), x, axis=1), w.weight(1, 197, hidden))
    for _ in range(12):
        y = w.add("LayerNormalization", x, w.weight(hidden), w.weight(hidden))
        y = w.add("Add", w.add("MatMul", y, w.weight(hidden, 3 * hidden)), w.weight(3 * hidden))
        y = w.add("Transpose", w.add("Reshape", y, w.numbers([0, -1, 3, heads, width])), perm=[2, 0, 3, 1, 4])
        q, k, v = (w.add("Gather", y, w.numbers(i), axis=0) for i in range(3))
        scores = w.add(
            "Mul", w.add("MatMul", q, w.add("Transpose", k, perm=[0, 1, 3, 2])), w.numbers(np.float32(0.125))
        )
        y = w.add("Transpose", w.add("MatMul", w.add("Softmax", scores), v), perm=[0, 2, 1, 3])
        y = w.add("Reshape", y, w.numbers([0, -1, hidden]))
        x = w.add("Add", x, w.add("Add", w.add("MatMul", y, w.weight(hidden, hidden)), w.weight(hidden)))
        y = w.add("LayerNormalization", x, w.weight(hidden), w.weight(hidden))
        y = w.add("Add", w.add("MatMul", y, w.weight(hidden, 4 * hidden)), w.weight(4 * hidden))
        y = w.add("Mul", y, w.add("Sigmoid", y))
        x = w.add("Add", x, w.add("Add", w.add("MatMul", y, w.weight(4 * hidden, hidden)), w.weight(hidden)))
    x = w.add("LayerNormalization", x, w.weight(hidden), w.weight(hidden))
    return w.dense(w.add("Gather", x, w.numbers(0), axis=1, channels=hidden), 1000)


# Parameters and multiply-accumulates as https://docs.pytorch.org/vision/stable/models.html lists them.
TORCHVISION: dict[str, tuple[Callable[[Writer], str], int, float]] = {
    "resnet18": (lambda w: resnet(w, (2, 2, 2, 2), False), 11_689_512, 1.814),
    "resnet50": (lambda w: resnet(w, (3, 4, 6, 3), True), 25_557_032, 4.089),
    "mobilenet_v2": (mobilenet_v2, 3_504_872, 0.301),
    "vgg16": (vgg16, 138_357_544, 15.47),
    "vit_b_16": (vit_b_16, 86_567_656, 17.564),
}


def load(path: Path, **options: Any) -> ConvNet:
    model = load_model(path, **options)
    assert isinstance(model, ConvNet)
    return model


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_counts(tmp_path: Path, name: str) -> None:
    build, params, giga_macs = TORCHVISION[name]
    w = Writer((1, 3, 224, 224))
    model = load(w.save(tmp_path / f"{name}.onnx", build(w)))
    count = parameter_count(model)
    assert (count.total, round(count.macs / 1e9, 3)) == (params, giga_macs)
    assert model.stored_bytes == 4 * sum(prod(t.dims) for t in w.weights if t.data_location) + sum(
        len(t.raw_data) for t in w.weights
    )
    assert (model.title, model.precision, model.notes) == (name, "fp32", ())


def test_an_open_batch_is_one_and_said(tmp_path: Path) -> None:
    w = Writer(("N", 3, 224, 224))
    model = load(w.save(tmp_path / "m.onnx", resnet(w, (2, 2, 2, 2), False)))
    assert round(parameter_count(model).macs / 1e9, 3) == 1.814
    assert model.input_shape == (1, 3, 224, 224)
    assert "Nx3x224x224: one at a time" in model.notes[0]


def test_open_sizes_are_asked_for(tmp_path: Path) -> None:
    w = Writer(("N", 3, "H", "W"))
    path = w.save(tmp_path / "m.onnx", w.classes(w.conv("x", 8, 3), 10))
    with pytest.raises(InvalidInputError, match=r"Nx3xHxW: its sizes are open .*--input-shape x=\?x3x\?x\?"):
        load(path)
    several = load(path, input_shape="4x3x32x48")
    assert parameter_count(several).macs == 4 * (32 * 48 * 8 * 27 + 80)
    assert several.notes == ("a sample is all of input 'x', 4x3x32x48; --batch says how many of them",)
    for text in ("1x3x32x48", "x=1x3x32x48"):
        assert parameter_count(load(path, input_shape=text)).macs == 32 * 48 * 8 * 27 + 80
    for text, said in (("1x4x32x48", "is NxcxHxW"), ("1x3x32", "is Nx3xHxW, not 1x3x32"), ("1x3xax2", "is no shape")):
        with pytest.raises(InvalidInputError, match=said.replace("Nxc", "Nx3")):
            load(path, input_shape=text)
    with pytest.raises(WaferlineError, match="input 'y'"):
        load(path, input_shape="y=1x3x32x32")
    with pytest.raises(InvalidInputError, match="would not be read"):
        load_model("resnet-50", input_shape="1x3x32x32")


def test_groups_dilation_and_transposition(tmp_path: Path) -> None:
    w = Writer((1, 8, 20, 20))
    y = w.add("Conv", "x", w.weight(16, 4, 3, 3), group=2, dilations=[2, 2], channels=16)  # 16 x 16 positions
    y = w.add("ConvTranspose", y, w.weight(16, 2, 4, 4), group=4, strides=[2, 2], channels=8)
    count = parameter_count(load(w.save(tmp_path / "m.onnx", y)))
    assert count.macs == 16 * 16 * 16 * 4 * 9 + 16 * 16 * 16 * 2 * 16


def test_recurrent_layers_and_einstein_sums(tmp_path: Path) -> None:
    w = Writer((50, 1, 40))  # length, batch, features
    y = w.add("LSTM", "x", w.weight(1, 512, 40), w.weight(1, 512, 128), w.weight(1, 1024), hidden_size=128, outputs=3)
    z = w.add("GRU", "x", w.weight(1, 384, 40), w.weight(1, 384, 128), w.weight(1, 768), hidden_size=128, outputs=2)
    pair = w.add("Einsum", w.add("Squeeze", y), w.add("Squeeze", z), equation="ik,jk->ij")
    count = parameter_count(load(w.save(tmp_path / "m.onnx", pair)))
    assert count.total == 512 * 168 + 1024 + 384 * 168 + 768  # as torch.nn.LSTM(40, 128) and GRU(40, 128)
    assert count.macs == 50 * (512 + 384) * 168 + 50 * 50 * 128


def test_most_alive_at_once(tmp_path: Path) -> None:
    w = Writer((1, 4, 8, 8))
    first = w.add("Relu", w.conv("x", 8, 3))  # batch norm and activation are the convolution's
    second = w.conv(first, 8, 3)
    third = w.add("MaxPool", w.add("Add", first, second), kernel_shape=[2, 2], strides=[2, 2])
    model = load(w.save(tmp_path / "m.onnx", w.add("Flatten", third)))
    assert model.peak_bytes == 2 * 8 * 64 * 4  # both operands of the sum; the sum is written over one


def test_quantised_weights_are_those_of_the_file(tmp_path: Path) -> None:
    w = Writer((1, 16, 8, 8))
    scale, zero = w.numbers(np.float32(0.1)), w.numbers(np.int8(0))
    weight = w.add("DequantizeLinear", w.weight(32, 16, 1, 1, kind=TensorProto.INT8), scale, zero)
    x = w.add("DequantizeLinear", w.add("QuantizeLinear", "x", scale, zero), scale, zero)
    y = w.add("QuantizeLinear", w.add("Conv", x, weight, channels=32), scale, zero)
    model = load(w.save(tmp_path / "m.onnx", y))
    assert model.precision == "w8a8"
    assert (parameter_count(model).total, model.stored_bytes) == (512, 512 + 5)
    assert model.peak_bytes == 16 * 64 * (4 + 1)  # the input as the caller gives it and quantised; the output is less
    answer = run(Scenario(model=model, machine="stm32h7"))
    assert answer.fits and answer.result["weights_bytes"] == 517


@pytest.mark.parametrize(
    ("op", "attributes", "said"),
    [
        ("NonZero", {}, "depends on the input's values"),
        ("Frobnicate", {}, "'Frobnicate' is not one of ONNX"),
        ("MatMul", {}, "MatMul"),
        ("Gelu2", {"domain": "com.microsoft"}, "com.microsoft.Gelu2"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, op: str, attributes: dict[str, Any], said: str) -> None:
    w = Writer((1, 3, 8, 9))
    inputs = ("x", "x") if op == "MatMul" else ("x",)
    path = w.save(tmp_path / "m.onnx", w.add(op, *inputs, **attributes))
    with pytest.raises((UnsupportedError, FileFormatError), match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_predicted_like_the_catalogue(tmp_path: Path) -> None:
    """The same network by its name and by its file is about as fast."""
    w = Writer((1, 3, 224, 224))
    path = w.save(tmp_path / "m.onnx", resnet(w, (3, 4, 6, 3), True))
    for machine in ("h100", "jetson-orin-nano"):
        file, name = (
            run(Scenario(model=m, machine=machine, precision="fp32")).result["latency_s"] for m in (path, "resnet-50")
        )
        assert file == pytest.approx(name, rel=0.15)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_damaged_files_give_a_model_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("onnx")
    w = Writer((1, 3, 16, 16))
    y = w.add("Reshape", w.conv("x", 8, 3), w.numbers([1, -1]), channels=2048)
    content = bytearray(w.save(folder / "m.onnx", w.dense(y, 4)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.onnx"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        model = load(path)
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert parameter_count(model).macs >= 0


def test_a_branch_that_sizes_decide_is_taken(tmp_path: Path) -> None:
    """As PyTorch exports squeeze: the condition compares a size with one."""
    w = Writer((1, 4, 6))
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("MatMul", ["x", w.weight(6, 5)], ["a"])], "then", [], [out[0]])
    other = helper.make_graph([helper.make_node("MatMul", ["x", w.weight(6, 9)], ["b"])], "else", [], [out[1]])
    same = w.add("Equal", w.add("Gather", w.add("Shape", "x"), w.numbers(0)), w.numbers(1))
    model = load(w.save(tmp_path / "m.onnx", w.add("If", same, then_branch=then, else_branch=other)))
    assert parameter_count(model).macs == 4 * 6 * 5
    w = Writer((1, 4, 6))
    asked = w.add("ReduceSum", "x", keepdims=0)
    branch = w.add("If", w.add("Cast", asked, to=TensorProto.BOOL), then_branch=then, else_branch=other)
    with pytest.raises(UnsupportedError, match="control flow"):
        load(w.save(tmp_path / "m.onnx", branch))


def test_operators_of_onnxruntime(tmp_path: Path) -> None:
    w = Writer((1, 8, 6, 6))
    y = w.add(
        "FusedConv", "x", w.weight(4, 8, 3, 3), w.weight(4), domain="com.microsoft", activation="Relu", channels=4
    )
    rows = w.add("Reshape", y, w.numbers([1, 16, 4]))
    attended = w.add("MultiHeadAttention", rows, rows, rows, domain="com.microsoft", num_heads=2)
    packed = w.weight(12, 1, 2, kind=TensorProto.UINT8)
    z = w.add("MatMulNBits", attended, packed, w.weight(12), domain="com.microsoft", K=4, N=12, bits=4, block_size=16)
    model = load(w.save(tmp_path / "m.onnx", z))
    assert parameter_count(model).macs == 16 * 4 * 72 + 2 * 2 * 16 * 16 * 2 + 16 * 4 * 12
