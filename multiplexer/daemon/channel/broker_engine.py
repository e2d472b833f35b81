"""What the broker says to the engine; its answers are those that control gets too."""

import attrs


@attrs.frozen
class SetUplink:
    """The state of an uplink's port.

    A packet socket rides along when it is new, and replaces the old one;
    with *present* false the engine closes what it has.
    """

    request: int
    port: int
    present: bool
    up: bool


@attrs.frozen
class ClearUplink:
    """Forget an uplink's port, its packet socket and its counters."""

    request: int
    port: int


@attrs.frozen
class NewControl:
    """A control process is at the other end of the socket that rides along.

    The channel with its predecessor is closed, with what was not read of it.
    """

    request: int


@attrs.frozen
class SetHost:
    """Write the vif row of *port*, which is the host's own.

    A tap rides along when it is new, and replaces the old one; with *present*
    false the engine closes what it has.
    """

    request: int
    port: int
    row: bytes
    present: bool
