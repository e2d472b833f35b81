"""A second opinion on what a filter means: slow, and straight from the flat rules.

Nothing here is shared with the compiler but the values that both are given and
the order of the rules.  Each rule is asked of each frame, attribute by attribute.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import attrs

from pfinet_proto.values import MacAddress

from .connections import Connections, Tracked
from .names import ROOT, chain_kind
from .protocols import PROTOCOLS, Layer
from .resolve import in_judging_order
from .resolved import Match, ResolvedRule
from .seen import AH, ARP, IPV4, IPV6, RARP, VLAN, IpSeen, Seen, see
from .syntax import Action, Direction
from .tables import Flow
from .values import Side, State, TcpFlags

_BRIDGES: Final = bytes.fromhex("0180c2000000")
_TYPES: Final = {"ipv4": IPV4, "ipv6": IPV6, "arp": ARP, "rarp": RARP, "vlan": VLAN}
_MACS: Final = {"srcmacaddr", "srcmacmask", "dstmacaddr", "dstmacmask"}


@attrs.frozen
class Judgement:
    """What becomes of a frame, and the positions of the rules that decided in each layer."""

    action: Action
    link: int | None = None
    network: int | None = None


class Evaluator:
    """One vif's filter and connections.  *rules* are in document order."""

    def __init__(
        self,
        rules: Sequence[ResolvedRule],
        sets: Mapping[str, Sequence[IPv4Network | IPv6Network]],
    ) -> None:
        self._ordered = in_judging_order(rules)
        self._sets = sets
        self._connections = Connections()
        #: What became of the first piece of a packet, until when.
        self._pieces: dict[tuple[object, ...], tuple[bool, int]] = {}

    def judge(self, data: bytes, direction: Direction, now_ns: int) -> Judgement:
        """Return what becomes of a frame that goes in *direction*; what passes is remembered."""
        seen = see(data)
        link = network = None
        action = Action.ACCEPT
        tracked = None
        if direction is Direction.OUT:
            action, link = self._link(seen, direction)
        counted: set[int] = set()
        if action is Action.ACCEPT and seen.ip is not None:
            action, network, tracked = self._network(seen, direction, now_ns, counted)
        if action is Action.ACCEPT and direction is Direction.IN:
            action, link = self._link(seen, direction)
        if action is Action.ACCEPT and tracked is not None:
            connection = self._connections.confirm(tracked, now_ns)
            if connection is not None and seen.ip is not None:
                connection.counted |= {(rule, seen.ip.src) for rule in counted}
        return Judgement(action, link, network)

    # ---- link layer ----

    def _link(self, seen: Seen, direction: Direction) -> tuple[Action, int | None]:
        rules = [
            rule
            for rule in self._ordered
            if (rule.protocol is None or PROTOCOLS[rule.protocol].layer is Layer.L2)
            and rule.direction in (direction, Direction.INOUT)
        ]
        chains = list(dict.fromkeys(rule.chain for rule in rules if rule.chain != ROOT))
        chains.sort(key=lambda name: min(r.position for r in rules if r.chain == name))
        entries: list[tuple[int, int, ResolvedRule | str]] = [
            ([r.chain_priority for r in rules if r.chain == name][-1], 0, name) for name in chains
        ]
        entries += [(rule.priority, 1, rule) for rule in rules if rule.chain == ROOT]
        for _, _, entry in sorted(entries, key=lambda each: each[:2]):
            if isinstance(entry, ResolvedRule):
                if not self._meets_link(entry, seen, direction):
                    continue
                if entry.action in (Action.DROP, Action.REJECT):
                    return Action.DROP, entry.position
                if entry.action in (Action.ACCEPT, Action.RETURN):
                    return Action.ACCEPT, entry.position
                continue
            if not _goes_to(entry, seen):
                continue
            decided = self._chain([r for r in rules if r.chain == entry], seen, direction)
            if decided is not None:
                return decided
        return Action.ACCEPT, None

    def _chain(
        self, rules: Sequence[ResolvedRule], seen: Seen, direction: Direction
    ) -> tuple[Action, int | None] | None:
        """Return what a chain decides; None where it returns."""
        for rule in rules:
            if rule.action is Action.CONTINUE or not self._meets_link(rule, seen, direction):
                continue
            if rule.action is Action.RETURN:
                return None
            accepts = rule.action is Action.ACCEPT
            return Action.ACCEPT if accepts else Action.DROP, rule.position
        return Action.ACCEPT, None

    def _meets_link(self, rule: ResolvedRule, seen: Seen, direction: Direction) -> bool:
        if rule.protocol is None:
            return True
        if rule.protocol == "stp":
            if seen.dst != _BRIDGES:
                return False
        elif PROTOCOLS[rule.protocol].ethertype not in (None, seen.ethertype):
            return False
        swapped = rule.direction is Direction.INOUT and direction is Direction.OUT
        found = {match.attribute: match for match in rule.matches}
        return all(self._meets(found, name, rule, seen, swapped) for name in found)

    # ---- network layer ----

    def _network(
        self, seen: Seen, direction: Direction, now_ns: int, counted: set[int]
    ) -> tuple[Action, int | None, Tracked | None]:
        ip = seen.ip
        assert ip is not None
        family = IPV4 if ip.version == 4 else IPV6
        rules = [
            rule
            for rule in self._ordered
            if rule.protocol is not None
            and PROTOCOLS[rule.protocol].layer is Layer.L3
            and PROTOCOLS[rule.protocol].ethertype == family
            and rule.action is not Action.CONTINUE
        ]
        if not any(map(_needs_connections, rules)):
            action, position = self._list(rules, seen, direction, None, now_ns, counted)
            return action, position, None
        piece = (direction, *ip.piece)
        if ip.later:
            passes, until_ns = self._pieces.get(piece, (False, 0))
            passes = passes and until_ns > now_ns
            return Action.ACCEPT if passes else Action.DROP, None, None
        whole = ip if ip.upper is not None else attrs.evolve(ip, upper=b"")
        tracked = self._connections.track(whole, now_ns)
        action, position = self._list(rules, seen, direction, tracked, now_ns, counted)
        if ip.fragment:
            self._pieces[piece] = (action is Action.ACCEPT, now_ns + 30_000_000_000)
        return action, position, tracked

    def _list(
        self,
        rules: Sequence[ResolvedRule],
        seen: Seen,
        direction: Direction,
        tracked: Tracked | None,
        now_ns: int,
        counted: set[int],
    ) -> tuple[Action, int | None]:
        for rule in rules:
            if self._meets_network(rule, seen, direction, tracked, now_ns, counted):
                action = Action.ACCEPT if rule.action is Action.RETURN else rule.action
                return action, rule.position
        return Action.ACCEPT, None

    def _meets_network(
        self,
        rule: ResolvedRule,
        seen: Seen,
        direction: Direction,
        tracked: Tracked | None,
        now_ns: int,
        counted: set[int],
    ) -> bool:
        found = {match.attribute: match for match in rule.matches}
        # Inout is as a frame to the guest has it.
        as_written = direction is (
            Direction.IN if rule.direction is Direction.INOUT else rule.direction
        )
        if not as_written and not _goes_back(rule):
            return False
        if (
            rule.direction is Direction.INOUT
            and rule.protocol in ("icmp", "icmpv6")
            and ("type" in found)
        ):
            return False
        if not as_written and found.keys() & _MACS:
            found = {name: match for name, match in found.items() if name not in _MACS}
            # As libvirt has it, neither a state nor a set keeps it there.
            if not found.keys() - {"state", "ipset", "ipsetflags"}:
                return False
        assert rule.protocol is not None
        ip = seen.ip
        assert ip is not None
        number = PROTOCOLS[rule.protocol].number
        if number is not None and not _has_protocol(ip, number):
            return False
        if not all(
            self._meets(found, name, rule, seen, not as_written)
            for name in found
            if name not in ("state", "connlimit-above")
        ):
            return False
        if not _meets_state(rule, as_written, tracked):
            return False
        limit = rule.match("connlimit-above")
        return limit is None or self._exceeds(rule, limit, ip, tracked, now_ns, counted)

    def _exceeds(
        self,
        rule: ResolvedRule,
        limit: Match,
        ip: IpSeen,
        tracked: Tracked | None,
        now_ns: int,
        counted: set[int],
    ) -> bool:
        assert tracked is not None
        number = self._connections.count(rule.position, ip.src, now_ns)
        known = tracked.connection if tracked.begins is None else None
        if known is None or (rule.position, ip.src) not in known.counted:
            number += 1
            counted.add(rule.position)
        assert isinstance(limit.value, int)
        return (number > limit.value) != limit.negated

    # ---- attributes ----

    def _meets(
        self,
        found: Mapping[str, Match],
        name: str,
        rule: ResolvedRule,
        seen: Seen,
        swapped: bool,
    ) -> bool:
        """Return whether one attribute matches, those that complete it included."""
        assert rule.protocol is not None
        attribute = PROTOCOLS[rule.protocol].table[name]
        if attribute.follows is not None and not (name == "code" and "type" not in found):
            return True
        asked = attribute.mirror if swapped else name
        match = found[name]
        is_met = _ask(asked, name, found, seen, rule.protocol, self._sets, swapped)
        return is_met is not None and is_met != match.negated


def _needs_connections(rule: ResolvedRule) -> bool:
    """Return whether a rule asks for connections in any of its copies."""
    state = rule.match("state")
    accepts = rule.action is Action.ACCEPT
    typed = rule.protocol in ("icmp", "icmpv6") and rule.match("type") is not None
    if typed and rule.direction is Direction.INOUT:
        return False
    if rule.match("connlimit-above") is not None:
        return True
    if not rule.rule.statematch:
        return False
    if state is not None:
        assert isinstance(state.value, frozenset)
        return State.NONE not in state.value
    return accepts and rule.direction is not Direction.INOUT


def _goes_back(rule: ResolvedRule) -> bool:
    """Return whether a rule has a copy for the direction that it is not written for."""
    if rule.match("connlimit-above") is not None:
        return False
    if rule.protocol in ("icmp", "icmpv6") and rule.match("type") is not None:
        return False
    if rule.match("state") is not None and rule.rule.statematch:
        return rule.direction is Direction.INOUT
    return True


def _meets_state(rule: ResolvedRule, as_written: bool, tracked: Tracked | None) -> bool:
    accepts = rule.action is Action.ACCEPT
    limited = rule.match("connlimit-above") is not None
    if (accepts and limited) or not rule.rule.statematch:
        return True
    state = rule.match("state")
    if state is not None:
        assert isinstance(state.value, frozenset)
        if State.NONE in state.value:
            return True
        assert tracked is not None
        return (tracked.state.name in {each.value for each in state.value}) != state.negated
    if not accepts or rule.direction is Direction.INOUT:
        return True
    assert tracked is not None
    if not as_written:
        return tracked.state is Flow.ESTABLISHED and tracked.reply
    typed = rule.protocol in ("icmp", "icmpv6") and rule.match("type") is not None
    return tracked.state in (Flow.NEW, Flow.ESTABLISHED) and (typed or not tracked.reply)


def _goes_to(chain: str, seen: Seen) -> bool:
    kind = chain_kind(chain)
    if kind == "mac":
        return True
    if kind == "stp":
        return seen.dst == _BRIDGES
    return seen.ethertype == _TYPES[kind]


def _has_protocol(ip: IpSeen, number: int) -> bool:
    if number == AH and ip.version == 6:
        return ip.has_ah
    return ip.protocol == number


def _ask(
    asked: str,
    name: str,
    found: Mapping[str, Match],
    seen: Seen,
    protocol: str,
    sets: Mapping[str, Sequence[IPv4Network | IPv6Network]],
    swapped: bool,
) -> bool | None:
    """Return whether *asked* of the frame is what *name* says; None if the frame has no such."""
    value = found[name].value
    mac = _mac_of(asked, seen)
    if isinstance(value, MacAddress):
        mask = found.get(f"{name}-mask") or found.get(name.replace("addr", "mask"))
        ones = mask.value if mask is not None and mask is not found[name] else None
        return None if mac is None else _is_masked(mac, value, ones)
    if isinstance(value, IPv4Address | IPv6Address):
        return _ask_address(asked, name, found, seen)
    if asked == "ipset":
        assert isinstance(value, str)
        sides = found["ipsetflags"].value
        assert isinstance(sides, tuple)
        assert seen.ip is not None
        source = (sides[0] is Side.SRC) != swapped
        address = ip_address(seen.ip.src if source else seen.ip.dst)
        return any(address in each for each in sets[value] if each.version == address.version)
    if asked == "gratuitous":
        addresses = seen.arp.addresses if seen.arp is not None else None
        return None if addresses is None else addresses[1] == addresses[3]
    if isinstance(value, TcpFlags):
        flags = seen.ip.tcp_flags if seen.ip is not None else None
        return None if flags is None else flags & value.mask == value.flags
    if asked == "option":
        options = seen.ip.tcp_options if seen.ip is not None else None
        return None if options is None else value in options
    if asked == "protocol":
        assert isinstance(value, int)
        return None if seen.ip is None else _has_protocol(seen.ip, value)
    if asked in ("type", "code") and protocol != "stp":
        return _ask_icmp(found, seen)
    number = _number_of(asked, seen)
    assert isinstance(value, int)
    last = found.get(f"{name}-hi") or found.get(name.replace("start", "end")) or found[name]
    assert isinstance(last.value, int)
    return None if number is None else value <= number <= last.value


def _is_masked(mac: bytes, value: MacAddress, mask: object) -> bool:
    ones = mask.packed if isinstance(mask, MacAddress) else b"\xff" * 6
    return all(a & m == b & m for a, b, m in zip(mac, value.packed, ones, strict=True))


def _mac_of(asked: str, seen: Seen) -> bytes | None:
    bpdu = seen.configuration
    addresses = seen.arp.addresses if seen.arp is not None else None
    match asked:
        case "srcmacaddr":
            return seen.src
        case "dstmacaddr":
            return seen.dst
        case "arpsrcmacaddr":
            return None if addresses is None else addresses[0]
        case "arpdstmacaddr":
            return None if addresses is None else addresses[2]
        case "root-address":
            return None if bpdu is None else bpdu[7:13]
        case "sender-address":
            return None if bpdu is None else bpdu[19:25]
        case _:
            return None


def _ask_address(asked: str, name: str, found: Mapping[str, Match], seen: Seen) -> bool | None:
    value = found[name].value
    assert isinstance(value, IPv4Address | IPv6Address)
    if asked.startswith("arp"):
        addresses = seen.arp.addresses if seen.arp is not None else None
        raw = None if addresses is None else addresses[1 if "src" in asked else 3]
    else:
        raw = None if seen.ip is None else seen.ip.src if "src" in asked else seen.ip.dst
    if raw is None:
        return None
    address = ip_address(raw)
    if name.endswith("from"):
        last = found.get(name.replace("from", "to"), found[name]).value
        return int(value) <= int(address) <= int(last)  # type: ignore[arg-type]
    mask = found.get(name.replace("addr", "mask"))
    if mask is None:
        return address == value
    if isinstance(value, IPv4Address):
        return address in IPv4Network((value, mask.value), strict=False)
    return address in IPv6Network((value, mask.value), strict=False)


def _ask_icmp(found: Mapping[str, Match], seen: Seen) -> bool | None:
    if seen.ip is None or seen.ip.icmp is None:
        return None
    for value, name in zip(seen.ip.icmp, ("type", "code"), strict=True):
        if name not in found:
            continue
        first = found[name].value
        last = found.get(f"{name}end", found[name]).value
        assert isinstance(first, int)
        assert isinstance(last, int)
        if not first <= value <= last:
            return False
    return True


def _number_of(asked: str, seen: Seen) -> int | None:
    ip, arp, bpdu = seen.ip, seen.arp, seen.configuration
    if asked == "protocolid":
        return seen.ethertype
    if asked in ("vlanid", "encap-protocol"):
        return None if seen.vlan is None else seen.vlan[asked == "encap-protocol"]
    if asked in ("hwtype", "protocoltype", "opcode"):
        if arp is None:
            return None
        return {"hwtype": arp.hwtype, "protocoltype": arp.protocol, "opcode": arp.opcode}[asked]
    if asked == "dscp":
        return None if ip is None else ip.dscp
    if asked in ("srcportstart", "dstportstart"):
        return None if ip is None or ip.ports is None else ip.ports[asked.startswith("dst")]
    if asked == "type":
        return None if seen.bpdu is None else seen.bpdu[3]
    places = {
        "flags": (4, 5),
        "root-priority": (5, 7),
        "root-cost": (13, 17),
        "sender-priority": (17, 19),
        "port": (25, 27),
        "age": (27, 29),
        "max-age": (29, 31),
        "hello-time": (31, 33),
        "forward-delay": (33, 35),
    }
    start, end = places[asked]
    return None if bpdu is None else int.from_bytes(bpdu[start:end], "big")
