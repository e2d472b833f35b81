"""`multiplexerctl`: the daemon's administration from a command line."""

from multiplexer.cli.multiplexerctl import main

__all__ = ["main"]
