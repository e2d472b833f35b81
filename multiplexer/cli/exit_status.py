"""What the exit status says, as multiplexerctl(8) has it; misuse is argparse's word too."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
UNREACHABLE: Final = 3
FORBIDDEN: Final = 4
INTERRUPTED: Final = 130  # sh(1): by SIGINT
