"""CUDA kernels as plain Python functions, made by factories that bind sizes and options as constants.

Nothing here needs a GPU: a factory returns a `kernel.Kernel`, which `numbalstm.backends.cuda` compiles and launches,
and which the tests run thread by thread in a simulator. Kernels take raw pointers and scalars only.
"""
