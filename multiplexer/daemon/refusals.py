"""Refusals: what a client is told that does not get what it asks for, and what is noted.

A vif that the caller may not see does not exist for it, and only the log says
that it does.
"""

from typing import Final

from multiplexer.daemon import authorize
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.host import Client
from multiplexer.model import Config
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import VifName

#: Why somebody is told that a vif does not exist, though it does.
NOT_SEEN: Final = "the vif is another user's"


def not_found(what: str, name: object) -> ControlError:
    """Return the error that says that there is no such network, uplink or vif."""
    return ControlError(ErrorCode.NOT_FOUND, f'there is no {what} "{name}"')


def note_refused(
    log: ClientLog, client: Client, operation: str, why: object, name: VifName | None = None
) -> None:
    """Note that *client* was refused *operation*, on the vif *name* if it is about one."""
    log.audit("refused", client.peer, request=operation, name=name, why=why)


def check_administrator(
    config: Config, log: ClientLog, client: Client, operation: str, name: VifName | None = None
) -> None:
    """Raise ControlError, and note it, if *operation* is not for *client*."""
    if not authorize.may_administer(config, client.caller):
        why = f"uid {client.peer.uid} is no administrator (root, or of daemon.admins)"
        note_refused(log, client, operation, why, name)
        raise ControlError(ErrorCode.FORBIDDEN, why)
