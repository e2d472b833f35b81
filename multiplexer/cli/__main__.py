"""`python -m multiplexer.cli` is `multiplexerctl`."""

import sys

from multiplexer.cli.multiplexerctl import main

if __name__ == "__main__":
    sys.exit(main())
