"""Hypothesis strategies for the values of the protocol."""

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import TypeVar

from hypothesis import strategies as st

from pfinet_proto import attach
from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, VifName

T = TypeVar("T")

macs = st.binary(min_size=6, max_size=6).map(MacAddress)
vif_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True).map(VifName)


def printable(max_bytes: int, min_size: int = 0) -> st.SearchStrategy[str]:
    """Text without control characters, of at most *max_bytes* in UTF-8."""
    return st.text(min_size=min_size, max_size=max_bytes).filter(
        lambda text: text.isprintable() and len(text.encode()) <= max_bytes
    )


def _interface(data: tuple[int, bytes, int]) -> IPInterface:
    family, packed, plen = data
    if family == 4:
        return IPv4Interface((packed[:4], plen % 33))
    return IPv6Interface((packed, plen % 129))


interfaces = st.tuples(
    st.sampled_from([4, 6]), st.binary(min_size=16, max_size=16), st.integers(0, 128)
).map(_interface)


def _network(interface: IPInterface) -> IPNetwork:
    kind = IPv4Network if isinstance(interface, IPv4Interface) else IPv6Network
    return kind(interface.network)


networks = interfaces.map(_network)
addresses = interfaces.map(lambda interface: interface.ip)
domains = st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9-]{1,20}[a-z0-9]){0,3}", fullmatch=True)
cookies = st.binary(min_size=attach.COOKIE_LEN, max_size=attach.COOKIE_LEN)
offloads = st.integers(0, 15).map(attach.Offload)
transports = st.sampled_from(list(attach.Transport))


def tuples_of(items: st.SearchStrategy[T], max_size: int) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=max_size).map(tuple)


bindings = st.builds(
    attach.Binding,
    vif=vif_names,
    network=printable(attach.MAX_NETWORK_BYTES),
    mac=macs,
    mtu=st.integers(attach.MIN_MTU, attach.MAX_MTU),
    addresses=tuples_of(interfaces, 8),
    prefixes=tuples_of(networks, 8),
    gateways=tuples_of(addresses, attach.MAX_GATEWAYS),
    dns=tuples_of(addresses, attach.MAX_DNS),
    search=tuples_of(domains, attach.MAX_SEARCH),
)

_versions = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)).map(sorted)

hellos = _versions.flatmap(
    lambda versions: st.builds(
        attach.Hello,
        version_min=st.just(versions[0]),
        version_max=st.just(versions[1]),
        offload=offloads,
        transports=tuples_of(transports, attach.MAX_TRANSPORTS),
        cookie=st.none() | cookies,
        client=printable(attach.MAX_CLIENT_BYTES),
    )
)
welcomes = st.builds(
    attach.Welcome,
    version=st.integers(0, 0xFFFF),
    transport=transports,
    offload=offloads,
    cookie=cookies,
    binding=bindings,
)
texts = printable(attach.MAX_TEXT_BYTES)
refusals = st.builds(attach.Refused, code=st.sampled_from(list(attach.RefusedCode)), text=texts)
goodbyes = st.builds(attach.Goodbye, code=st.sampled_from(list(attach.GoodbyeCode)), text=texts)
updates = st.builds(attach.Update, bindings)
messages = hellos | welcomes | refusals | updates | goodbyes | st.builds(attach.Tap)
