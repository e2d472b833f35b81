"""Connection tracking for the slow evaluator: one dictionary of both directions.

A flow is entered under what its frames look like and under what answers to them
do, as Linux has it.  There is no bound on how many there are.
"""

from typing import Final

import attrs

from .seen import ICMP, ICMPV6, TCP, UDP, WITH_PORTS, IpSeen
from .tables import Flow

FIN, SYN, RST, ACK, URG = 1, 2, 4, 16, 32
UDPLITE: Final = 136

_ANSWERS: Final = {ICMP: {8: 0, 13: 14, 15: 16, 17: 18}, ICMPV6: {128: 129, 139: 140}}
_ERRORS: Final = {ICMP: (3, 4, 5, 11, 12), ICMPV6: range(128)}
_NOT_FOLLOWED: Final = (130, 131, 132, 133, 134, 135, 136, 143)
_VALID_FLAGS: Final = (
    {SYN},
    {SYN, URG},
    {SYN, ACK},
    {RST},
    {RST, ACK},
    {FIN, ACK},
    {FIN, ACK, URG},
    {ACK},
    {ACK, URG},
)

_NS: Final = 1_000_000_000

#: What a frame of a flow looks like: source, destination, protocol, and its ports or the like.
Tuple = tuple[bytes, bytes, int, object, object]


@attrs.define(eq=False)
class Connection:
    """A flow; *begins* is the tuple of the frame that began it."""

    begins: Tuple
    expires_ns: int = 0
    replied: bool = False
    tcp: str = ""
    #: The rules that count it, with the source of the frame by which they do.
    counted: set[tuple[int, bytes]] = attrs.field(factory=set)


@attrs.frozen
class Tracked:
    """What a frame is; *begins* is set where a flow would begin with it."""

    state: Flow
    reply: bool
    connection: Connection | None = None
    begins: Tuple | None = None
    flags: frozenset[int] = frozenset()


class Connections:
    """The flows of one vif."""

    def __init__(self) -> None:
        self._of: dict[Tuple, Connection] = {}

    def track(self, ip: IpSeen, now_ns: int) -> Tracked:
        """Return what a packet is, and let its flow know of it."""
        found = self._find(ip, now_ns)
        connection = found.connection
        if (
            connection is not None
            and found.begins is None
            and found.state
            in (
                Flow.NEW,
                Flow.ESTABLISHED,
            )
        ):
            connection.replied |= found.reply
            _advance(connection, found)
            connection.expires_ns = now_ns + _timeout_s(connection) * _NS
        return found

    def confirm(self, tracked: Tracked, now_ns: int) -> Connection | None:
        """Remember a flow whose first frame has passed; return the frame's flow."""
        if tracked.begins is None:
            return tracked.connection if tracked.state is not Flow.RELATED else None
        if tracked.connection is not None:
            self._forget(tracked.connection)
        connection = Connection(tracked.begins)
        _advance(connection, tracked)
        connection.expires_ns = now_ns + _timeout_s(connection) * _NS
        for each in (tracked.begins, _answer(tracked.begins)):
            if (old := self._of.get(each)) is not None:
                self._forget(old)
        self._of[tracked.begins] = connection
        self._of.setdefault(_answer(tracked.begins), connection)
        return connection

    def count(self, rule: int, source: bytes, now_ns: int) -> int:
        """Return how many flows that rule counts for a source."""
        return sum(
            (rule, source) in each.counted and each.expires_ns > now_ns
            for each in set(self._of.values())
        )

    def _forget(self, connection: Connection) -> None:
        for each in (connection.begins, _answer(connection.begins)):
            if self._of.get(each) is connection:
                del self._of[each]

    def _find(self, ip: IpSeen, now_ns: int) -> Tracked:
        assert ip.upper is not None
        errors = _ERRORS.get(ip.protocol, ()) if ip.icmp is not None else ()
        if ip.icmp is not None and ip.icmp[0] in errors:
            return self._find_related(ip, now_ns)
        if ip.protocol == ICMPV6 and ip.icmp is not None and ip.icmp[0] in _NOT_FOLLOWED:
            return Tracked(Flow.UNTRACKED, False)
        mine = _tuple_of(ip)
        if mine is None:
            return Tracked(Flow.INVALID, False)
        flags: frozenset[int] = frozenset()
        if ip.protocol == TCP:
            flags = frozenset(each for each in (FIN, SYN, RST, ACK, URG) if ip.upper[13] & each)
            if flags not in _VALID_FLAGS:
                return Tracked(Flow.INVALID, False)
        old = self._of.get(mine)
        if old is not None and old.expires_ns > now_ns:
            if old.tcp in ("closing", "reset") and SYN in flags and ACK not in flags:
                return Tracked(Flow.NEW, False, old, mine, flags)
            reply = mine != old.begins
            state = Flow.ESTABLISHED if reply or old.replied else Flow.NEW
            return Tracked(state, reply, old, None, flags)
        may_begin = True
        if ip.icmp is not None:
            may_begin = ip.icmp[0] in _ANSWERS[ip.protocol]
        if ip.protocol == TCP:
            may_begin = flags & {SYN, ACK, FIN, RST} in ({SYN}, {ACK})
        if not may_begin:
            return Tracked(Flow.INVALID, False)
        return Tracked(Flow.NEW, False, old, mine, flags)

    def _find_related(self, ip: IpSeen, now_ns: int) -> Tracked:
        assert ip.upper is not None
        inner = ip.upper[8:]
        header = (inner[0] & 15) * 4 if ip.version == 4 and inner else 40
        whole = len(inner) >= header + 8 and inner[0] >> 4 == ip.version
        if not whole or (ip.version == 4 and (inner[6] & 0x1F or inner[7])):
            return Tracked(Flow.INVALID, False)
        quoted = _quoted(ip.version, inner, header)
        theirs = _tuple_of(quoted)
        connection = None if theirs is None else self._of.get(theirs)
        if connection is None or connection.expires_ns <= now_ns:
            return Tracked(Flow.INVALID, False)
        return Tracked(Flow.RELATED, theirs == connection.begins, connection)


def _quoted(version: int, inner: bytes, header: int) -> IpSeen:
    if version == 4:
        upper = inner[header : header + 8]
        return IpSeen(4, inner[12:16], inner[16:20], inner[9], 0, upper)
    return IpSeen(6, inner[8:24], inner[24:40], inner[6], 0, inner[40:48])


def _tuple_of(ip: IpSeen) -> Tuple | None:
    """Return what a packet of a flow looks like, None if it can be of none."""
    assert ip.upper is not None
    if ip.protocol in WITH_PORTS:
        if len(ip.upper) < 8 or ip.ports is None:
            return None
        return ip.src, ip.dst, ip.protocol, ip.ports[0], ip.ports[1]
    if ip.icmp is not None:
        questions = _ANSWERS[ip.protocol]
        if ip.icmp[0] not in (*questions, *questions.values()):
            return None
        return ip.src, ip.dst, ip.protocol, ip.icmp[0], ip.upper[4:6]
    return ip.src, ip.dst, ip.protocol, None, None


def _answer(mine: Tuple) -> Tuple:
    """Return what answers to such a frame look like."""
    src, dst, protocol, first, second = mine
    if isinstance(second, bytes):
        pairs = _ANSWERS[protocol]
        pairs = pairs | {answer: question for question, answer in pairs.items()}
        assert isinstance(first, int)
        return dst, src, protocol, pairs[first], second
    return dst, src, protocol, second, first


def _advance(connection: Connection, tracked: Tracked) -> None:
    """Let a TCP connection come to what its segment makes of it."""
    if connection.begins[2] != TCP:
        return
    flags, old = tracked.flags, connection.tcp
    if RST in flags:
        connection.tcp = "reset"
    elif not old:
        connection.tcp = "syn sent" if SYN in flags else "open"
    elif old == "syn sent" and tracked.reply and SYN in flags:
        connection.tcp = "syn received"
    elif FIN in flags and old in ("syn received", "open", "closing"):
        connection.tcp = "closing"
    elif old == "syn received" and not tracked.reply and ACK in flags:
        connection.tcp = "open"


def _timeout_s(connection: Connection) -> int:
    protocol = connection.begins[2]
    if protocol == TCP:
        if connection.tcp == "open":
            return 432000 if connection.replied else 300
        return {"syn sent": 120, "syn received": 60, "closing": 120, "reset": 10}[connection.tcp]
    if protocol in (UDP, UDPLITE):
        return 120 if connection.replied else 30
    if isinstance(connection.begins[4], bytes):
        return 30
    return 600
