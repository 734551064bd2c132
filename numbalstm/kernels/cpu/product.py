"""How a block multiplies: by weights as they are, by narrower ones widened on the way, or by eight-bit integers.

Each kind has a packed weight vector for a gate, a left operand that is spread over the lanes, a multiply-add, and what
is done to the sums before and after. The columns of scaled kinds are, for a tile, 4 vectors of scales and, for int8
products, 4 vectors of int32 starts: the left operand is unsigned (q + 128), and the start takes off what the 128 add.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from numbalstm.kernels.memory import load_vector, pointer, store_vector
from numbalstm.kernels.simd import BYTES, FLOAT, I32, I64, broadcast, emit_fma, vector_type


class Float:
    """Weights of the element type."""

    scaled = False
    depth = 1  # k of one step

    def __init__(self, tile):
        self.v = tile.vector
        self.item = BYTES[tile.dtype]
        self.size = self.v.lanes * self.item  # of a vector of sums
        self.weight_size = self.size  # of a packed weight vector
        self.left_item = self.item

    def start(self, builder, z, columns, gate):
        """The sum before the first product."""
        return load_vector(builder, z, self.v)

    def left(self, builder, address):
        """The left operand of one step, in every lane."""
        return broadcast(builder, builder.load(pointer(builder, address, FLOAT[self.v.dtype])), self.v)

    def weight(self, builder, address):
        """One packed weight vector."""
        return load_vector(builder, address, self.v)

    def add(self, builder, left, weight, total):
        """The sum with one more product."""
        return emit_fma(builder, left, weight, total, self.v)

    def finish(self, builder, total, z, columns, gate, row_scale):
        """Write the sum to z."""
        store_vector(builder, total, z, self.v)


class WideBfloat16(Float):
    """bfloat16 weights, widened by a shift: half the bytes, the arithmetic of float32."""

    def __init__(self, tile):
        super().__init__(tile)
        self.weight_size = self.v.lanes * 2

    def weight(self, builder, address):
        halves = ir.VectorType(ir.IntType(16), self.v.lanes)
        words = ir.VectorType(I32, self.v.lanes)
        got = builder.load(pointer(builder, address, halves))
        got.align = 2
        high = builder.shl(builder.zext(got, words), ir.Constant(words, [16] * self.v.lanes))
        return builder.bitcast(high, vector_type(self.v))


class WideInt8(Float):
    """int8 weights with a scale a column, widened to float32: a quarter of the bytes."""

    scaled = True

    def __init__(self, tile):
        super().__init__(tile)
        self.weight_size = self.v.lanes

    def start(self, builder, z, columns, gate):
        return ir.Constant(vector_type(self.v), [0.0] * self.v.lanes)

    def weight(self, builder, address):
        got = builder.load(pointer(builder, address, ir.VectorType(ir.IntType(8), self.v.lanes)))
        got.align = 1
        return builder.sitofp(got, vector_type(self.v))

    def finish(self, builder, total, z, columns, gate, row_scale):
        scale = load_vector(builder, builder.add(columns, I64(gate * self.size)), self.v)
        store_vector(builder, emit_fma(builder, total, scale, load_vector(builder, z, self.v), self.v), z, self.v)


class DotInt8(Float):
    """int8 weights times rows quantised to eight bits, four products a lane at once (AVX-512 VNNI), summed exactly."""

    scaled = True
    depth = 4

    def __init__(self, tile):
        super().__init__(tile)
        self.words = ir.VectorType(I32, self.v.lanes)
        self.left_item = 4

    def _words(self, builder, address):
        got = builder.load(pointer(builder, address, self.words))
        got.align = 4
        return got

    def start(self, builder, z, columns, gate):
        return self._words(builder, builder.add(columns, I64((4 + gate) * self.size)))

    def left(self, builder, address):
        word = builder.load(pointer(builder, address, I32))
        undefined = ir.Constant(self.words, ir.Undefined)
        one = builder.insert_element(undefined, word, I32(0))
        return builder.shuffle_vector(one, undefined, ir.Constant(self.words, [0] * self.v.lanes))

    def weight(self, builder, address):
        return self._words(builder, address)

    def add(self, builder, left, weight, total):
        kind = ir.FunctionType(self.words, [self.words] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(function, [total, left, weight])

    def finish(self, builder, total, z, columns, gate, row_scale):
        scale = load_vector(builder, builder.add(columns, I64(gate * self.size)), self.v)
        row = broadcast(builder, builder.load(pointer(builder, row_scale, FLOAT[types.float32])), self.v)
        value = builder.fmul(builder.sitofp(total, vector_type(self.v)), row)
        store_vector(builder, emit_fma(builder, value, scale, load_vector(builder, z, self.v), self.v), z, self.v)


PRODUCTS = {"native": Float, "bfloat16": WideBfloat16, "int8": WideInt8, "int8 dot": DotInt8}


def product_of(tile):
    """The way a tile's blocks multiply."""
    return PRODUCTS[tile.weights](tile)
