"""`python -m numbalstm`: the same as the command `numbalstm`."""

import sys

from numbalstm.cli import main

if __name__ == "__main__":
    sys.exit(main())
