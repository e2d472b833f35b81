"""From what a rule asks of a frame to the conditions of the datapath.

A rule stands in a list as it is written, or swapped for frames that go the
other way: then what it says of the source is asked of the destination.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Final

import attrs

from pfinet_proto.values import MacAddress

from .errors import BindError, MissingSet, where
from .protocols import ETHERTYPES, PROTOCOLS, Layer
from .resolved import Match, ResolvedRule
from .tables import Between, Condition, Count, Field, InSet, Masked, Number, Pair
from .values import Side, TcpFlags

#: The sets that rules may name, with the addresses that each has.
Sets = Mapping[str, Sequence[IPv4Network | IPv6Network]]

#: IEEE 802.1D, table 7-10: where bridges send theirs.
BRIDGES: Final = bytes.fromhex("0180c2000000")
_ONES: Final = b"\xff" * 16
_AH: Final = PROTOCOLS["ah"].number

#: Attributes that ask for one number, or begin a range that another ends.
_NUMBERS: Final[Mapping[str, tuple[Field, str | None]]] = MappingProxyType(
    {
        "protocolid": (Field.ETH_TYPE, None),
        "vlanid": (Field.VLAN_ID, None),
        "encap-protocol": (Field.VLAN_TYPE, None),
        "flags": (Field.STP_FLAGS, None),
        "root-priority": (Field.STP_ROOT_PRIORITY, "root-priority-hi"),
        "root-cost": (Field.STP_ROOT_COST, "root-cost-hi"),
        "sender-priority": (Field.STP_SENDER_PRIORITY, "sender-priority-hi"),
        "port": (Field.STP_PORT, "port-hi"),
        "age": (Field.STP_AGE, "age-hi"),
        "max-age": (Field.STP_MAX_AGE, "max-age-hi"),
        "hello-time": (Field.STP_HELLO_TIME, "hello-time-hi"),
        "forward-delay": (Field.STP_FORWARD_DELAY, "forward-delay-hi"),
        "hwtype": (Field.ARP_HWTYPE, None),
        "protocoltype": (Field.ARP_PROTOCOL, None),
        "opcode": (Field.ARP_OPCODE, None),
        "gratuitous": (Field.ARP_GRATUITOUS, None),
        "protocol": (Field.PROTOCOL, None),
        "dscp": (Field.DSCP, None),
        "srcportstart": (Field.SRC_PORT, "srcportend"),
        "dstportstart": (Field.DST_PORT, "dstportend"),
        "option": (Field.TCP_OPTION, None),
    }
)

#: How many bits of a number there are; what a range of it can come to.
_PORT_MASK: Final = 0xFFFF

_ADDRESSES: Final[Mapping[str, tuple[Field, str]]] = MappingProxyType(
    {
        "srcmacaddr": (Field.ETH_SRC, "srcmacmask"),
        "dstmacaddr": (Field.ETH_DST, "dstmacmask"),
        "root-address": (Field.STP_ROOT_ADDR, "root-address-mask"),
        "sender-address": (Field.STP_SENDER_ADDR, "sender-address-mask"),
        "arpsrcmacaddr": (Field.ARP_SRC_MAC, ""),
        "arpdstmacaddr": (Field.ARP_DST_MAC, ""),
    }
)

_IPV4: Final[Mapping[str, tuple[Field, str]]] = MappingProxyType(
    {
        "srcipaddr": (Field.IPV4_SRC, "srcipmask"),
        "dstipaddr": (Field.IPV4_DST, "dstipmask"),
        "arpsrcipaddr": (Field.ARP_SRC_IP, "arpsrcipmask"),
        "arpdstipaddr": (Field.ARP_DST_IP, "arpdstipmask"),
    }
)
_IPV6: Final[Mapping[str, Field]] = MappingProxyType(
    {"srcipaddr": Field.IPV6_SRC, "dstipaddr": Field.IPV6_DST}
)

_MACS: Final = ("srcmacaddr", "srcmacmask", "dstmacaddr", "dstmacmask")

#: What keeps no copy of a rule there that has nothing else: libvirt looks before it adds these.
_ADDED_LATER: Final = frozenset({"state", "ipset", "ipsetflags"})


def conditions(
    rule: ResolvedRule, sets: Sets, *, swapped: bool = False
) -> tuple[Condition, ...] | None:
    """Return what a frame must be to meet *rule*, or its *swapped* copy.

    What depends on connections is not among it.  None: there is no such copy,
    since of a rule of the network layer the MAC addresses do not go into it
    and were all that there was, but for a state or a set.

    Raises:
        BindError: if a set is named that there is not.
    """
    if rule.protocol is None:
        return ()
    protocol = PROTOCOLS[rule.protocol]
    found = {match.attribute: match for match in rule.matches}
    if swapped and protocol.layer is Layer.L3:
        macs = [name for name in _MACS if name in found]
        found = {name: match for name, match in found.items() if name not in macs}
        if macs and found.keys() <= _ADDED_LATER:
            return None
    if swapped:
        found = {protocol.table[name].mirror: match for name, match in found.items()}
    return tuple(_conditions(rule, protocol.name, found, sets, swapped))


def _conditions(
    rule: ResolvedRule, protocol: str, found: Mapping[str, Match], sets: Sets, swapped: bool
) -> Iterator[Condition]:
    table = PROTOCOLS[protocol]
    is_ipv6 = table.ethertype == ETHERTYPES["ipv6"]
    if table.layer is Layer.L2 and table.ethertype is not None:
        yield Number(Field.ETH_TYPE, table.ethertype, table.ethertype)
    if protocol == "stp":
        yield Masked(Field.ETH_DST, BRIDGES, _ONES[:6])
    if table.number is not None:
        yield _protocol(table.number, is_ipv6, negated=False)
    for name, match in found.items():
        value, negated = match.value, match.negated
        if name in _ADDRESSES:
            field, mask_name = _ADDRESSES[name]
            assert isinstance(value, MacAddress)
            mask = found.get(mask_name)
            ones = mask.value.packed if mask and isinstance(mask.value, MacAddress) else _ONES[:6]
            yield Masked(field, value.packed, ones, negated)
        elif name in _IPV4 and isinstance(value, IPv4Address):
            field, mask_name = _IPV4[name]
            bits = _ones(_integer(found, mask_name, 32), 32)
            yield Number(field, int(value) & bits, int(value) & bits, bits, negated)
        elif name in _IPV6 and isinstance(value, IPv6Address):
            bits = _ones(_integer(found, name.replace("addr", "mask"), 128), 128)
            yield Masked(_IPV6[name], value.packed, bits.to_bytes(16, "big"), negated)
        elif name in ("srcipfrom", "dstipfrom"):
            last = found.get(name.replace("from", "to"), match)
            yield _range(name.startswith("src"), match, last)
        elif name == "flags" and isinstance(value, TcpFlags):
            yield Number(Field.TCP_FLAGS, value.flags, value.flags, value.mask, negated)
        elif name == "protocol":
            assert isinstance(value, int)
            yield _protocol(value, is_ipv6, negated)
        elif name == "type" and protocol == "stp":
            assert isinstance(value, int)
            yield Number(Field.STP_TYPE, value, value, negated=negated)
        elif name == "type" or (name == "code" and "type" not in found):
            yield _icmp(found, negated)
        elif name in _NUMBERS:
            yield _number(name, found)
        elif name == "ipset":
            assert isinstance(value, str)
            sides = found["ipsetflags"].value
            assert isinstance(sides, tuple)
            # A set of addresses has one dimension; what flags are for others is not looked at.
            is_source = (sides[0] is Side.SRC) != swapped
            yield _in_set(rule, value, sets, is_ipv6, is_source, negated)


def _protocol(number: int, is_ipv6: bool, negated: bool) -> Number:
    # Of IPv6 it is an extension header, behind which the protocol is another.
    if is_ipv6 and number == _AH:
        return Number(Field.AH, 1, 1, negated=negated)
    return Number(Field.PROTOCOL, number, number, negated=negated)


def _integer(found: Mapping[str, Match], name: str, default: int) -> int:
    value = found[name].value if name in found else default
    assert isinstance(value, int)
    return value


def _number(name: str, found: Mapping[str, Match]) -> Number:
    field, end = _NUMBERS[name]
    low = _integer(found, name, 0)
    high = low if end is None else _integer(found, end, low)
    negated = found[name].negated
    if field in (Field.SRC_PORT, Field.DST_PORT):
        return Number(field, low, high, _PORT_MASK, negated)
    return Number(field, low, high, negated=negated)


def _range(is_source: bool, first: Match, last: Match) -> Number | Between:
    low, high = first.value, last.value
    if isinstance(low, IPv4Address) and isinstance(high, IPv4Address):
        field = Field.IPV4_SRC if is_source else Field.IPV4_DST
        return Number(field, int(low), int(high), negated=first.negated)
    assert isinstance(low, IPv6Address)
    assert isinstance(high, IPv6Address)
    field = Field.IPV6_SRC if is_source else Field.IPV6_DST
    return Between(field, low.packed, high.packed, first.negated)


def _icmp(found: Mapping[str, Match], negated: bool) -> Pair:
    """Return type and code together: negated, they are not both as said."""
    types, codes = (0, 255), (0, 255)
    if "type" in found:
        low = _integer(found, "type", 0)
        types = (low, _integer(found, "typeend", low))
    if "code" in found:
        low = _integer(found, "code", 0)
        codes = (low, _integer(found, "codeend", low))
    return Pair(types, codes, negated)


def _in_set(
    rule: ResolvedRule, name: str, sets: Sets, is_ipv6: bool, is_source: bool, negated: bool
) -> InSet:
    if name not in sets:
        raise MissingSet(name, rule.filter, rule.rule.position.line)
    networks = [each for each in sets[name] if (each.version == 6) == is_ipv6]
    if is_ipv6:
        field = Field.IPV6_SRC if is_source else Field.IPV6_DST
    else:
        field = Field.IPV4_SRC if is_source else Field.IPV4_DST
    return InSet(field, _ranges(networks), negated)


def _ranges(
    networks: Sequence[IPv4Network | IPv6Network],
) -> tuple[tuple[bytes, bytes], ...]:
    """Return the ranges that *networks*, of one family, cover: in order and apart."""
    ranges: list[tuple[bytes, bytes]] = []
    for low, high in sorted(
        ((each.network_address.packed, each.broadcast_address.packed) for each in networks),
        key=lambda each: (each[0], -int.from_bytes(each[1], "big")),
    ):
        if ranges and low <= ranges[-1][1]:
            continue  # of two networks one lies within the other, or they are apart
        ranges.append((low, high))
    return tuple(ranges)


def _ones(length: int, bits: int) -> int:
    return (1 << bits) - (1 << bits - length)


@attrs.frozen
class Counter:
    """Hands out the numbers of rules that count connections."""

    most: int
    _taken: list[int] = attrs.field(factory=list)

    def count(self, rule: ResolvedRule, above: int, negated: bool) -> Count:
        """Return the condition of *rule*, under a number of its own.

        Raises:
            BindError: if there are too many.
        """
        if len(self._taken) >= self.most:
            raise BindError(
                f"{where(rule.filter, rule.rule.position.line)}: more than {self.most}"
                " rules with connlimit-above"
            )
        self._taken.append(rule.position)
        return Count(len(self._taken) - 1, above, negated)
