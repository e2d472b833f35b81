"""Where we are not compared with libvirt: each with its reason.

Words in capitals are items of multiplexer-filter(5), differences on purpose;
the others are faults of libvirt, or of the tools that it runs.
"""

from collections.abc import Iterator, Sequence

import attrs

from multiplexer.policy.nwfilter.protocols import PROTOCOLS, Layer
from multiplexer.policy.nwfilter.syntax import Action, Condition, Rule, arranged
from multiplexer.policy.nwfilter.values import Number, TcpFlags

#: IGMP-IPV6
MISTAKEN = frozenset({"igmp-ipv6"})


def is_passed_over(protocol: str, name: str) -> bool:
    """Return whether libvirt does not look at attribute *name*, or reads it as something else."""
    found = PROTOCOLS[protocol]
    return (
        # L3-MAC, IPSET, TCP-IPV6-FLAGS
        (found.layer is Layer.L3 and name in ("srcmacmask", "dstmacaddr", "dstmacmask"))
        or (name in ("ipset", "ipsetflags") and not protocol.startswith("all"))
        or (name == "flags" and protocol == "tcp-ipv6")
        # PORT-NEGATION, IPV6-RANGE, IPV6-CODE
        or (found.layer is Layer.L3 and name.startswith("dstport"))
        or (name == "dstipto" and found.ethertype == 0x86DD)
        or (name in ("code", "codeend") and protocol == "ipv6")
    )


def as_judged(rule: Rule) -> Rule | None:
    """Return what of *rule* is judged alike on a frame; None if nothing is.

    An ip or ipv6 rule keeps its ports, beside a protocol that has some.
    """
    protocol = rule.protocol
    if protocol is None:
        return rule
    # `continue` cannot be loaded into iptables.
    is_l3 = PROTOCOLS[protocol].layer is Layer.L3
    if protocol in MISTAKEN or (is_l3 and rule.action is Action.CONTINUE):
        return None
    # ADDRESS-AND-RANGE
    names = {each.attribute for each in rule.conditions}
    ranges = [f"{way}ip{end}" for way in ("src", "dst") for end in ("from", "to")]
    passed_over = {each for each in ranges if f"{each[:3]}ipaddr" in names}
    kept = [
        each
        for each in rule.conditions
        if each.attribute not in passed_over and _is_judged_alike(protocol, each)
    ]
    kept = list(_of_one_family(protocol, kept))
    if protocol in ("ip", "ipv6") and any("port" in each.attribute for each in kept):
        kept = [each for each in kept if each.attribute != "protocol"]
        kept.append(Condition("protocol", Number(6)))
    return attrs.evolve(rule, conditions=arranged(protocol, kept))


def _of_one_family(protocol: str, conditions: Sequence[Condition]) -> Iterator[Condition]:
    """Yield *conditions*, which ask for the set of the rule's family: there each has one.

    OWN-SETS: with more flags than one nothing is asked.
    """
    asked = {each.attribute: each.value for each in conditions}
    flags = asked.get("ipsetflags")
    asks = "ipset" in asked and isinstance(flags, tuple) and len(flags) == 1
    for each in conditions:
        if each.attribute == "ipset" and asks:
            assert isinstance(each.value, str)
            version = 6 if PROTOCOLS[protocol].ethertype == 0x86DD else 4
            yield attrs.evolve(each, value=name_of_set(each.value, version))
        elif each.attribute not in ("ipset", "ipsetflags") or asks:
            yield each


def name_of_set(name: str, version: int) -> str:
    """Return what the part of set *name* that is of one family is called."""
    return f"{name}{version}"


def _is_judged_alike(protocol: str, condition: Condition) -> bool:
    name, value = condition.attribute, condition.value
    if is_passed_over(protocol, name):
        return False
    # IP-DSCP, ARP-MASKS
    if (protocol, name) == ("ip", "dscp"):
        return False
    # STP-FIELDS: test_stp.py
    if protocol == "stp" and not name.startswith("srcmac"):
        return False
    # NEGATIONS
    if condition.negated and name in ("state", "ipset"):
        return False
    # Whether what was dropped is counted depends on the time: test_connlimit.py.
    if name in ("arpsrcipmask", "connlimit-above"):
        return False
    # nft's iptables leaves out flags of which it looks at none, negated or not.
    return not (isinstance(value, TcpFlags) and not value.mask)
