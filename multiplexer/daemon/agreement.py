"""What daemon and client agree on in the handshake: a version, a transport, offloads.

Nothing here waits or knows who the client is.
"""

from typing import Final

from pfinet_proto.attach import (
    NO_OFFLOAD,
    VERSION,
    Hello,
    Offload,
    RefusedCode,
    Transport,
)

#: What the engine can do for the frames of an attachment.
OFFLOADS: Final = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN | Offload.USO


class Refusal(Exception):
    """This client does not get the vif; the text is for the person."""

    def __init__(self, code: RefusedCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def choose_transport(hello: Hello, *, lends_tap: bool) -> Transport:
    """Return how the data travel: over the client's tap if it may lend it (*lends_tap*).

    Raises:
        Refusal: if it knows no transport of ours.
    """
    if lends_tap and Transport.TAP in hello.transports:
        return Transport.TAP
    for transport in hello.transports:
        if transport is not Transport.TAP:
            return transport
    raise Refusal(RefusedCode.NO_TRANSPORT, "stream and ring are spoken here")


def agree_on_offload(hello: Hello) -> Offload:
    """Return the offloads of the attachment.

    Raises:
        Refusal: if the client speaks another version.
    """
    if not hello.version_min <= VERSION <= hello.version_max:
        raise Refusal(
            RefusedCode.VERSION,
            f"version {VERSION} is spoken here, not {hello.version_min} to {hello.version_max}",
        )
    offload = hello.offload & OFFLOADS
    # A segment's checksum is computed by whoever cuts it (virtio 1.2, 5.1.3.1).
    return offload if Offload.CSUM in offload else NO_OFFLOAD
