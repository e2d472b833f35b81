"""A vif: whose it is, what it may claim, how far it is trusted, what filters it."""

import enum
import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, VifName

from .filter_binding import FilterBinding
from .limits import OwnLimits
from .network import LinkLocal
from .sizes import MAX_ETHERTYPES, MAX_UID

#: Below it the field of a frame is a length (IEEE 802.3, 3.2.6).
MIN_ETHERTYPE: Final = 0x0600
MAX_ETHERTYPE: Final = 0xFFFF

#: What no vif needs leave to send, or none gets it, each with what it is.
UNGRANTABLE_ETHERTYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x0800: "IPv4, which every vif may send",
        0x0806: "ARP, which every vif may send",
        0x86DD: "IPv6, which every vif may send",
        **dict.fromkeys(
            (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300), "a VLAN tag, which no vif may send"
        ),
    }
)
NO_MAC: Final = bytes(6)
_ID: Final = re.compile(r"[0-9a-f]{32}")


class Role(enum.Enum):
    """What only one that others rely on may send."""

    ROUTER = "router"
    DHCP_SERVER = "dhcp-server"


def _check_ethertypes(_: object, field: object, value: tuple[int, ...]) -> None:
    if len(value) > MAX_ETHERTYPES:
        raise ValueError(f"{len(value)} EtherTypes, wanted at most {MAX_ETHERTYPES}")
    for ethertype in value:
        if not MIN_ETHERTYPE <= ethertype <= MAX_ETHERTYPE:
            raise ValueError(
                f"EtherType is {ethertype:#06x},"
                f" wanted {MIN_ETHERTYPE:#06x} to {MAX_ETHERTYPE:#06x}"
            )


@attrs.frozen
class Trust:
    """What an administrator lets one vif do that others may not.

    *ethertypes* are those that it may send beside IPv4, ARP and IPv6; with
    *trusted_tap* the engine itself reads and writes its client's tap.
    *link_local* None is what its network says.
    """

    roles: frozenset[Role] = frozenset()
    ethertypes: tuple[int, ...] = attrs.field(default=(), validator=_check_ethertypes)
    link_local: LinkLocal | None = None
    trusted_tap: bool = False


@attrs.frozen
class Vif:
    """A virtual interface: whose it is, where, and what it may claim.

    *id* is 32 hexadecimal digits, random, and kept for the vif's whole life.
    *owner_name* is None where the owner was given by number.  The length of
    each of *addresses* is that of its network's prefix.  An *ephemeral* vif goes
    when its client does.  *grant* names the grant by which a user made it.
    *filter* judges its frames beside what it is bound to.
    """

    id: str
    name: VifName
    owner_uid: int
    owner_name: str | None
    network: str
    mac: MacAddress
    addresses: tuple[IPInterface, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    limits: OwnLimits = attrs.field(factory=OwnLimits)
    trust: Trust = attrs.field(factory=Trust)
    static: bool = False
    ephemeral: bool = False
    grant: str | None = None
    filter: FilterBinding | None = None

    def __attrs_post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"vif id is {self.id!r}, wanted 32 hexadecimal digits")
        if not 0 <= self.owner_uid <= MAX_UID:
            raise ValueError(f"owner's uid is {self.owner_uid}, wanted 0 to {MAX_UID}")


def stable_mac(nic_mac: MacAddress | None, of: VifName | str) -> MacAddress:
    """Return the MAC of a vif that was given none, made *of* its name or its id.

    It is locally administered, the same on each start, and another on each host:
    52:54 and a hash of the MAC of the network's NIC, if it has one, and *of*.
    """
    packed = nic_mac.packed if nic_mac is not None else NO_MAC
    digest = hashlib.sha256(packed + str(of).encode()).digest()
    return MacAddress(b"\x52\x54" + digest[:4])
