"""Convolutional networks from their configurations: ResNet, MobileNet, MobileNetV2.

Sources: He et al. (arXiv:1512.03385, table 1; stride in the 3x3 convolution as in torchvision), Howard et al.
(arXiv:1704.04861), Sandler et al. (arXiv:1801.04381, table 2).
"""

from __future__ import annotations

from collections.abc import Iterator

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import Family, classes
from waferline.workloads.spec import Conv, ConvNet

_MAX_SCALE = 1000  # of channels; published networks go to 1.4
_BOTTLENECK = 4  # a bottleneck ends in four times its inner channels
# arXiv:1801.04381, table 2: expansion, channels, repeats, stride
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# arXiv:1704.04861, table 1: channels, stride of each depthwise separable pair
_MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def square(name: str, c_in: int, c_out: int, kernel: int, side: int, stride: int = 1, groups: int = 1) -> Conv:
    """A square convolution with batch norm on `side` × `side` outputs."""
    return Conv(name, c_in, c_out, kernel, kernel, side, side, stride, groups)


def dense_layer(name: str, c_in: int, c_out: int) -> Conv:
    return Conv(name, c_in, c_out, 1, 1, 1, 1, bias=True, batch_norm=False)


def _halve(side: int, stride: int) -> int:
    return -(-side // stride)


def _resnet(c: ConfigReader) -> ConvNet:
    stem, side = c.size_or(64, "embedding_size"), c.size_or(224, "image_size")
    widths, depths = c.items("hidden_sizes"), c.items("depths")
    kind = c.text("bottleneck", "layer_type")
    if not widths or not depths or len(widths) != len(depths) or kind not in ("bottleneck", "basic"):
        raise InvalidInputError(
            "a ResNet needs as many 'hidden_sizes' as 'depths', and 'layer_type' bottleneck or basic", where=c.where
        )
    channels = c.size_or(3, "num_channels")
    side = _halve(side, 2)
    layers = [square("stem", channels, stem, 7, side, 2)]
    side, c_in = _halve(side, 2), stem  # max pooling
    sizes = ConfigReader({f"hidden_sizes[{i}]": w for i, w in enumerate(widths)}, c.where)
    repeats = ConfigReader({f"depths[{i}]": d for i, d in enumerate(depths)}, c.where)
    for stage in range(len(widths)):
        width, repeat = sizes.size(f"hidden_sizes[{stage}]"), repeats.layers(f"depths[{stage}]")
        stride = 1 if stage == 0 else 2
        for i in range(repeat):
            step = stride if i == 0 else 1
            layers += _residual(f"stage{stage + 1}.{i + 1}", kind, c_in, width, side, step)
            side, c_in = _halve(side, step), width
    number = classes(c)
    return _convnet((*layers, dense_layer("fc", c_in, number)), c, number)


def _residual(name: str, kind: str, c_in: int, width: int, side: int, stride: int) -> Iterator[Conv]:
    out = _halve(side, stride)
    if kind == "bottleneck":
        inner = width // _BOTTLENECK
        yield square(f"{name}.reduce", c_in, inner, 1, side)
        yield square(f"{name}.spatial", inner, inner, 3, out, stride)
        yield square(f"{name}.expand", inner, width, 1, out)
    else:
        yield square(f"{name}.first", c_in, width, 3, out, stride)
        yield square(f"{name}.second", width, width, 3, out)
    if stride != 1 or c_in != width:
        yield square(f"{name}.shortcut", c_in, width, 1, out, stride)


def _divisible(channels: float, by: int = 8) -> int:
    """Channels rounded to a multiple of `by`, never down by more than a tenth (the reference implementation's rule)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def _mobilenet_v2(c: ConfigReader) -> ConvNet:
    scale, side = c.number(1.0, "depth_multiplier"), c.size_or(224, "image_size")
    if not 0 < scale <= _MAX_SCALE:
        raise InvalidInputError(
            f"'depth_multiplier' must be above 0 and at most {_MAX_SCALE}, not {scale}", where=c.where
        )
    c_in, side = _divisible(32 * scale), _halve(side, 2)
    layers = [square("stem", 3, c_in, 3, side, 2)]
    for stage, (expansion, base, repeat, stride) in enumerate(_MOBILENET_V2, 1):
        width = _divisible(base * scale)
        for i in range(repeat):
            step, inner, name = stride if i == 0 else 1, c_in * expansion, f"stage{stage}.{i + 1}"
            if expansion > 1:
                layers.append(square(f"{name}.expand", c_in, inner, 1, side))
            side = _halve(side, step)
            layers.append(square(f"{name}.depthwise", inner, inner, 3, side, step, inner))
            layers.append(square(f"{name}.project", inner, width, 1, side))
            c_in = width
    last, number = max(1280, _divisible(1280 * scale)), classes(c)
    layers += [square("last", c_in, last, 1, side), dense_layer("fc", last, number)]
    return _convnet(tuple(layers), c, number)


def _mobilenet_v1(c: ConfigReader) -> ConvNet:
    scale, side = c.number(1.0, "depth_multiplier"), c.size_or(224, "image_size")
    if not 0 < scale <= _MAX_SCALE:
        raise InvalidInputError(
            f"'depth_multiplier' must be above 0 and at most {_MAX_SCALE}, not {scale}", where=c.where
        )
    c_in, side = max(8, int(32 * scale)), _halve(side, 2)
    layers = [square("stem", c.size_or(3, "num_channels"), c_in, 3, side, 2)]
    for i, (base, stride) in enumerate(_MOBILENET_V1, 1):
        width, side = max(8, int(base * scale)), _halve(side, stride)
        layers.append(square(f"pair{i}.depthwise", c_in, c_in, 3, side, stride, c_in))
        layers.append(square(f"pair{i}.pointwise", c_in, width, 1, side))
        c_in = width
    number = classes(c)
    return _convnet((*layers, dense_layer("fc", c_in, number)), c, number)


def _convnet(layers: tuple[Conv, ...], c: ConfigReader, number: int) -> ConvNet:
    side = c.size_or(224, "image_size")
    shape = (c.size_or(3, "num_channels"), side, side)
    return ConvNet(name="", title="", family="", layers=layers, input_shape=shape, classes=number)


FAMILIES: dict[str, Family] = {"resnet": _resnet, "mobilenet_v1": _mobilenet_v1, "mobilenet_v2": _mobilenet_v2}
