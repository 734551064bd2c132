"""Inline PTX as device functions.

`inline` turns an instruction, LLVM's constraint string and the types into a function that kernels call; several results
come back as a tuple. Addresses are integers: `address` gives the 64-bit one of an element behind a pointer,
`shared_address` the 32-bit one of an element of a shared array, which is what ``cp.async``, ``mapa`` and ``mbarrier``
want.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing import signature

f32, u32, u64 = types.float32, types.uint32, types.uint64
LLVM = {f32: ir.FloatType(), u32: ir.IntType(32), u64: ir.IntType(64)}


def inline(
    asm: str, constraints: str, results: Sequence[Any] = (), arguments: Sequence[Any] = (), pure: bool = False
) -> Callable:
    """Return a device function around one PTX statement; a `pure` one may be moved, merged and left out."""
    llvm_arguments = [LLVM[t] for t in arguments]
    if len(results) > 1:
        result, llvm_result = types.UniTuple(results[0], len(results)), ir.LiteralStructType([LLVM[t] for t in results])
    elif results:
        result, llvm_result = results[0], LLVM[results[0]]
    else:
        result, llvm_result = types.void, ir.VoidType()

    def codegen(context, builder, sig, values):
        function = ir.FunctionType(llvm_result, llvm_arguments)
        found = builder.call(ir.InlineAsm(function, asm, constraints, side_effect=not pure), values)
        if not results:
            return context.get_dummy_value()
        if len(results) == 1:
            return found
        return cgutils.pack_array(builder, [builder.extract_value(found, i) for i in range(len(results))])

    # an intrinsic has to spell out its parameters, so one is made for each count
    names = ", ".join(["typingctx", *(f"a{i}" for i in range(len(arguments)))])
    scope = {"found": signature(result, *arguments), "codegen": codegen}
    exec(f"def typing({names}):\n    return found, codegen\n", scope)
    return intrinsic(scope["typing"])


@intrinsic
def address(typingctx, pointer, index):
    """Return the 64-bit address of an element behind a pointer."""

    def codegen(context, builder, sig, values):
        return builder.ptrtoint(builder.gep(values[0], [values[1]]), ir.IntType(64))

    return signature(u64, pointer, types.int64), codegen


@intrinsic
def shared_address(typingctx, array, index):
    """Return the 32-bit address of an element of a shared array."""

    def codegen(context, builder, sig, values):
        data = context.make_array(sig.args[0])(context, builder, values[0]).data
        generic = builder.ptrtoint(builder.gep(data, [values[1]]), ir.IntType(64))
        function = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        asm = "{ .reg .u64 t; cvta.to.shared.u64 t, $1; cvt.u32.u64 $0, t; }"
        return builder.call(ir.InlineAsm(function, asm, "=r,l"), [generic])

    return signature(u32, array, types.intp), codegen


# ---- arithmetic

ex2_approx = inline("ex2.approx.ftz.f32 $0, $1;", "=f,f", [f32], [f32], pure=True)
rcp_approx = inline("rcp.approx.ftz.f32 $0, $1;", "=f,f", [f32], [f32], pure=True)
float_bits = inline("mov.b32 $0, $1;", "=r,f", [u32], [f32], pure=True)
cvt_tf32 = inline("cvt.rna.tf32.f32 $0, $1;", "=r,f", [u32], [f32], pure=True)
cvt_bf16x2 = inline("cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", [u32], [f32, f32], pure=True)  # first: the upper half

# ---- tensor cores: D (16, 8) = A (16, k) B (k, 8) + C, fragments of a warp

MMA = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
MMA_CONSTRAINTS = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
mma_tf32 = inline(
    f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {MMA}",
    MMA_CONSTRAINTS, [f32] * 4, [u32] * 6 + [f32] * 4, pure=True,
)  # fmt: skip
mma_bf16 = inline(
    f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {MMA}",
    MMA_CONSTRAINTS, [f32] * 4, [u32] * 6 + [f32] * 4, pure=True,
)  # fmt: skip

# ---- memory: 16 bytes at a time, and copies into shared memory that run on their own

ld_v4 = inline("ld.global.v4.f32 {$0,$1,$2,$3}, [$4];", "=f,=f,=f,=f,l,~{memory}", [f32] * 4, [u64])
lds_v4 = inline("ld.shared.v4.f32 {$0,$1,$2,$3}, [$4];", "=f,=f,=f,=f,r,~{memory}", [f32] * 4, [u32])
sts_v4 = inline("st.shared.v4.f32 [$0], {$1,$2,$3,$4};", "r,f,f,f,f,~{memory}", [], [u32] + [f32] * 4)
lds_v4u = inline("ld.shared.v4.u32 {$0,$1,$2,$3}, [$4];", "=r,=r,=r,=r,r,~{memory}", [u32] * 4, [u32])
# the last argument is how many bytes to read; the rest of the 16, or 4, becomes zero
cp_async16 = inline("cp.async.cg.shared.global [$0], [$1], 16, $2;", "r,l,r,~{memory}", [], [u32, u64, u32])
cp_async4 = inline("cp.async.ca.shared.global [$0], [$1], 4, $2;", "r,l,r,~{memory}", [], [u32, u64, u32])
cp_async_commit = inline("cp.async.commit_group;", "~{memory}")
cp_async_wait0 = inline("cp.async.wait_group 0;", "~{memory}")
cp_async_wait2 = inline("cp.async.wait_group 2;", "~{memory}")  # for all but the two newest groups
ld_nc_v4 = inline("ld.global.nc.v4.f32 {$0,$1,$2,$3}, [$4];", "=f,=f,=f,=f,l", [f32] * 4, [u64])

# ---- words that carry a value and the step it belongs to: one 8-byte store, so the reader needs no other flag
# (a .v2.b32 store would be two accesses to PTX's memory model)

st_tagged = inline(
    "{ .reg .b64 t; mov.b64 t, {$1,$2}; st.relaxed.gpu.global.b64 [$0], t; }", "l,f,r,~{memory}", [], [u64, f32, u32]
)
ld_tagged = inline("ld.relaxed.gpu.global.b64 $0, [$1];", "=l,l,~{memory}", [u64], [u64])
ld_tagged2 = inline("ld.relaxed.gpu.global.v2.b64 {$0,$1}, [$2];", "=l,=l,l,~{memory}", [u64] * 2, [u64])
tag_value = inline("{ .reg .b32 hi; mov.b64 {$0, hi}, $1; }", "=f,l", [f32], [u64], pure=True)
tag_step = inline("{ .reg .b32 lo; mov.b64 {lo, $0}, $1; }", "=r,l", [u32], [u64], pure=True)
st_v4 = inline("st.global.v4.f32 [$0], {$1,$2,$3,$4};", "l,f,f,f,f,~{memory}", [], [u64] + [f32] * 4)
ld_nc_v4u = inline("ld.global.nc.v4.u32 {$0,$1,$2,$3}, [$4];", "=r,=r,=r,=r,l", [u32] * 4, [u64])

# ---- barriers of blocks on the whole GPU: a counter that each block adds to and one thread of each reads

add_release = inline("red.release.gpu.global.add.u32 [$0], $1;", "l,r,~{memory}", [], [u64, u32])
ld_acquire = inline("ld.acquire.gpu.global.u32 $0, [$1];", "=r,l,~{memory}", [u32], [u64])

# ---- clusters: shared memory of other blocks, and stores that count their bytes at the receiver's barrier


def cluster_of(size: int) -> Callable:
    """Return a device function without code that makes the kernel it stands in one of clusters of `size` blocks."""

    @intrinsic
    def annotate(typingctx):
        def codegen(context, builder, sig, values):
            module = builder.module
            notes = cgutils.get_or_insert_named_metadata(module, "nvvm.annotations")
            for axis, count in (("x", size), ("y", 1), ("z", 1)):
                name = ir.MetaDataString(module, f"cluster_dim_{axis}")
                notes.add(module.add_metadata((builder.function, name, ir.Constant(ir.IntType(32), count))))
            return context.get_dummy_value()

        return signature(types.void), codegen

    return annotate


cluster_rank = inline("mov.u32 $0, %cluster_ctarank;", "=r", [u32], pure=True)
cluster_arrive = inline("barrier.cluster.arrive.release.aligned;", "~{memory}")
cluster_wait = inline("barrier.cluster.wait.acquire.aligned;", "~{memory}")
mapa = inline("mapa.shared::cluster.u32 $0, $1, $2;", "=r,r,r", [u32], [u32, u32], pure=True)
st_async = inline(
    "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [$0], $1, [$2];", "r,r,r,~{memory}", [], [u32, u32, u32]
)
mbar_init = inline("mbarrier.init.shared::cta.b64 [$0], $1;", "r,r,~{memory}", [], [u32, u32])
mbar_expect = inline("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r,~{memory}", [], [u32, u32])
mbar_try_wait = inline(
    "{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [$1], $2; selp.u32 $0, 1, 0, p; }",
    "=r,r,r,~{memory}", [u32], [u32, u32],
)  # fmt: skip
