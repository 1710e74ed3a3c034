"""Networks from TFLite files: the four of MLPerf Tiny, int8, with the counts that the benchmark publishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.report.answer import answer_report
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.spec import ConvNet

KINDS = {"int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32, "fp32": tflite.TensorType.FLOAT32}
BYTES = {"int8": 1, "int32": 4, "fp32": 4}


class Writer:
    """A file of one subgraph: tensors by number, operators in order."""

    def __init__(self, *shape: int, kind: str = "int8") -> None:
        self.kind = kind
        self.tensors: list[tuple[tuple[int, ...], str, bool]] = []
        self.operators: list[tuple[int, Sequence[int], Sequence[int]]] = []
        self.input = self.tensor(*shape)

    def tensor(self, *shape: int, kind: str | None = None, stored: bool = False) -> int:
        self.tensors.append((shape, kind or self.kind, stored))
        return len(self.tensors) - 1

    def add(self, op: str, inputs: Sequence[int], *shape: int) -> int:
        out = self.tensor(*shape)
        self.operators.append((getattr(tflite.BuiltinOperator, op), inputs, [out]))
        return out

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self.tensors[tensor][0]

    def bias(self, size: int) -> int:
        return self.tensor(size, kind="int32" if self.kind == "int8" else "fp32", stored=True)

    def conv(self, x: int, out: int, kernel: tuple[int, int] = (1, 1), stride: int = 1) -> int:
        _, h, w, c = self.shape(x)
        weight = self.tensor(out, *kernel, c, stored=True)
        return self.add("CONV_2D", [x, weight, self.bias(out)], 1, -(-h // stride), -(-w // stride), out)

    def depthwise(self, x: int, stride: int = 1) -> int:
        _, h, w, c = self.shape(x)
        weight = self.tensor(1, 3, 3, c, stored=True)
        return self.add("DEPTHWISE_CONV_2D", [x, weight, self.bias(c)], 1, -(-h // stride), -(-w // stride), c)

    def dense(self, x: int, out: int) -> int:
        weight = self.tensor(out, prod(self.shape(x)), stored=True)
        return self.add("FULLY_CONNECTED", [x, weight, self.bias(out)], 1, out)

    def classes(self, x: int, out: int) -> int:
        channels = self.shape(x)[-1]
        x = self.add("AVERAGE_POOL_2D", [x], 1, 1, 1, channels)
        x = self.add("RESHAPE", [x, self.tensor(2, kind="int32", stored=True)], 1, channels)
        return self.add("SOFTMAX", [self.dense(x, out)], 1, out)

    def save(self, path: Path, output: int) -> Path:
        b = flatbuffers.Builder(1024)

        def vector(start: Callable[..., Any], items: Sequence[int], prepend: Callable[[int], None]) -> int:
            start(b, len(items))
            for item in reversed(items):
                prepend(item)
            return int(b.EndVector())

        def table(kind: str, **fields: int) -> int:
            getattr(tflite, f"{kind}Start")(b)
            for name, value in fields.items():
                getattr(tflite, f"{kind}Add{name}")(b, value)
            return int(getattr(tflite, f"{kind}End")(b))

        offset = b.PrependUOffsetTRelative
        data = [b.CreateByteVector(bytes(prod(s) * BYTES[k])) if stored else 0 for s, k, stored in self.tensors]
        buffers = [table("Buffer")] + [table("Buffer", Data=d) if d else table("Buffer") for d in data]
        tensors = []
        for i, (shape, kind, stored) in enumerate(self.tensors):
            name, sizes = b.CreateString(f"t{i}"), vector(tflite.TensorStartShapeVector, shape, b.PrependInt32)
            place = i + 1 if stored else 0
            tensors.append(table("Tensor", Name=name, Shape=sizes, Type=KINDS[kind], Buffer=place))
        codes = sorted({code for code, *_ in self.operators})
        written = [table("OperatorCode", BuiltinCode=c, DeprecatedBuiltinCode=min(c, 127)) for c in codes]
        operators = []
        for code, inputs, outputs in self.operators:
            given = vector(tflite.OperatorStartInputsVector, inputs, b.PrependInt32)
            made = vector(tflite.OperatorStartOutputsVector, outputs, b.PrependInt32)
            operators.append(table("Operator", OpcodeIndex=codes.index(code), Inputs=given, Outputs=made))
        parts = {
            "Tensors": vector(tflite.SubGraphStartTensorsVector, tensors, offset),
            "Inputs": vector(tflite.SubGraphStartInputsVector, [self.input], b.PrependInt32),
            "Outputs": vector(tflite.SubGraphStartOutputsVector, [output], b.PrependInt32),
            "Operators": vector(tflite.SubGraphStartOperatorsVector, operators, offset),
        }
        subgraph = table("SubGraph", **parts)
        model = {
            "Subgraphs": vector(tflite.ModelStartSubgraphsVector, [subgraph], offset),
            "Buffers": vector(tflite.ModelStartBuffersVector, buffers, offset),
            "OperatorCodes": vector(tflite.ModelStartOperatorCodesVector, written, offset),
        }
        b.Finish(table("Model", Version=3, **model), b"TFL3")
        path.write_bytes(bytes(b.Output()))
        return path


def keyword_spotting(w: Writer) -> int:
    x = w.conv(w.input, 64, (10, 4), 2)
    for _ in range(4):
        x = w.conv(w.depthwise(x), 64)
    return w.classes(x, 12)


def visual_wake_words(w: Writer) -> int:
    x = w.conv(w.input, 8, (3, 3), 2)
    widths = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
    for out, stride in widths:
        x = w.conv(w.depthwise(x, stride), out)
    return w.classes(x, 2)


def image_classification(w: Writer) -> int:
    x = w.conv(w.input, 16, (3, 3))
    for out, stride in ((16, 1), (32, 2), (64, 2)):
        y = w.conv(w.conv(x, out, (3, 3), stride), out, (3, 3))
        x = x if stride == 1 else w.conv(x, out, (1, 1), stride)
        x = w.add("ADD", [x, y], *w.shape(y))
    return w.classes(x, 10)


def anomaly_detection(w: Writer) -> int:
    x = w.input
    for out in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = w.dense(x, out)
    return x


# Network, its input, its name in the catalogue (whose counts are held against the published ones), and the bytes alive at
# the fullest moment: depthwise and pointwise of 25 x 5 x 64; 48 x 48 x (8 + 16); both operands and the sum of 32 x 32 x 16;
# input and output of the first layer.
TINY: dict[str, tuple[Callable[[Writer], int], tuple[int, ...], str, int]] = {
    "kws": (keyword_spotting, (1, 49, 10, 1), "ds-cnn", 2 * 25 * 5 * 64),
    "vww": (visual_wake_words, (1, 96, 96, 3), "mobilenet-v1-0.25-96", 48 * 48 * (8 + 16)),
    "ic": (image_classification, (1, 32, 32, 3), "resnet-8", 3 * 32 * 32 * 16),
    "ad": (anomaly_detection, (1, 640), "fc-autoencoder", 640 + 128),
}


def load(path: Path, **options: Any) -> ConvNet:
    model = load_model(path, **options)
    assert isinstance(model, ConvNet)
    return model


@pytest.mark.parametrize("name", TINY)
def test_mlperf_tiny(tmp_path: Path, name: str) -> None:
    build, shape, catalogue, peak = TINY[name]
    w = Writer(*shape)
    path = w.save(tmp_path / f"{name}.tflite", build(w))
    model, known = load(path), load_model(catalogue)
    assert isinstance(known, ConvNet)
    folded = sum(2 * c.c_out * c.count for c in known.layers if c.batch_norm)  # batch norms are part of the weights
    assert parameter_count(model).macs == parameter_count(known).macs
    assert parameter_count(model).total == parameter_count(known).total - folded
    assert (model.peak_bytes, model.precision) == (peak, "w8a8")
    assert model.stored_bytes == sum(prod(s) * BYTES[k] for s, k, stored in w.tensors if stored)
    by_file, by_name = (run(Scenario(model=m, machine="stm32h7", precision="w8a8")) for m in (path, catalogue))
    assert by_file.fits
    assert by_file.result["latency_s"] == pytest.approx(by_name.result["latency_s"], rel=0.1)


def test_flash_and_sram_are_two_memories(tmp_path: Path) -> None:
    """Neither holds what does not fit the other."""
    heavy = Writer(1, 1, 1, 1024)
    weights = heavy.save(tmp_path / "weights.tflite", heavy.conv(heavy.input, 600))  # 614 kB in 524 kB of flash
    wide = Writer(1, 256, 256, 1)
    activations = wide.save(tmp_path / "activations.tflite", wide.conv(wide.input, 2))  # 197 kB in 147 kB of SRAM
    small = Writer(1, 8, 8, 1)
    said = "".join(str(line) for line in answer_report(run(Scenario(model=weights, machine="stm32g0b1"))))
    assert "617 kB of weights for flash of 524 kB" in said
    for path, fits in (
        (weights, False),
        (activations, False),
        (small.save(tmp_path / "small.tflite", small.conv(small.input, 2)), True),
    ):
        assert run(Scenario(model=path, machine="stm32g0b1")).fits == fits
        assert run(Scenario(model=path, machine="stm32h7")).fits


def test_transposed_batched_and_float_operators(tmp_path: Path) -> None:
    w = Writer(1, 8, 8, 4, kind="fp32")
    shape = w.tensor(4, kind="int32", stored=True)
    x = w.add("TRANSPOSE_CONV", [shape, w.tensor(6, 3, 3, 4, stored=True), w.input], 1, 16, 16, 6)
    rows = w.add("RESHAPE", [x, shape], 1, 256, 6)
    scores = w.add("BATCH_MATMUL", [rows, w.add("TRANSPOSE", [rows, shape], 1, 6, 256)], 1, 256, 256)
    model = load(w.save(tmp_path / "m.tflite", scores))
    assert parameter_count(model).macs == 64 * 6 * 9 * 4 + 256 * 256 * 6
    assert (parameter_count(model).total, model.precision) == (6 * 9 * 4, "fp32")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    w = Writer(1, 8, 8, 4)
    with pytest.raises(UnsupportedError, match="control flow"):
        load(w.save(tmp_path / "m.tflite", w.add("WHILE", [w.input], 1, 8, 8, 4)))
    w = Writer(1, 8, 8, 4)
    with pytest.raises(UnsupportedError, match="custom operator"):
        load(w.save(tmp_path / "m.tflite", w.add("CUSTOM", [w.input], 1, 8, 8, 4)))
    w = Writer(1, 8, 8, 4)
    path = w.save(tmp_path / "m.tflite", w.conv(w.input, 2))
    with pytest.raises(InvalidInputError, match="is 1x8x8x4, not 1x9x9x4"):
        load(path, input_shape="1x9x9x4")
    (tmp_path / "x.tflite").write_bytes(b"not at all a network")
    with pytest.raises(FileFormatError, match="not a TFLite file"):
        load(tmp_path / "x.tflite")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load(tmp_path / "none.tflite")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_give_a_model_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("tflite")
    w = Writer(1, 12, 12, 3)
    content = bytearray(w.save(folder / "m.tflite", w.classes(w.conv(w.input, 4, (3, 3)), 3)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.tflite"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        model = load(path)
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert parameter_count(model).macs >= 0
