"""A filter as the datapath walks it: six lists, chains, and the bytes of all that.

The form is told in datapath/core/filter.h, which checks it.  Here it is values:
a rule of a list has an action and conditions that must all hold, and a jump
leads from one of the two link layer lists to a chain.
"""

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import attrs

MAGIC: Final = 0x3246574E
MAX_LISTS: Final = 256
MAX_RULES: Final = 65536
MAX_CONDITIONS: Final = 524288
MAX_WIDES: Final = 65536
MAX_RANGES: Final = 65536
MAX_BYTES: Final = 16 * 1024 * 1024
#: Rules of one filter that count connections.
MAX_COUNTS: Final = 32

_HEAD: Final = struct.Struct("<8I")
_LIST: Final = struct.Struct("<II")
_RULE: Final = struct.Struct("<BBHII")
_CONDITION: Final = struct.Struct("<BBBxIII")
_ALL_ONES: Final = 0xFFFFFFFF


class TableFull(ValueError):
    """A filter comes to more than a table holds."""


class Verb(enum.IntEnum):
    """What a rule does with a frame that meets it."""

    CONTINUE = 0
    ACCEPT = 1
    DROP = 2
    REJECT = 3
    RETURN = 4
    JUMP = 5


class Field(enum.IntEnum):
    """What of a frame a condition looks at; the datapath's numbers."""

    ETH_DST = 0
    ETH_SRC = 1
    ETH_TYPE = 2
    VLAN_ID = 3
    VLAN_TYPE = 4
    STP_TYPE = 5
    STP_FLAGS = 6
    STP_ROOT_PRIORITY = 7
    STP_ROOT_ADDR = 8
    STP_ROOT_COST = 9
    STP_SENDER_PRIORITY = 10
    STP_SENDER_ADDR = 11
    STP_PORT = 12
    STP_AGE = 13
    STP_MAX_AGE = 14
    STP_HELLO_TIME = 15
    STP_FORWARD_DELAY = 16
    ARP_HWTYPE = 17
    ARP_PROTOCOL = 18
    ARP_OPCODE = 19
    ARP_SRC_MAC = 20
    ARP_DST_MAC = 21
    ARP_SRC_IP = 22
    ARP_DST_IP = 23
    ARP_GRATUITOUS = 24
    IPV4_SRC = 25
    IPV4_DST = 26
    IPV6_SRC = 27
    IPV6_DST = 28
    PROTOCOL = 29
    AH = 30
    DSCP = 31
    SRC_PORT = 32
    DST_PORT = 33
    ICMP = 34
    TCP_FLAGS = 35
    TCP_OPTION = 36
    CT = 37
    CONNECTIONS = 38


class Flow(enum.IntEnum):
    """What a frame is to the flow that it belongs to; the datapath's numbers."""

    NEW = 0
    ESTABLISHED = 1
    RELATED = 2
    INVALID = 3
    UNTRACKED = 4


class Learns(enum.IntFlag):
    """What a filter wants to know of its vif's address; the datapath's bits.

    What the vif sends from by ARP and IPv4, and what DHCP assigns to it.
    """

    NOTHING = 0
    SOURCES = 1
    LEASES = 2


def ct_bits(states: Iterable[Flow], *, original: bool = True, reply: bool = True) -> int:
    """Return the bits of *states* in one direction of a flow or in both."""
    bits = 0
    for state in states:
        bits |= original << state * 2 | reply << state * 2 + 1
    return bits


@attrs.frozen
class Number:
    """low <= (field & mask) <= high; of CT, *low* has the bits that may be."""

    field: Field
    low: int
    high: int
    mask: int = _ALL_ONES
    negated: bool = False


@attrs.frozen
class Masked:
    """All bytes of an address are those of *value*, where *mask* has ones."""

    field: Field
    value: bytes
    mask: bytes
    negated: bool = False


@attrs.frozen
class Between:
    """An IPv6 address from *low* to *high*."""

    field: Field
    low: bytes
    high: bytes
    negated: bool = False


@attrs.frozen
class Pair:
    """The type and the code of an ICMP message, each in a range."""

    types: tuple[int, int]
    codes: tuple[int, int]
    negated: bool = False


@attrs.frozen
class InSet:
    """An address in one of *ranges*, which are in order and apart; each is two addresses."""

    field: Field
    ranges: tuple[tuple[bytes, bytes], ...]
    negated: bool = False


@attrs.frozen
class Count:
    """The source has more than *above* connections, as rule number *rule* counts them."""

    rule: int
    above: int
    negated: bool = False


Condition = Number | Masked | Between | Pair | InSet | Count


@attrs.frozen
class Row:
    """A rule of a list.  *origin* is the position of the rule that it comes from.

    *chain* counts the chains of the table, for a jump.
    """

    verb: Verb
    conditions: tuple[Condition, ...] = ()
    origin: int = _ALL_ONES
    chain: int = 0


@attrs.frozen
class Chain:
    """A list that is reached by jumps; its end accepts."""

    name: str
    rows: tuple[Row, ...]


@attrs.frozen
class Table:
    """The lists of a filter, for frames from the vif (out) and to it (in).

    *learns* is what it wants to know of the vif's address.
    """

    l2_out: tuple[Row, ...] = ()
    l2_in: tuple[Row, ...] = ()
    ipv4_out: tuple[Row, ...] = ()
    ipv4_in: tuple[Row, ...] = ()
    ipv6_out: tuple[Row, ...] = ()
    ipv6_in: tuple[Row, ...] = ()
    chains: tuple[Chain, ...] = ()
    learns: Learns = Learns.NOTHING

    @property
    def fixed(self) -> tuple[tuple[Row, ...], ...]:
        """The lists that are always there, by their numbers."""
        return (
            self.l2_out,
            self.l2_in,
            self.ipv4_out,
            self.ipv4_in,
            self.ipv6_out,
            self.ipv6_in,
        )


#: What the lists that are always there are called, by their numbers.
LIST_NAMES: Final = ("l2 out", "l2 in", "ipv4 out", "ipv4 in", "ipv6 out", "ipv6 in")

_KINDS: Final[Mapping[type, int]] = MappingProxyType(
    {Number: 0, Masked: 1, Between: 2, Pair: 3, InSet: 4, Count: 5}
)


class _Packer:
    """The parts of a table's bytes while they are made; what comes twice stands there once."""

    def __init__(self) -> None:
        self.conditions: list[bytes] = []
        self._runs: dict[tuple[Condition, ...], int] = {}
        self.wides: dict[bytes, int] = {}
        self.ranges: list[bytes] = []
        self._sets: dict[tuple[tuple[bytes, bytes], ...], int] = {}

    def run(self, conditions: tuple[Condition, ...]) -> int:
        """Return where *conditions* stand, one behind the other."""
        first = self._runs.get(conditions)
        if first is None:
            first = self._runs[conditions] = len(self.conditions)
            self.conditions += [self._condition(each) for each in conditions]
        return first

    def _condition(self, condition: Condition) -> bytes:
        field, a, b, c = self._operands(condition)
        return _CONDITION.pack(field, condition.negated, _KINDS[type(condition)], a, b, c)

    def _operands(self, condition: Condition) -> tuple[int, int, int, int]:
        match condition:
            case Number(field, low, high, mask):
                return field, low, high, mask
            case Masked(field, value, mask):
                return field, self._wide(value), self._wide(mask), 0
            case Between(field, first, last):
                return field, self._wide(first), self._wide(last), 0
            case Pair((type_low, type_high), (code_low, code_high)):
                low, high = type_low << 8 | code_low, type_high << 8 | code_high
                return Field.ICMP, low, high, 0
            case InSet(field, ranges):
                return field, self._set(ranges), len(ranges), 0
            case Count(rule, above):
                return Field.CONNECTIONS, rule, above, 0

    def _wide(self, value: bytes) -> int:
        return self.wides.setdefault(value.ljust(16, b"\0"), len(self.wides))

    def _set(self, ranges: tuple[tuple[bytes, bytes], ...]) -> int:
        first = self._sets.get(ranges)
        if first is None:
            first = self._sets[ranges] = len(self.ranges)
            self.ranges += [low.ljust(16, b"\0") + high.ljust(16, b"\0") for low, high in ranges]
        return first


def pack(table: Table) -> bytes:
    """Return the bytes of *table*.

    Raises:
        TableFull: if it has more of anything than the datapath takes.
    """
    lists = [*table.fixed, *(chain.rows for chain in table.chains)]
    n_rows = sum(map(len, lists))
    _check(
        ("chains and lists", len(lists), MAX_LISTS),
        ("rules in both directions", n_rows, MAX_RULES),
    )
    packer = _Packer()
    rows = b"".join(_pack_rows(packer, lists))
    _check(
        ("conditions", len(packer.conditions), MAX_CONDITIONS),
        ("addresses", len(packer.wides), MAX_WIDES),
        ("ranges of sets", len(packer.ranges), MAX_RANGES),
    )
    heads, first = b"", 0
    for each in lists:
        heads += _LIST.pack(first, len(each))
        first += len(each)
    body = b"".join([heads, rows, *packer.conditions, *packer.wides, *packer.ranges])
    total = _HEAD.size + len(body)
    if total > MAX_BYTES:
        raise TableFull(f"filter comes to {total} bytes, wanted at most {MAX_BYTES}")
    return (
        _HEAD.pack(
            MAGIC,
            total,
            len(lists),
            n_rows,
            len(packer.conditions),
            len(packer.wides),
            len(packer.ranges),
            table.learns,
        )
        + body
    )


def learns_of(packed: bytes) -> Learns:
    """Return what a table, as `pack` returns it, wants to know; nothing, if it is none at all."""
    return Learns(_HEAD.unpack_from(packed)[-1]) if packed else Learns.NOTHING


def _check(*counts: tuple[str, int, int]) -> None:
    for what, number, most in counts:
        if number > most:
            raise TableFull(f"filter comes to {number} {what}, wanted at most {most}")


def _pack_rows(packer: _Packer, lists: Iterable[tuple[Row, ...]]) -> Iterator[bytes]:
    for rows in lists:
        for row in rows:
            target = len(LIST_NAMES) + row.chain if row.verb is Verb.JUMP else 0
            yield _RULE.pack(
                row.verb,
                len(row.conditions),
                target,
                packer.run(row.conditions),
                row.origin,
            )
