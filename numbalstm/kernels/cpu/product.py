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


class Bfloat16(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, Bfloat16)

    def __hash__(self):
        return hash(Bfloat16)


class Float:
    """Weights of the element type."""

    scaled = False
    depth = 1  # k of one step
    whole = 1  # steps to which the weights of a tile are filled up with zeros
    few = None  # rows from which on AMX units multiply; None: never

    def __init__(self, tile):
        self.v = tile.vector
        self.item = BYTES[tile.dtype]
        self.size = self.v.lanes * self.item  # of a vector of sums
        self.weight_size = self.size  # of a packed weight vector
        self.left_item = self.item

    def start(self, builder, z, columns, gate):
        """The sum before the first product."""
        return load_vector(builder, z, self.v)

    def nothing(self):
        """A sum of no products."""
        return ir.Constant(vector_type(self.v), [0.0] * self.v.lanes)

    def left(self, builder, address):
        """The left operand of one step, in every lane."""
        return broadcast(builder, builder.load(pointer(builder, address, FLOAT[self.v.dtype])), self.v)

    def weight(self, builder, address):
        """One packed weight vector."""
        return load_vector(builder, address, self.v)

    def add(self, builder, left, weight, total):
        """The sum with one more product."""
        return emit_fma(builder, left, weight, total, self.v)

    def total(self, builder, address):
        """A sum that was put aside."""
        return load_vector(builder, address, self.v)

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
        return self.nothing()

    def weight(self, builder, address):
        got = builder.load(pointer(builder, address, ir.VectorType(ir.IntType(8), self.v.lanes)))
        got.align = 1
        return builder.sitofp(got, vector_type(self.v))

    def finish(self, builder, total, z, columns, gate, row_scale):
        scale = load_vector(builder, builder.add(columns, I64(gate * self.size)), self.v)
        store_vector(builder, emit_fma(builder, total, scale, load_vector(builder, z, self.v), self.v), z, self.v)


class Dot(Float):
    """Weights and rows of fewer bits, `depth` products a lane at once: so many k lie beside each other in 4 bytes."""

    instruction = ""  # of AVX-512

    def __init__(self, tile):
        super().__init__(tile)
        self.left_item = 4
        self.words = ir.VectorType(I32, self.v.lanes)
        self.operand = self.words

    def _load(self, builder, address, kind):
        got = builder.load(pointer(builder, address, kind))
        got.align = 4
        return got

    def left(self, builder, address):
        word = builder.load(pointer(builder, address, I32))
        undefined = ir.Constant(self.words, ir.Undefined)
        one = builder.insert_element(undefined, word, I32(0))
        spread = builder.shuffle_vector(one, undefined, ir.Constant(self.words, [0] * self.v.lanes))
        return builder.bitcast(spread, self.operand)

    def weight(self, builder, address):
        return builder.bitcast(self._load(builder, address, self.words), self.operand)

    def add(self, builder, left, weight, total):
        kind = ir.FunctionType(total.type, [total.type, self.operand, self.operand])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{self.instruction}.512")
        return builder.call(function, [total, left, weight])


class DotInt8(Dot):
    """int8 weights times rows quantised to eight bits, summed exactly (AVX-512 VNNI)."""

    scaled = True
    depth = 4
    instruction = "avx512.vpdpbusd"

    def start(self, builder, z, columns, gate):
        return self.total(builder, self.start_of(builder, columns, gate))

    def start_of(self, builder, columns, gate):
        """Address of the sums' first values."""
        return builder.add(columns, I64((4 + gate) * self.size))

    def total(self, builder, address):
        return self._load(builder, address, self.words)

    def finish(self, builder, total, z, columns, gate, row_scale):
        scale = load_vector(builder, builder.add(columns, I64(gate * self.size)), self.v)
        row = broadcast(builder, builder.load(pointer(builder, row_scale, FLOAT[types.float32])), self.v)
        value = builder.fmul(builder.sitofp(total, vector_type(self.v)), row)
        store_vector(builder, emit_fma(builder, value, scale, load_vector(builder, z, self.v), self.v), z, self.v)


class AmxInt8(DotInt8):
    """The same sums on AMX units where there are rows enough."""

    whole = 16
    few = 4
    tile_instruction = "tdpbusd"


class DotBfloat16(Dot):
    """bfloat16 weights times rows rounded to bfloat16, summed in float32 (AVX-512 BF16)."""

    depth = 2
    instruction = "avx512bf16.dpbf16ps"

    def __init__(self, tile):
        super().__init__(tile)
        self.operand = ir.VectorType(Bfloat16(), 2 * self.v.lanes)


class AmxBfloat16(DotBfloat16):
    """The same on AMX units, whose order of summing is their own: for any number of rows."""

    whole = 16
    few = 0
    tile_instruction = "tdpbf16ps"

    def start_of(self, builder, columns, gate):
        """None: the sums begin at 0."""

    def finish(self, builder, total, z, columns, gate, row_scale):
        store_vector(builder, builder.fadd(load_vector(builder, z, self.v), total), z, self.v)


PRODUCTS = {
    "native": Float,
    "bfloat16": WideBfloat16,
    "int8": WideInt8,
    "int8 dot": DotInt8,
    "int8 amx": AmxInt8,
    "bfloat16 dot": DotBfloat16,
    "bfloat16 amx": AmxBfloat16,
}


def product_of(tile):
    """The way a tile's blocks multiply."""
    return PRODUCTS[tile.weights](tile)
