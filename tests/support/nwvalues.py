"""Values that attributes of the filter language may have: any of a type, and few that meet.

One table has both for each type, so that what the language gains is told once.  The few
are for rules and frames that shall mean each other: a rule's address is then likely to
be a frame's.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.protocols import Attribute
from multiplexer.policy.nwfilter.values import (
    ALL_TCP_FLAGS,
    Boolean,
    Comment,
    Integer,
    IpMask,
    IpsetFlags,
    IpsetName,
    Ipv4,
    Ipv6,
    Mac,
    MacMask,
    Number,
    Side,
    State,
    States,
    TcpFlag,
    TcpFlagMatch,
    TcpFlags,
    Value,
    ValueType,
)
from pfinet_proto.values import MacAddress

MACS: Final = [bytes.fromhex(text) for text in ("525400000001", "525400000002", "0180c2000000")]
IPV4S: Final = ["10.0.0.1", "10.0.0.2"]
IPV6S: Final = ["fd00::1", "fd00::2"]
PORTS: Final = [53, 80, 40000]
SETS: Final[Mapping[str, Sequence[IPv4Network | IPv6Network]]] = {
    "few": [IPv4Network("10.0.0.2/32"), IPv6Network("fd00::2/128"), IPv4Network("10.0.1.0/24")],
    "none": [],
    "all": [IPv4Network("0.0.0.0/0"), IPv4Network("10.0.0.0/8"), IPv6Network("::/0")],
}

_NUMBERS: Final = {
    "protocolid": [0x800, 0x806, 0x86DD, 0x8100, 0x8035],
    "vlanid": [0, 5],
    "encap-protocol": [0x800, 0x806],
    "protocol": [1, 6, 17, 33, 50, 51, 58, 132, 136],
    "opcode": [1, 2, 3],
    "hwtype": [1, 6],
    "protocoltype": [0x800, 0x86DD],
    "dscp": [0, 8, 46],
    "option": [0, 1, 2, 8],
    "connlimit-above": [0, 1, 2],
}
_MASKS: Final = ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:00:00:00", "00:00:00:00:00:00")
_PREFIXES: Final = {32: [0, 23, 24, 31, 32], 128: [0, 64, 111, 127, 128]}

#: What XML can say and does not take for a variable.
COMMENTS: Final = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    )
    | st.sampled_from("\t\n\r'\"<&>"),
    max_size=300,
).filter(lambda text: not text.startswith("$"))

_FLAGS: Final = st.integers(0, 0x3F).map(TcpFlag)
_FEW_FLAGS: Final = st.sampled_from([TcpFlag.SYN, TcpFlag.ACK, TcpFlag(0), ALL_TCP_FLAGS])
_STATES: Final = [state for state in State if state is not State.NONE]


@attrs.frozen
class _Choice:
    """The values of a type: all there are, and *few*."""

    every: st.SearchStrategy[Value]
    few: st.SearchStrategy[Any]


def any_value(kind: ValueType) -> st.SearchStrategy[Value]:
    """Return values of a type, each as reading its canonical text gives it."""
    return _choice(kind).every.map(lambda value: kind.read(kind.write(value)))


def likely_value(attribute: Attribute, protocol: str) -> st.SearchStrategy[Any]:
    """Return values of *attribute* as resolving leaves them, such as a frame here may have."""
    if not isinstance(attribute.type, Integer):
        return _choice(attribute.type).few
    if "port" in attribute.name and protocol != "stp":
        return st.sampled_from(PORTS)
    if attribute.name in ("type", "code", "typeend", "codeend") and protocol != "stp":
        return st.sampled_from([0, 1, 3, 8, 128, 129, 135])
    return st.sampled_from(_NUMBERS.get(attribute.name, [0, 1, 2]))


def _choice(kind: ValueType) -> _Choice:
    match kind:
        case Integer():
            numbers = st.integers(kind.minimum, kind.maximum)
            if kind.names:
                numbers |= st.sampled_from(sorted(kind.names.values()))
            written = st.booleans() if kind.accepts_hexadecimal else st.just(False)
            return _Choice(st.builds(Number, numbers, written), numbers)
        case Mac():
            every = st.binary(min_size=6, max_size=6).map(MacAddress)
            return _Choice(every, st.sampled_from(MACS).map(MacAddress))
        case MacMask():
            few_masks = st.sampled_from(_MASKS).map(MacAddress.parse)
            return _Choice(st.integers(0, 48).map(_mask), few_masks)
        case Ipv4():
            every_ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
            return _Choice(every_ipv4, st.sampled_from(IPV4S).map(IPv4Address))
        case Ipv6():
            every_ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
            return _Choice(every_ipv6, st.sampled_from(IPV6S).map(IPv6Address))
        case IpMask():
            return _Choice(st.integers(0, kind.bits), st.sampled_from(_PREFIXES[kind.bits]))
        case Boolean():
            return _Choice(st.booleans(), st.just(True))
        case Comment():
            return _Choice(COMMENTS, COMMENTS)
        case IpsetName():
            names = st.from_regex(r"[A-Za-z0-9_.:+ -]{1,31}", fullmatch=True)
            return _Choice(names, st.sampled_from(sorted(SETS)))
        case IpsetFlags():
            return _Choice(*(_sides(most) for most in (6, 2)))
        case States():
            some = st.sets(st.sampled_from(_STATES), min_size=1).map(frozenset)
            few_states = st.one_of(some, st.just(frozenset({State.NONE})))
            return _Choice(st.frozensets(st.sampled_from(State)), few_states)
        case TcpFlagMatch():
            return _Choice(*(st.builds(TcpFlags, each, each) for each in (_FLAGS, _FEW_FLAGS)))
    raise AssertionError(kind)


def _mask(ones: int) -> MacAddress:
    return MacAddress(((1 << 48) - (1 << (48 - ones))).to_bytes(6, "big"))


def _sides(most: int) -> st.SearchStrategy[tuple[Side, ...]]:
    return st.lists(st.sampled_from(Side), min_size=1, max_size=most).map(tuple)
