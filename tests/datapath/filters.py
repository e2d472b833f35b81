"""Random filters, and random frames that their rules may well mean.

Values are the few of tests/support/nwvalues.py, so that addresses, ports and states meet.
Rules are Hypothesis's; a frame is what one number makes of these values.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from multiplexer.policy.nwfilter.names import CHAIN_PRIORITIES, default_chain_priority
from multiplexer.policy.nwfilter.protocols import PROTOCOLS, Layer
from multiplexer.policy.nwfilter.resolved import Match, ResolvedRule
from multiplexer.policy.nwfilter.syntax import Action, Direction, Rule
from tests.datapath import frames
from tests.support.nwvalues import IPV4S, IPV6S, MACS, likely_value


@st.composite
def matches(draw: st.DrawFn, protocol: str) -> tuple[Match, ...]:
    """Return what a rule of *protocol* asks, as resolving leaves it."""
    table = PROTOCOLS[protocol].table
    starts = [name for name, each in table.items() if each.follows is None and name != "comment"]
    wanted = draw(st.sets(st.sampled_from(starts), max_size=3))
    found: dict[str, Match] = {}
    for name, attribute in table.items():
        if name in wanted:
            found[name] = Match(name, draw(likely_value(attribute, protocol)), draw(st.booleans()))
        elif name == "code" and "type" in found and draw(st.booleans()):
            found[name] = Match(
                name, draw(likely_value(attribute, protocol)), found["type"].negated
            )
        elif attribute.follows in found and (name == "ipsetflags" or draw(st.booleans())):
            start = found[attribute.follows]
            last = draw(likely_value(attribute, protocol))
            if attribute.ends_range and last < start.value:
                last = start.value
            found[name] = Match(name, last, start.negated)
    if "type" in found and "code" in found:
        negated = found["type"].negated
        found |= {
            name: Match(name, found[name].value, negated)
            for name in ("code", "codeend")
            if name in found
        }
    return tuple(found[name] for name in table if name in found)


CHAINS: Final = ["root", *CHAIN_PRIORITIES, "ipv4-ip", "macx"]


@st.composite
def rule(draw: st.DrawFn, position: int, protocols: st.SearchStrategy[str | None]) -> ResolvedRule:
    """Return a rule at *position*."""
    protocol = draw(protocols)
    chain = draw(st.sampled_from(["root", "root", *CHAINS]))
    own = draw(st.one_of(st.none(), st.sampled_from([-800, -700, 0, 500])))
    made = Rule(
        draw(st.sampled_from(Action)),
        draw(st.sampled_from(Direction)),
        protocol,
        priority=draw(st.sampled_from([-1000, -700, 0, 100, 500, 500, 500])),
        statematch=draw(st.sampled_from([True, True, True, False])),
    )
    asked = () if protocol is None else draw(matches(protocol))
    if protocol == "stp" and made.direction is Direction.INOUT:
        asked = tuple(each for each in asked if not each.attribute.startswith("srcmac"))
    priority = default_chain_priority(chain) if own is None else own
    return ResolvedRule("f", chain, priority, made, asked, position)


def filters(
    protocols: st.SearchStrategy[str | None], most: int = 6, least: int = 1
) -> st.SearchStrategy[Any]:
    """Return flat rules in document order."""
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(*(rule(position, protocols) for position in range(n)))
    )


L2: Final = [None, *(name for name, each in PROTOCOLS.items() if each.layer is Layer.L2)]
L3: Final = [name for name, each in PROTOCOLS.items() if each.layer is Layer.L3]
ANY: Final = st.one_of(st.sampled_from(L2), st.sampled_from(L3))


# ---- frames ----

PORT_PAIRS: Final = [(40000, 53), (53, 40000)] * 2 + [(40000, 80), (80, 40000), (80, 80)]
TCP_FLAGS: Final = [0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x03, 0x00, 0x3F]
#: Which upper protocols are likely where a filter is about one.
ANY_UPPER: Final = [1, 1, 2, 6, 6, 6, 17, 17, 33, 50, 132, 136]


def make_upper(rng: Random, version: int, protocol: int) -> frames.Upper:
    """Return what stands in an IP packet; 1 is the family's own ICMP."""
    sport, dport = rng.choice(PORT_PAIRS)
    if protocol == 6:
        options = rng.choice([b"", bytes((2, 4, 5, 180)), bytes((1, 8, 10)) + bytes(9)])
        made = frames.tcp(b"x", sport=sport, dport=dport, options=options)
        data = made.data[:13] + bytes((rng.choice(TCP_FLAGS),)) + made.data[14:]
        return frames.Upper(protocol, data, made.checksum_at)
    if protocol == 17:
        return frames.udp(b"hello", sport=sport, dport=dport)
    if protocol == 1:
        body, code = rng.choice([b"\0\1\0\0", b"\0\2\0\0"]), rng.choice([0, 0, 1, 3])
        if version == 4:
            return frames.icmp(rng.choice([0, 8, 8, 13, 14, 9]), code, body)
        return frames.icmpv6(rng.choice([128, 129, 128, 135, 1, 139, 200]), code, body)
    if protocol == 132:
        return frames.sctp(sport=sport, dport=dport)
    if protocol == 136:
        return frames.udplite(b"hello", sport=sport, dport=dport)
    return frames.raw(protocol, frames.u16(sport) + frames.u16(dport) + bytes(12))


def make_ip(rng: Random, version: int, protocol: int) -> bytes:
    """Return an IP packet, whole or a piece of one, or an error about one."""
    extensions: tuple[frames.Upper, ...] = ()
    if protocol == 51 and version == 6:
        extensions, protocol = (frames.authentication_header(),), 17
    inside = make_upper(rng, version, protocol)
    src, dst = rng.choices(IPV4S if version == 4 else IPV6S, k=2)
    if rng.random() < 0.9 and src == dst:
        dst = next(each for each in (IPV4S if version == 4 else IPV6S) if each != src)
    kind = rng.choice(["plain"] * 6 + ["fragment", "more", "error", "error", "error"])
    dscp, first = rng.choice([0, 8, 46]), rng.random() < 0.5
    pieces: dict[str, Any] = {}
    if version == 4:
        if kind == "fragment":
            pieces = {"more": True} if first else {"offset": 24, "part": slice(16, None)}
        elif kind == "more":
            pieces = {"options": bytes((1, 1, 1, 0))}
        elif kind == "error":
            inside = frames.icmp(3, 3, bytes(4) + frames.ipv4(inside, src=dst, dst=src))
        packet = frames.ipv4(inside, src=src, dst=dst, **pieces)
        return packet[:1] + bytes((dscp << 2,)) + packet[2:]
    if kind == "fragment":
        extensions += (frames.fragment_header(offset=0 if first else 24, more=first),)
        pieces["part"] = slice(None) if first else slice(16, None)
    elif kind == "more":
        extra = [frames.authentication_header(), frames.options_header()]
        extensions += (rng.choice(extra[1 if extensions else 0 :]),)
    elif kind == "error":
        inside = frames.icmpv6(1, 4, bytes(4) + frames.ipv6(inside, src=dst, dst=src))
    packet = frames.ipv6(inside, src=src, dst=dst, extensions=extensions, **pieces)
    return bytes((0x60 | dscp >> 2, (dscp & 3) << 6)) + packet[2:]


def make_bpdu(rng: Random) -> bytes:
    """Return a BPDU behind its LLC header (IEEE 802.1D, 9.3)."""
    numbers = [rng.choice([0, 1, 2]) for _ in range(9)]
    return (
        bytes.fromhex(rng.choice(["424203", "424203", "424203", "aaaa03"]))
        + bytes((0, 0, 0, rng.choice([0, 0, 0, 1]), numbers[0]))
        + frames.u16(numbers[1])
        + rng.choice(MACS)
        + numbers[2].to_bytes(4, "big")
        + frames.u16(numbers[3])
        + rng.choice(MACS)
        + b"".join(map(frames.u16, numbers[4:]))
    )


def make_arp(rng: Random) -> bytes:
    """Return ARP, sometimes of another hardware."""
    packet = frames.arp(
        rng.choice([1, 2, 3]),
        sender_mac=rng.choice(MACS),
        sender=rng.choice(IPV4S),
        target=rng.choice(IPV4S),
        target_mac=rng.choice(MACS),
    )
    return rng.choice(
        [packet, packet, b"\0\6" + packet[2:], packet[:2] + b"\x86\xdd" + packet[4:]]
    )


def uppers_of(number: int | None) -> Sequence[int]:
    """Return protocols to choose from where a filter is about one."""
    if number is None:
        return ANY_UPPER
    return [1 if number in (1, 58) else number] * 4 + ANY_UPPER[:1]


def make_frame(number: int, protocol: str | None) -> bytes:
    """Return a frame that is as it should be, such as a rule of *protocol* may mean."""
    rng = Random(number)
    about = PROTOCOLS[protocol] if protocol is not None else None
    types = [0x800, 0x86DD, 0x806, 0x8035, 0x8100, 0, 0x88B5]
    weights = [5, 5, 2, 1, 1, 1, 1]
    if about is not None and about.ethertype is not None:
        weights = [20 if each == about.ethertype else 1 for each in types]
    elif protocol == "stp":
        weights = [1, 0, 0, 0, 0, 20, 0]
    ethertype = rng.choices(types, weights)[0]
    src, dst = rng.choice(MACS[:2]), rng.choice(MACS)
    upper = rng.choice(uppers_of(about.number if about is not None else None))
    if ethertype in (0x800, 0x86DD):
        # A vif is not given what is for bridges but as such.
        dst = MACS[rng.random() < 0.5]
        made = frames.ethernet(
            make_ip(rng, 4 if ethertype == 0x800 else 6, upper), dst=dst, src=src
        )
    elif ethertype in (0x806, 0x8035):
        made = frames.ethernet(make_arp(rng), dst=dst, src=src, ethertype=ethertype)
    elif ethertype == 0x8100:
        inner = frames.ethernet(make_ip(rng, rng.choice([4, 6]), upper), dst=dst, src=src)
        if rng.random() < 0.3:
            inner = frames.ethernet(make_arp(rng), dst=dst, src=src, ethertype=0x806)
        made = frames.tagged(inner, tci=rng.choice([0, 5, 0x6005]))
    elif ethertype == 0:
        body = make_bpdu(rng)
        made = frames.ethernet(
            body, dst=rng.choice([MACS[2], MACS[2], dst]), src=src, ethertype=len(body)
        )
    else:
        made = frames.ethernet(b"what", dst=dst, src=src, ethertype=ethertype)
    return made.ljust(60, b"\0") if rng.random() < 0.5 else made
