"""The mode in which subnormal numbers are zero, on processors that this machine is not."""

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from numbalstm.kernels.cpu.subnormals import FLUSH, emit_read, emit_write
from numbalstm.kernels.simd import I64

INSTRUCTIONS = {"x86_64": ("stmxcsr", "ldmxcsr"), "aarch64": ("mrs\t", "msr\tFPCR, ")}


@pytest.mark.parametrize("family", FLUSH)
def test_the_mode_is_read_and_written(family):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(f"{family}-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this LLVM has no such target")
    module = ir.Module()
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(I64, []), "flush")
    builder = ir.IRBuilder(function.append_basic_block())
    before = emit_read(builder, family)
    emit_write(builder, family, builder.or_(before, I64(FLUSH[family])))
    builder.ret(before)
    assembly = target.create_target_machine().emit_assembly(llvm.parse_assembly(str(module)))
    read, write = INSTRUCTIONS[family]
    assert read in assembly
    assert assembly.index(read) < assembly.index(write)
