"""Host side of the computation: `interface` says what a backend is, `reference` is the equations in NumPy."""
