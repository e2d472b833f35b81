"""Who is bound to what: the reference's picture of all networks and vifs."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@frozen(kw_only=True)
class Limits:
    """What a vif may send each second; 0 is no limit."""

    frames_per_s: int = 0
    bytes_per_s: int = 0
    broadcast_per_s: int = 0
    copies_per_s: int = 0


@frozen(kw_only=True)
class Claim:
    """A link-local address that a vif has claimed; *firm* once nobody objected in time."""

    address: IPv6Address
    since_ns: int
    firm: bool = False


@frozen(kw_only=True)
class Vif:
    """A virtual interface and what it may claim.

    *prefixes* holds every bound address, single ones as /32 or /128.  *host* is
    that of the machine itself, which reaches the wire by its NIC and not by this.
    """

    port: int
    network: int
    mac: bytes
    prefixes: tuple[IPNetwork, ...] = ()
    ethertypes: frozenset[int] = frozenset()
    router: bool = False
    dhcp_server: bool = False
    any_ethertype: bool = False
    host: bool = False
    first_come: bool = False
    claims: tuple[Claim, ...] = ()
    limits: Limits = Limits()
    up: bool = True

    def has(self, address: IPAddress) -> bool:
        """Return whether *address* is bound to this vif, or firmly claimed by it."""
        firm = [claim.address for claim in self.claims if claim.firm]
        return address in firm or any(address in prefix for prefix in self.prefixes)


@frozen(kw_only=True)
class Network:
    """A broadcast domain; *mtu* counts the IP packet's bytes.

    *uplink* is a port, or None; *uplink_up* is the state of its link.
    """

    id: int
    hub: bool = False
    uplink: int | None = None
    uplink_up: bool = True
    mtu: int = 1500


@frozen
class World:
    """All networks and vifs; *idle_uplinks* are ports that no network is bridged to."""

    networks: tuple[Network, ...]
    vifs: tuple[Vif, ...]
    idle_uplinks: tuple[int, ...] = ()

    def network(self, number: int) -> Network:
        """Return the network with this id."""
        (found,) = (network for network in self.networks if network.id == number)
        return found

    def network_on(self, uplink: int) -> Network | None:
        """Return the network that is bridged to an uplink port."""
        return next((network for network in self.networks if network.uplink == uplink), None)

    def vif(self, port: int) -> Vif:
        """Return the vif at a port."""
        (found,) = (vif for vif in self.vifs if vif.port == port)
        return found

    def members(self, network: Network) -> list[Vif]:
        """Return the vifs of a network."""
        return [vif for vif in self.vifs if vif.network == network.id]

    def holder_of_mac(self, network: Network, mac: bytes) -> Vif | None:
        """Return the vif of a network that is bound to *mac*."""
        return next((vif for vif in self.members(network) if vif.mac == mac), None)

    def holder_of(self, network: Network, address: IPAddress) -> Vif | None:
        """Return the vif that *address* is bound to or claimed by, the narrowest prefix first."""
        for vif in self.members(network):
            if address in [claim.address for claim in vif.claims]:
                return vif
        claims = [
            (prefix.prefixlen, vif)
            for vif in self.members(network)
            for prefix in vif.prefixes
            if address in prefix
        ]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None
