"""Become the command that a user named, the way env(1) and sh(1) do."""

import os
import sys
from collections.abc import Sequence

from attrs import frozen

from pfinet_proto.attach import Binding

#: env(1): the command was found but cannot be run; it was not found.
CANNOT_RUN = 126
NOT_FOUND = 127


def default_command() -> tuple[str, ...]:
    """Return the user's shell, as it is run when no command is given."""
    return (os.environ.get("SHELL") or "/bin/sh",)


@frozen
class Command:
    """The task of a stack (`kernel_stack.Task`) that is a command, looked up in PATH."""

    words: Sequence[str]

    def inside(self, binding: Binding) -> int:
        """Become the command; return only if that fails, with the status to exit with."""
        return become(self.words, str(binding.vif))

    def outside(self) -> None:
        """Nothing was made for it."""

    def tell(self, binding: Binding) -> None:
        """It sees for itself what its stack is."""


def become(command: Sequence[str], vif: str) -> int:
    """Replace this process by *command*, looked up in PATH, with PFINET_VIF set to *vif*.

    Returns only if that fails, after saying why: the status to exit with.
    """
    try:
        os.execvpe(command[0], list(command), os.environ | {"PFINET_VIF": vif})
    except (FileNotFoundError, ValueError):  # ValueError: an empty name, or one with a NUL
        say(f"{command[0]}: not found")
        return NOT_FOUND
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return CANNOT_RUN


def say(text: str) -> None:
    """Tell the user *text*, also where a command has put the terminal into raw mode."""
    end = "\r\n" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"pfinet: {text}{end}")
    sys.stderr.flush()
