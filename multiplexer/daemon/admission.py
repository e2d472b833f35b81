"""What the broker grants to control: every request is checked against the file.

Control talks to clients, so it may be broken into.  The file is root's alone:
whatever control says, no uid gets a socket that the file does not allow, and no
interface hears for more than the vifs of a host can need, and the host's routes
lead to what vifs can have in the networks that the file puts it in.
"""

import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_network
from types import MappingProxyType
from typing import Final

from multiplexer.binding import Claim, place_faults
from multiplexer.daemon import channel
from multiplexer.daemon.rundir import KINDS
from multiplexer.model import MAX_BOUND, MAX_VIFS, Config, Network, UplinkKind
from pfinet_proto.attach import COOKIE_LEN
from pfinet_proto.values import IPNetwork, MacAddress

#: The most addresses that an interface hears for; above it, hash-filtering NICs gain nothing.
MAX_MEMBERS: Final = 4096

#: The most routes of the host into a network: to all that its vifs can be bound to.
MAX_ROUTES: Final = MAX_VIFS * sum(MAX_BOUND.values())

_HANDSHAKE: Final = (socket.AF_UNIX, socket.SOCK_SEQPACKET)

#: The sockets that are kept of an attachment beside a ring's, by the way in and transport.
KEPT_SOCKETS: Final[Mapping[tuple[str, str], tuple[tuple[int, int], ...]]] = MappingProxyType(
    {
        ("attach", "stream"): (_HANDSHAKE,),
        ("attach", "ring"): (_HANDSHAKE,),
        ("attach", "tap"): (_HANDSHAKE,),
        ("stream", "stream"): (),
        ("bess", "bess"): (),
    }
)

#: Of a socket's type, what is not a flag.
_TYPE: Final = 0xF

_VIF_ID: Final = re.compile(r"[0-9a-f]{32}")


class Refused(Exception):
    """Control asked for what the configuration does not allow."""


class Admission:
    """The rules that one configuration makes."""

    def __init__(self, config: Config, find_name: Callable[[int], str | None]) -> None:
        """Take the file, and what finds the user name of a uid, None if it has none."""
        self._owner_uids = config.daemon.owner_uids
        self._static_owners = {vif.owner for vif in config.vifs}
        self._find_name = find_name
        self._host_networks = {net.name: net for net in config.networks if net.host}
        self._nics = {up.name for up in config.uplinks if up.kind is UplinkKind.NIC}

    def check_open(self, request: channel.OpenVifSockets, open_ids: Collection[str]) -> None:
        """Raise `Refused` unless these sockets may be made beside those of *open_ids*."""
        self.check_id(request.vif_id)
        if request.vif_id not in open_ids and len(open_ids) >= MAX_VIFS:
            raise Refused(f"{len(open_ids)} vifs have sockets, which is all there can be")
        if not request.kinds or len(set(request.kinds)) != len(request.kinds):
            raise Refused(f"kinds are {request.kinds!r}, not each of some once")
        for kind in request.kinds:
            if kind not in KINDS:
                raise Refused(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
        if not self._may_own(request.uid):
            raise Refused(
                f"uid {request.uid} is not in daemon.owner_uids and owns no vif of the file"
            )

    def _may_own(self, uid: int) -> bool:
        return (
            any(uid in uids for uids in self._owner_uids)
            or str(uid) in self._static_owners
            or self._find_name(uid) in self._static_owners
        )

    def check_id(self, vif_id: str) -> None:
        """Raise `Refused` unless *vif_id*, which becomes a directory's name, is 32 digits."""
        if not _VIF_ID.fullmatch(vif_id):
            raise Refused(f"vif id is {vif_id!r}, not 32 lower-case hexadecimal digits")

    def check_keep(
        self,
        kept: channel.Kept,
        sockets: Sequence[socket.socket],
        owner: int | None,
        kept_ids: Collection[str],
    ) -> None:
        """Raise `Refused` unless an attachment may be kept beside those of *kept_ids*.

        *owner* is whose the vif's sockets are, None if it has none.
        """
        self.check_id(kept.vif_id)
        if owner is None:
            raise Refused(f"vif {kept.vif_id} has no sockets to attach by")
        session = kept.session
        if session.uid != owner:
            raise Refused(f"vif {kept.vif_id} is uid {owner}'s, not uid {session.uid}'s")
        if kept.vif_id in kept_ids:
            raise Refused(f"vif {kept.vif_id} has an attachment already")
        wanted = KEPT_SOCKETS.get((session.way, session.transport))
        if wanted is None:
            raise Refused(f"nobody attaches by {session.way!r} with {session.transport!r}")
        found = tuple((sock.family, sock.type & _TYPE) for sock in sockets)
        if found != wanted:
            raise Refused(f"{len(found)} descriptors are not those of an attachment")
        if session.cookie is not None and len(session.cookie) != COOKIE_LEN:
            raise Refused(f"cookie is {len(session.cookie)} bytes, not {COOKIE_LEN}")

    def check_members(self, request: channel.SetMemberships) -> None:
        """Raise `Refused` unless the uplink is a NIC of the file, and each MAC is a station's."""
        if request.uplink not in self._nics:
            raise Refused(f"uplink is {request.uplink!r}, not a nic of the file")
        if len(request.macs) > MAX_MEMBERS:
            raise Refused(f"{len(request.macs)} MACs, not at most {MAX_MEMBERS}")
        for mac in request.macs:
            if mac.is_group or mac == MacAddress(bytes(6)):
                raise Refused(f"{mac} is not the MAC of a station")

    def check_routes(
        self, request: channel.ChangeHostRoutes, known: Collection[IPNetwork]
    ) -> tuple[list[IPNetwork], list[IPNetwork]]:
        """Return the prefixes to reach, beside those *known*, and those to reach no more.

        What was once in a network may be dropped when the file says otherwise.

        Raises:
            Refused: if one to reach can be no vif's of that network, or they are more than
                vifs can have, or the host is not in it.
        """
        network = self._host_networks.get(request.network)
        if network is None:
            if not request.add:
                return [], []
            raise Refused(f"the host is not in network {request.network!r}")
        add = [_prefix_in(network, text) for text in request.add]
        drop = [_prefix(text) for text in request.drop]
        more = set(add).difference(known)
        if more and len(known) + len(more) > MAX_ROUTES:
            raise Refused(
                f'{len(more)} more routes to the {len(known)} in network "{network.name}", '
                f"not at most {MAX_ROUTES} in all"
            )
        return add, drop


def _prefix(text: str) -> IPNetwork:
    try:
        return ip_network(text)
    except ValueError as error:
        raise Refused(f"route to {text!r}: {error}") from None


def _prefix_in(network: Network, text: str) -> IPNetwork:
    """Return the prefix that *text* says, if a vif of *network* can be bound to it.

    One that is an address of the host as well may be a vif's: `HostWatch` tells of it,
    and the kernel looks for its own addresses first.
    """
    prefix = _prefix(text)
    if not network.covers(prefix):
        raise Refused(f'route to {prefix}, which is outside network "{network.name}"')
    for fault in place_faults(network, Claim(prefix, "prefixes")):
        raise Refused(f"route: {fault.message}")
    return prefix
