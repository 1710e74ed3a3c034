"""A small vector layer for Numba: sixteen 32-bit lanes, as LLVM vectors, in code and in code generation.

Two faces. `Lanes` wraps an LLVM builder for the micro-kernels that unroll themselves (`microkernel.py`). The intrinsics
below (`load_f32`, `fma`, ...) let an ordinary `@jit` function hold vectors in variables (`attention.py`, `softmax.py`).
Sixteen lanes are one AVX-512 register, two AVX2 registers or four NEON ones: LLVM splits them by itself.

Offsets are in bytes from the first element of the array and are not checked: callers check shapes at the public door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
VECTOR_BYTES = 64

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()


def vector(element: Any, count: int = LANES) -> Any:
    """The LLVM type of `count` elements."""
    return ir.VectorType(element, count)


VI, VF = vector(I32), vector(F32)  # the two register types: 16 x i32, 16 x f32


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic by name, declaring it on first use."""
    module = builder.module
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def data_pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Byte pointer to the first element of a NumPy array inside an intrinsic."""
    pointer = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.bitcast(pointer, I8.as_pointer())


class Lanes:
    """An LLVM builder that speaks in sixteen lanes. Every method returns an LLVM value."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    # constants -------------------------------------------------------------------------------------------------------
    def i64(self, value: int) -> Any:
        return ir.Constant(I64, value)

    def ints(self, value: int) -> Any:
        return ir.Constant(VI, [value] * LANES)

    def floats(self, value: float) -> Any:
        return ir.Constant(VF, [value] * LANES)

    # addresses and memory --------------------------------------------------------------------------------------------
    def at(self, offset: Any, constant: int) -> Any:
        return self.b.add(offset, self.i64(constant)) if constant else offset

    def load(self, base: Any, offset: Any, what: Any) -> Any:
        pointer = self.b.bitcast(self.b.gep(base, [offset]), what.as_pointer())
        return self.b.load(pointer, align=1)

    def store(self, value: Any, base: Any, offset: Any) -> None:
        pointer = self.b.bitcast(self.b.gep(base, [offset]), value.type.as_pointer())
        self.b.store(value, pointer, align=1)

    def prefetch(self, base: Any, offset: Any) -> None:
        """Ask for a line for reading, into every cache level."""
        pointer = self.b.gep(base, [offset])
        read, keep, data = (ir.Constant(I32, v) for v in (0, 3, 1))
        name = "llvm.prefetch.p0"
        function = self.b.module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
            function = ir.Function(self.b.module, signature, name)
        self.b.call(function, [pointer, read, keep, data])

    # lanes -----------------------------------------------------------------------------------------------------------
    def splat(self, scalar: Any) -> Any:
        kind = vector(scalar.type)
        one = self.b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(VI, [0] * LANES))

    def broadcast(self, base: Any, offset: Any, element: Any = I32) -> Any:
        return self.splat(self.load(base, offset, element))

    def half(self, v: Any, element: Any, count: int, index: int) -> Any:
        """Elements `index*count ...` of `v` seen as elements of another width."""
        whole = vector(element, VECTOR_BYTES * 8 // element.width)
        v = self.b.bitcast(v, whole)
        picks = ir.Constant(vector(I32, count), list(range(index * count, (index + 1) * count)))
        return self.b.shuffle_vector(v, ir.Constant(whole, ir.Undefined), picks)

    def join(self, parts: list[Any], count: int) -> Any:
        """Concatenate vectors of `count` i32 into one of sixteen."""
        while len(parts) > 1:
            picks = ir.Constant(vector(I32, 2 * count), list(range(2 * count)))
            parts = [self.b.shuffle_vector(parts[i], parts[i + 1], picks) for i in range(0, len(parts), 2)]
            count *= 2
        return parts[0]

    # arithmetic ------------------------------------------------------------------------------------------------------
    def and_(self, v: Any, mask: int) -> Any:
        return self.b.and_(v, self.ints(mask))

    def shift_right(self, v: Any, bits: int) -> Any:
        return self.b.lshr(v, self.ints(bits)) if bits else v

    def shift_left(self, v: Any, bits: int) -> Any:
        return self.b.shl(v, self.ints(bits)) if bits else v

    def to_float(self, v: Any) -> Any:
        return self.b.sitofp(v, VF)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return call(self.b, "llvm.fma.v16f32", VF, [x, y, z])


# --- vectors as values of @jit functions ------------------------------------------------------------------------------
class Vector(types.Type):
    """Numba's name for a register of sixteen lanes."""

    def __init__(self, name: str, llvm_type: Any) -> None:
        self.llvm_type = llvm_type
        super().__init__(name=name)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, numba_type.llvm_type)


i32x16 = Vector("i32x16", VI)
f32x16 = Vector("f32x16", VF)


def _loader(memory: Any, widen: Callable[[Lanes, Any], Any], result: Any, doc: str) -> Any:
    def load(typing_context: Any, array: Any, offset: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = Lanes(builder)
            base = data_pointer(context, builder, signature.args[0], arguments[0])
            return widen(lanes, lanes.load(base, arguments[1], memory))

        return result(array, types.intp), code

    load.__doc__ = doc
    return intrinsic(load)


def bf16_to_float(lanes: Lanes, v: Any) -> Any:
    """A bfloat16 is the upper half of a float32."""
    return lanes.b.bitcast(lanes.shift_left(lanes.b.zext(v, VI), 16), VF)


load_f32 = _loader(VF, lambda v, x: x, f32x16, "16 f32")
load_f16 = _loader(vector(F16), lambda v, x: v.b.fpext(x, VF), f32x16, "16 f16 as f32")
load_i8 = _loader(vector(I8), lambda v, x: v.to_float(v.b.sext(x, VI)), f32x16, "16 signed bytes as f32")
load_i32 = _loader(VI, lambda v, x: x, i32x16, "16 i32 (or 64 bytes)")
spread_f32 = _loader(F32, lambda v, x: v.splat(x), f32x16, "one f32 in every lane")
spread_i32 = _loader(I32, lambda v, x: v.splat(x), i32x16, "one i32 (four bytes) in every lane")
spread_f16 = _loader(F16, lambda v, x: v.splat(v.b.fpext(x, F32)), f32x16, "one f16 in every lane, as f32")
half_to_float = _loader(F16, lambda v, x: v.b.fpext(x, F32), types.float32, "one f16 as an f32 scalar")


@intrinsic
def store_f32(typing_context: Any, array: Any, offset: Any, v: Any) -> Any:
    """Write 16 f32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = data_pointer(context, builder, signature.args[0], arguments[0])
        Lanes(builder).store(arguments[2], base, arguments[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, v), code


@intrinsic
def float_to_half(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write one f32 as f16, rounded to nearest even."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = data_pointer(context, builder, signature.args[0], arguments[0])
        Lanes(builder).store(builder.fptrunc(arguments[2], F16), base, arguments[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), code


@intrinsic
def spread(typing_context: Any, value: Any) -> Any:
    """An f32 scalar in every lane."""
    return f32x16(types.float32), lambda context, builder, signature, a: Lanes(builder).splat(a[0])


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x*y + z, rounded once."""
    return f32x16(x, y, z), lambda context, builder, signature, a: Lanes(builder).fma(*a)


def _binary(operation: str, kind: Any, doc: str) -> Any:
    def op(typing_context: Any, x: Any, y: Any) -> Any:
        return kind(x, y), lambda context, builder, signature, a: getattr(builder, operation)(*a)

    op.__doc__ = doc
    return intrinsic(op)


add = _binary("fadd", f32x16, "x + y")
sub = _binary("fsub", f32x16, "x - y")
mul = _binary("fmul", f32x16, "x * y")
div = _binary("fdiv", f32x16, "x / y")
add_i32 = _binary("add", i32x16, "x + y on i32")


def _llvm_call(name: str, arity: int, doc: str) -> Any:
    """An LLVM function of `arity` f32 vectors."""

    def unary(typing_context: Any, x: Any) -> Any:
        return f32x16(x), lambda context, builder, signature, a: call(builder, name, VF, list(a))

    def binary(typing_context: Any, x: Any, y: Any) -> Any:
        return f32x16(x, y), lambda context, builder, signature, a: call(builder, name, VF, list(a))

    op = unary if arity == 1 else binary
    op.__doc__ = doc
    return intrinsic(op)


round_even = _llvm_call("llvm.rint.v16f32", 1, "nearest integer, ties to even")
absolute = _llvm_call("llvm.fabs.v16f32", 1, "|x|")
# `maximum` is NaN when either side is; `maxnum` would drop it.
maximum = _llvm_call("llvm.maximum.v16f32", 2, "larger of x and y; NaN if either is NaN")


def _reduce(name: str, start: float | None, doc: str) -> Any:
    def op(typing_context: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            if start is None:
                return call(builder, name, F32, [a[0]])
            result = call(builder, name, F32, [ir.Constant(F32, start), a[0]])
            result.fastmath.add("reassoc")  # a tree of additions instead of a chain of sixteen
            return result

        return types.float32(x), code

    op.__doc__ = doc
    return intrinsic(op)


sum_lanes = _reduce("llvm.vector.reduce.fadd.v16f32", -0.0, "sum of the lanes")
max_lanes = _reduce("llvm.vector.reduce.fmaximum.v16f32", None, "largest lane; NaN if any is NaN")


@intrinsic
def power_of_two(typing_context: Any, n: Any) -> Any:
    """2**n for lanes holding integers in [-126, 127]: the exponent field written directly."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        lanes = Lanes(builder)
        exponent = builder.add(builder.fptosi(a[0], VI), lanes.ints(127))
        return builder.bitcast(lanes.shift_left(exponent, 23), VF)

    return f32x16(n), code


@intrinsic
def greater_of(typing_context: Any, x: Any, y: Any) -> Any:
    """x where x > y, else y (so y's NaN stays and x's does not): one instruction, unlike `maximum`."""
    return f32x16(x, y), lambda context, builder, signature, a: builder.select(
        builder.fcmp_ordered(">", a[0], a[1]), a[0], a[1]
    )


@intrinsic
def magnitude_bits(typing_context: Any, x: Any) -> Any:
    """|x| as its bit pattern: integers order as the floats do, and NaN is the largest of all."""
    return i32x16(x), lambda context, builder, signature, a: Lanes(builder).and_(builder.bitcast(a[0], VI), 0x7FFFFFFF)


@intrinsic
def larger_i32(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger of x and y in each lane."""
    return i32x16(x, y), lambda context, builder, signature, a: call(builder, "llvm.smax.v16i32", VI, list(a))


@intrinsic
def largest_i32(typing_context: Any, x: Any) -> Any:
    """The largest lane."""
    return types.int32(x), lambda context, builder, signature, a: call(
        builder, "llvm.vector.reduce.smax.v16i32", I32, [a[0]]
    )


@intrinsic
def store_i8(typing_context: Any, array: Any, offset: Any, v: Any) -> Any:
    """Write 16 f32 that hold integers in [-128, 127] as bytes."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        base = data_pointer(context, builder, signature.args[0], a[0])
        Lanes(builder).store(builder.trunc(builder.fptosi(a[2], VI), vector(I8)), base, a[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, v), code


@intrinsic
def cycle_counter(typing_context: Any) -> Any:
    """The processor's steady time-stamp counter (ticks of unknown length: calibrate against a clock)."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        arm = builder.module.triple.startswith(("aarch64", "arm64"))
        return call(builder, "llvm.readsteadycounter" if arm else "llvm.readcyclecounter", I64, [])

    return types.int64(), code


def _clamp(comparison: str, doc: str) -> Any:
    def op(typing_context: Any, x: Any, bound: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            limit = Lanes(builder).splat(a[1])
            return builder.select(builder.fcmp_ordered(comparison, a[0], limit), limit, a[0])

        return f32x16(x, types.float32), code

    op.__doc__ = doc
    return intrinsic(op)


at_least = _clamp("<", "x, or the scalar bound where x is below it; NaN stays NaN")
at_most = _clamp(">", "x, or the scalar bound where x is above it; NaN stays NaN")
