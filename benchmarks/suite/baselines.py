"""Other libraries on the same sizes, to see a change of the machine; skipped where they are not installed.

For a comparison use ../compare: there the libraries take turns.
"""

import numpy as np
from cases import Case, Problem, reference
from contenders import CONTENDERS

from . import use_threads

CASES = [Case("infer", 1, 100, 32, 128), Case("infer", 64, 100, 64, 256), Case("stream", 1, 1, 64, 128)]


class Library:
    """One call of a library in float32, in its own layout."""

    timeout = 120
    param_names = ("case", "library", "threads")
    params = (
        [case.name for case in CASES],
        [name for name, contender in CONTENDERS.items() if not contender.loose and "infer" in contender.modes],
        [1, 2],
    )

    def setup(self, name, library, threads):
        use_threads(threads)
        case = next(case for case in CASES if case.name == name)
        contender = CONTENDERS[library]
        if case.mode not in contender.modes:
            raise NotImplementedError(f"{library} has no {case.mode}")
        try:
            self.call, result = contender.build(case, Problem(case), threads)
        except ImportError as error:
            raise NotImplementedError(f"{library} is not installed") from error
        self.call()
        np.testing.assert_allclose(result(), reference(case), atol=1e-4)

    def time_call(self, name, library, threads):
        self.call()
