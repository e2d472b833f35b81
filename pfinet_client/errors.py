"""What the programs of this package may fail with, beside OSError."""


class StackError(Exception):
    """This system, or the state of a vif, does not allow what was asked for.

    Its text is for the user: what was found, what was wanted, who can change it.
    """
