"""What was seen of the addresses of vifs, as C tells of it."""

import attrs
from multiplexer.datapath._dp import ffi

#: What a sighting says, by its number in C.
SIGHTINGS: tuple[str, ...] = ("source", "lease", "release")


@attrs.frozen
class Sighted:
    """What was seen of an address of the vif at *port*; *kind* is one of SIGHTINGS.

    A gate by itself has port 0.  Addresses are four bytes.  Of a lease there are the
    *server* and its time in seconds, 0xffffffff for ever; else they are zero.
    """

    port: int
    kind: str
    address: bytes
    server: bytes
    lease_s: int


def read_sighting(port: int, what: "ffi.CData") -> Sighted:
    """Return what a ``struct dp_sighting`` of *port* says."""
    kind = SIGHTINGS[what.kind]
    return Sighted(port, kind, bytes(what.addr), bytes(what.server), what.lease_s)
