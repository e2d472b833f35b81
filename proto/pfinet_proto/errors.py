"""Whose fault it is when two programs do not understand each other."""


class BadMessage(Exception):
    """The peer sent bytes that are no message of this protocol."""


class RemoteProtocolError(Exception):
    """The peer sent a message that is well-formed, but not allowed now."""


class LocalProtocolError(Exception):
    """The caller wants to send a message that is not allowed now."""
