"""The kernels of the CPU.

From the bottom up: product, panel, amx, narrow, left, gates, barrier, job, forward and dense.
"""
