"""The SIMD vector as a Numba type, and the operations that every formula is written in.

A `Vector` value lives in registers, so a kernel written in Python with +, *, `fma`, `load` and `store` compiles to the
code that a C programmer writes with intrinsics; nothing depends on LLVM's auto-vectoriser.

A `Tile` is the one specialisation key of the kernels: the element type, the lanes of a vector and the rows that a
register block holds. It is passed as the first argument and exists at compile time only. Addresses are integers.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from numbalstm.kernels.linked import linked, overload

I32, I64 = ir.IntType(32), ir.IntType(64)
FLOAT = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
INTEGER = {types.float32: I32, types.float64: I64}
SUFFIX = {types.float32: "f32", types.float64: "f64"}
BYTES = {types.float32: 4, types.float64: 8}


class Vector(types.Type):
    """`lanes` values of `dtype` (float32, float64, or boolean as the result of a comparison) in registers."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_type(fe_type))


def vector_type(v):
    """The LLVM type of a Vector."""
    return ir.VectorType(ir.IntType(1) if v.dtype == types.boolean else FLOAT[v.dtype], v.lanes)


class TileType(types.Type):
    """Compile-time description of a register block: see `Tile`."""

    def __init__(self, dtype, lanes, rows, any_activation, weights, tape, dropout):
        self.dtype, self.lanes, self.rows = dtype, lanes, rows
        self.any_activation, self.weights, self.tape, self.dropout = any_activation, weights, tape, dropout
        self.vector = Vector(dtype, lanes)
        super().__init__(name=f"Tile({dtype}, {lanes}, {rows}, {any_activation}, {weights}, {tape}, {dropout})")


class Tile:
    """A register block: `rows` rows of four gate vectors of `lanes` units each.

    Parameters
    ----------
    dtype : float32 or float64
    lanes : int
        Units of a tile, one vector register wide.
    rows : int
        Rows that are multiplied at once; 4 * rows accumulators have to fit the registers.
    any_activation : bool
        False: tanh and sigmoid, inlined. True: the activations are chosen at run time by their codes.
    weights : str
        How the packed weights are stored and multiplied: a key of `numbalstm.kernels.cpu.product.PRODUCTS`.
    tape : bool
        Whether gates and states of every step are kept for the backward pass.
    dropout : bool
        Whether x and h have factors of their own for each gate.
    """

    def __init__(self, dtype, lanes, rows, any_activation=False, weights="native", tape=False, dropout=False):
        self.dtype, self.lanes, self.rows = np.dtype(dtype), lanes, rows
        self.any_activation, self.weights, self.tape, self.dropout = any_activation, weights, tape, dropout
        element = types.float32 if self.dtype == np.float32 else types.float64
        self._numba_type_ = TileType(element, lanes, rows, any_activation, weights, tape, dropout)


register_model(TileType)(models.OpaqueModel)


@unbox(TileType)
def _unbox_tile(typ, obj, c):
    return NativeValue(c.context.get_dummy_value())


def broadcast(builder, scalar, v):
    """A scalar in every lane of a vector of type `v`."""
    undefined = ir.Constant(vector_type(v), ir.Undefined)
    one = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, v.lanes), [0] * v.lanes))


# ---- operators


def _cast_operands(context, builder, sig, args, v):
    """Both operands as vectors: Python constants and scalars are cast to the element type and spread."""
    return [
        value if t == v else broadcast(builder, context.cast(builder, value, t, v.dtype), v)
        for value, t in zip(args, sig.args, strict=True)
    ]


def _vector_of(a, b):
    """The vector type of a mixed pair, or None where the pair holds no float vector or two different ones."""
    found = [t for t in (a, b) if isinstance(t, Vector) and t.dtype != types.boolean]
    fits = found and all(t == found[0] or isinstance(t, types.Number) for t in (a, b))
    return found[0] if fits else None


def _binary(python_operator, emit, comparison=False):
    @intrinsic
    def apply(typingctx, a, b):
        v = _vector_of(a, b)
        result = Vector(types.boolean, v.lanes) if comparison else v
        return result(a, b), lambda context, builder, sig, args: emit(
            builder, *_cast_operands(context, builder, sig, args, v)
        )

    @overload(python_operator)
    def on_vectors(a, b):
        if _vector_of(a, b) is not None:
            return lambda a, b: apply(a, b)


_binary(operator.add, lambda builder, a, b: builder.fadd(a, b))
_binary(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_binary(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_binary(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
_binary(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), comparison=True)


@intrinsic
def _negate(typingctx, a):
    return a(a), lambda context, builder, sig, args: builder.fneg(args[0])


@overload(operator.neg)
def _negative(a):
    if isinstance(a, Vector):
        return lambda a: _negate(a)


# ---- operations for formulas: on arrays and floats in the interpreter, on vectors and floats in a kernel


def fma(a, b, c):
    """a * b + c, rounded once where the machine can."""
    return a * b + c


@intrinsic
def _fma(typingctx, a, b, c):
    v = next(t for t in (a, b, c) if isinstance(t, Vector))

    def codegen(context, builder, sig, args):
        values = _cast_operands(context, builder, sig, args, v)
        return emit_fma(builder, *values, v)

    return v(a, b, c), codegen


def emit_fma(builder, a, b, c, v):
    """LLVM's fused multiply-add on three vectors of type `v`."""
    t = vector_type(v)
    name = f"llvm.fmuladd.v{v.lanes}{SUFFIX[v.dtype]}"
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t] * 3), name), [a, b, c])


@overload(fma)
def _fma_overload(a, b, c):
    if any(isinstance(t, Vector) for t in (a, b, c)):
        return lambda a, b, c: _fma(a, b, c)
    return lambda a, b, c: a * b + c


def less(a, b):
    """a < b, lane by lane; false where either is NaN."""
    return a < b


@overload(less)
def _less(a, b):
    return lambda a, b: a < b


def select(condition, a, b):
    """a where the condition holds, else b."""
    return np.where(condition, a, b)[()]


@intrinsic
def _select(typingctx, condition, a, b):
    v = _vector_of(a, b)

    def codegen(context, builder, sig, args):
        chosen = [
            value if t == v else broadcast(builder, context.cast(builder, value, t, v.dtype), v)
            for value, t in zip(args[1:], sig.args[1:], strict=True)
        ]
        return builder.select(args[0], *chosen)

    return v(condition, a, b), codegen


@overload(select)
def _select_overload(condition, a, b):
    if isinstance(condition, Vector):
        return lambda condition, a, b: _select(condition, a, b)
    return lambda condition, a, b: a if condition else b


def minimum(x, bound):
    """The smaller one; NaN where x is NaN."""
    return select(less(bound, x), bound, x)


def maximum(x, bound):
    """The larger one; NaN where x is NaN."""
    return select(less(x, bound), bound, x)


def absolute(x):
    """|x|."""
    return np.abs(x)


@overload(minimum)
def _minimum(x, bound):
    return lambda x, bound: select(less(bound, x), bound, x)


@overload(maximum)
def _maximum(x, bound):
    return lambda x, bound: select(less(x, bound), bound, x)


@intrinsic
def _fabs(typingctx, a):
    def codegen(context, builder, sig, args):
        t = vector_type(a)
        name = f"llvm.fabs.v{a.lanes}{SUFFIX[a.dtype]}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t]), name), args)

    return a(a), codegen


@overload(absolute)
def _absolute(x):
    if isinstance(x, Vector):
        return lambda x: _fabs(x)
    return lambda x: abs(x)


# ---- bits


@intrinsic
def power_of_two(typingctx, shifted):
    """2**n from n + 1.5 * 2**(mantissa bits): the low bits of that sum are the integer n."""
    v = shifted
    bits, bias = (23, 127) if v.dtype == types.float32 else (52, 1023)

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(INTEGER[v.dtype], v.lanes)
        n = builder.bitcast(args[0], integers)
        exponent = builder.shl(n, ir.Constant(integers, [bits] * v.lanes))
        one = ir.Constant(integers, [bias << bits] * v.lanes)
        return builder.bitcast(builder.add(exponent, one), vector_type(v))

    return v(v), codegen


@intrinsic
def _estimate(typingctx, x):
    """The AVX-512 estimate of 1 / x, 14 bits."""
    v = x

    def codegen(context, builder, sig, args):
        t = vector_type(v)
        mask = ir.IntType(16 if v.dtype == types.float32 else 8)
        name = "llvm.x86.avx512.rcp14." + ("ps" if v.dtype == types.float32 else "pd") + ".512"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t, t, mask]), name)
        return builder.call(function, [args[0], args[0], ir.Constant(mask, -1)])

    return v(v), codegen


@linked
def _newton(x, r):
    return fma(r, fma(-x, r, 1.0), r)


def reciprocal(x):
    """1 / x of a finite, normal x, within an ulp."""
    return 1.0 / x


@overload(reciprocal)
def _reciprocal(x):
    if not isinstance(x, Vector) or x.lanes * BYTES[x.dtype] != 64:
        return lambda x: 1.0 / x
    # 64-byte vectors exist on AVX-512 only; its divider takes 16 cycles and more, the estimate two
    if x.dtype == types.float32:
        return lambda x: _newton(x, _estimate(x))
    return lambda x: _newton(x, _newton(x, _estimate(x)))
