"""The GPU backend: requests become launches of the kernels in `numbalstm.kernels.cuda`."""
