"""A filter tree laid out flat: rules in the order in which they are judged, nothing unknown.

This is what the compiler takes: which filters the rules came from matters only
for their chains and for messages.
"""

from ipaddress import IPv4Address, IPv6Address

import attrs

from pfinet_proto.values import MacAddress

from .syntax import Action, Direction, Rule
from .values import Side, State, TcpFlags

# Numbers and prefix lengths are plain integers here; a MAC mask is an address.
Resolved = (
    int
    | MacAddress
    | IPv4Address
    | IPv6Address
    | bool
    | str
    | TcpFlags
    | frozenset[State]
    | tuple[Side, ...]
)


@attrs.frozen
class Match:
    """What a frame must be for one attribute to match.

    *negated* is what counts: of an attribute that completes another (mask, end
    of a range, code), it is the other's.  Such a group is one match, negated as
    a whole.
    """

    attribute: str
    value: Resolved
    negated: bool = False


@attrs.frozen
class ResolvedRule:
    """A rule as *filter* has it, whose variables have become *matches*.

    Only matches that have an effect are there: no comment, no mask without an
    address, no end without a start, no gratuitous='false', no empty state.
    *chain_priority* is what the filter says; *position* counts the rules of the
    tree in document order, from 0.
    """

    filter: str
    chain: str
    chain_priority: int
    rule: Rule
    matches: tuple[Match, ...]
    position: int

    @property
    def action(self) -> Action:
        return self.rule.action

    @property
    def direction(self) -> Direction:
        return self.rule.direction

    @property
    def protocol(self) -> str | None:
        return self.rule.protocol

    @property
    def priority(self) -> int:
        return self.rule.priority

    def match(self, attribute: str) -> Match | None:
        """Return the match of *attribute*, if there is one."""
        return next((match for match in self.matches if match.attribute == attribute), None)
