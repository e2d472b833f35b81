"""What attaching and making a stack may fail with, and how that is told to the person."""

import errno

from pfinet_client.attachment import VifRefused
from pfinet_client.errors import StackError
from pfinet_proto.control import ControlError
from pfinet_proto.errors import BadMessage, RemoteProtocolError

EXPECTED = (
    StackError,
    ControlError,
    VifRefused,
    ValueError,
    BadMessage,
    RemoteProtocolError,
    OSError,
)


def explain(error: Exception) -> str:
    """Return what *error*, one of EXPECTED, says: what was found, and what was wanted."""
    if isinstance(error, BadMessage | RemoteProtocolError):
        return f"the daemon broke the protocol: {error}"
    if not isinstance(error, OSError) or isinstance(error, TimeoutError):
        return str(error)
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED) and error.filename:
        return f"{error.filename}: no daemon listens there: is multiplexerd running?"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
