"""Compute kernels: arithmetic on addresses, without checks, defaults or strings.

Letters: B batch, T timesteps, F features, U units, k the index a product sums over. x inputs, h outputs, c cell states,
z gate sums before activation, in the gate order i, f, g, o. Steps F1 to F3 are named in `kernels.cpu.forward`.

A *tile* is `lanes` units, one vector register wide, of all four gates; a *row* is one sequence of the batch; a *job* is
what one thread does. Addresses and strides are bytes, as int64; callers keep the arrays alive and have checked them.
"""
