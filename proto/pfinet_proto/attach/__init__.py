"""The handshake of the `attach` socket: who is there, and what the vif is.

One SEQPACKET datagram is one message: a header of magic, type and a reserved
field, then fields of tag, length and value.  A reader skips a tag that it
does not know; a tag that it knows must have the right length and appear at
most once, unless it is a list.  Of a type that it does not know it reads the
header alone.  SPEC.md, section 3, has the byte tables.

The client speaks first (`Hello`).  The daemon answers `Welcome`, with the data
descriptors beside it, or `Refused`.  Only where data run over the client's own
tap it speaks again, and hands that over (`Tap`).  The socket then stays open: a
changed binding arrives as `Update`, the end as `Goodbye`, and closing it
detaches.  `attach.machine` is this order as a table.
"""

from .codec import MAGIC, MAX_MESSAGE_BYTES, decode_untrusted, encode
from .fields import Tag
from .messages import (
    COOKIE_LEN,
    DATA_FDS,
    MAX_ADDRESSES,
    MAX_CLIENT_BYTES,
    MAX_DNS,
    MAX_GATEWAYS,
    MAX_MTU,
    MAX_NETWORK_BYTES,
    MAX_PREFIXES,
    MAX_SEARCH,
    MAX_TEXT_BYTES,
    MAX_TRANSPORTS,
    MIN_MTU,
    NO_OFFLOAD,
    TAP_FDS,
    VERSION,
    Binding,
    Goodbye,
    GoodbyeCode,
    Hello,
    Message,
    Offload,
    Refused,
    RefusedCode,
    Tap,
    Transport,
    Unrecognized,
    Update,
    Welcome,
)

__all__ = [
    "COOKIE_LEN",
    "DATA_FDS",
    "MAGIC",
    "MAX_ADDRESSES",
    "MAX_CLIENT_BYTES",
    "MAX_DNS",
    "MAX_GATEWAYS",
    "MAX_MESSAGE_BYTES",
    "MAX_MTU",
    "MAX_NETWORK_BYTES",
    "MAX_PREFIXES",
    "MAX_SEARCH",
    "MAX_TEXT_BYTES",
    "MAX_TRANSPORTS",
    "MIN_MTU",
    "NO_OFFLOAD",
    "TAP_FDS",
    "VERSION",
    "Binding",
    "Goodbye",
    "GoodbyeCode",
    "Hello",
    "Message",
    "Offload",
    "Refused",
    "RefusedCode",
    "Tag",
    "Tap",
    "Transport",
    "Unrecognized",
    "Update",
    "Welcome",
    "decode_untrusted",
    "encode",
]
