"""Loads and stores of a kernel: whole vectors, the first lanes of one, single elements and integers, at addresses."""

from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.linked import linked
from numbalstm.kernels.simd import BYTES, FLOAT, I32, I64, SUFFIX, broadcast, vector_type


def first_lanes(builder, count, lanes):
    """A mask of the first `count` lanes."""
    undefined = ir.Constant(ir.VectorType(I64, lanes), ir.Undefined)
    one = builder.insert_element(undefined, count, I32(0))
    limit = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))
    return builder.icmp_signed("<", ir.Constant(ir.VectorType(I64, lanes), list(range(lanes))), limit)


def pointer(builder, address, llvm_type):
    """An integer address as a typed pointer."""
    return builder.inttoptr(address, llvm_type.as_pointer())


def load_vector(builder, address, v):
    """Unaligned load of a whole vector."""
    got = builder.load(pointer(builder, address, vector_type(v)))
    got.align = BYTES[v.dtype]
    return got


def store_vector(builder, value, address, v):
    """Unaligned store of a whole vector."""
    builder.store(value, pointer(builder, address, vector_type(v))).align = BYTES[v.dtype]


def prefetch(builder, address):
    """Fetch a cache line into the second-level cache; any address is allowed."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer(builder, address, ir.IntType(8)), I32(0), I32(2), I32(1)])


@intrinsic
def load(typingctx, tile, address):
    """`tile.lanes` elements from an address."""
    v = tile.vector
    return v(tile, types.intp), lambda context, builder, sig, args: load_vector(builder, args[1], v)


@intrinsic
def store(typingctx, tile, address, value):
    """`tile.lanes` elements to an address."""

    def codegen(context, builder, sig, args):
        store_vector(builder, args[2], args[1], tile.vector)
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.vector), codegen


@intrinsic
def store_first(typingctx, tile, address, value, count):
    """The first `count` lanes to an address; the memory behind them is not touched."""

    def codegen(context, builder, sig, args):
        v, t = tile.vector, vector_type(tile.vector)
        wanted = first_lanes(builder, args[3], v.lanes)
        kind = ir.FunctionType(ir.VoidType(), [t, t.as_pointer(), I32, wanted.type])
        name = f"llvm.masked.store.v{v.lanes}{SUFFIX[v.dtype]}.p0"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [args[2], pointer(builder, args[1], t), I32(BYTES[v.dtype]), wanted])
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.vector, types.intp), codegen


@intrinsic
def load_first(typingctx, tile, address, count):
    """The first `count` lanes from an address, zeros behind them; no other memory is read."""

    def codegen(context, builder, sig, args):
        v, t = tile.vector, vector_type(tile.vector)
        wanted = first_lanes(builder, args[2], v.lanes)
        kind = ir.FunctionType(t, [t.as_pointer(), I32, wanted.type, t])
        name = f"llvm.masked.load.v{v.lanes}{SUFFIX[v.dtype]}.p0"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        nothing = ir.Constant(t, [0.0] * v.lanes)
        return builder.call(function, [pointer(builder, args[1], t), I32(BYTES[v.dtype]), wanted, nothing])

    return tile.vector(tile, types.intp, types.intp), codegen


@intrinsic
def _select_first(typingctx, tile, value, count):
    def codegen(context, builder, sig, args):
        nothing = ir.Constant(args[1].type, [0.0] * tile.lanes)
        return builder.select(first_lanes(builder, args[2], tile.lanes), args[1], nothing)

    return tile.vector(tile, tile.vector, types.intp), codegen


@linked
def keep_first(tile, value, count):
    """A vector's first `count` lanes, as far as it has them; zeros behind them."""
    if count >= lane_count(tile):
        return value
    return _select_first(tile, value, count)


@linked
def load_some(tile, address, count):
    """A vector of which `count` lanes are there; zeros behind them."""
    if count >= lane_count(tile):
        return load(tile, address)
    return load_first(tile, address, count)


@linked
def store_some(tile, address, value, count):
    """Those of a vector's first `count` lanes that it has; no other memory is touched."""
    if count >= lane_count(tile):
        store(tile, address, value)
    else:
        store_first(tile, address, value, count)


@intrinsic
def splat(typingctx, tile, scalar):
    """A scalar, cast to the element type, in every lane."""

    def codegen(context, builder, sig, args):
        return broadcast(builder, context.cast(builder, args[1], scalar, tile.dtype), tile.vector)

    return tile.vector(tile, scalar), codegen


@intrinsic
def zero(typingctx, tile):
    """0 as an element."""
    return tile.dtype(tile), lambda context, builder, sig, args: context.get_constant(tile.dtype, 0.0)


@intrinsic
def load_scalar(typingctx, tile, address):
    """One element from an address."""
    return tile.dtype(tile, types.intp), lambda context, builder, sig, args: builder.load(
        pointer(builder, args[1], FLOAT[tile.dtype])
    )


@intrinsic
def store_scalar(typingctx, tile, address, value):
    """One element to an address."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], pointer(builder, args[1], FLOAT[tile.dtype]))
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.dtype), codegen


@intrinsic
def load_integer(typingctx, address):
    """One int64 from an address."""
    return types.int64(types.intp), lambda context, builder, sig, args: builder.load(pointer(builder, args[0], I64))


@intrinsic
def store_integer(typingctx, address, value):
    """One int64 to an address."""

    def codegen(context, builder, sig, args):
        builder.store(args[1], pointer(builder, args[0], I64))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def load_byte(typingctx, address):
    """One byte from an address, as an int64."""
    return types.int64(types.intp), lambda context, builder, sig, args: builder.zext(
        builder.load(pointer(builder, args[0], ir.IntType(8))), I64
    )


def record_at(dtype):
    """A function that gives the record of a structured type at an address."""
    record = from_dtype(dtype)

    @intrinsic
    def at(typingctx, address):
        return record(types.intp), lambda context, builder, sig, args: builder.inttoptr(
            args[0], context.get_value_type(record)
        )

    return at


@intrinsic
def item_size(typingctx, tile):
    """Bytes of one element."""
    size = BYTES[tile.dtype]
    return types.intp(tile), lambda context, builder, sig, args: context.get_constant(types.intp, size)


@intrinsic
def lane_count(typingctx, tile):
    """Lanes of a vector."""
    lanes = tile.lanes
    return types.intp(tile), lambda context, builder, sig, args: context.get_constant(types.intp, lanes)
