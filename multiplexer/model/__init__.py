"""What the daemon knows of uplinks, networks and vifs: frozen values, no I/O.

`multiplexer.config` makes a Config of the administrator's file,
`multiplexer.daemon.authorize` makes Vifs of requests, and `multiplexer.policy`
compiles both to the datapath's tables.  Each value checks on construction what
it can say of itself alone; what takes a look at others is checked by those two.
"""

from .addresses import (
    AddressRange,
    is_inside,
)
from .config import (
    Config,
    ConfigError,
    Daemon,
    Grant,
    Origin,
    StaticVif,
    id_of_network,
    port_of_host,
    port_of_uplink,
    renumbered,
)
from .filter_binding import (
    FilterBinding,
)
from .limits import (
    Limits,
    OwnLimits,
)
from .network import (
    LinkLocal,
    Mode,
    Network,
    Uplink,
    UplinkKind,
    has_uplink_port,
)
from .numbering import (
    Numbering,
    NumbersExhausted,
)
from .sizes import (
    FIRST_HOST_PORT,
    FIRST_VIF_PORT,
    MAX_ADDRESSES_PER_VIF,
    MAX_BOUND,
    MAX_CPU,
    MAX_ETHERTYPES,
    MAX_MTU,
    MAX_NETWORKS,
    MAX_NIC_UPLINKS,
    MAX_PORTS,
    MAX_QUEUE_MIB,
    MAX_RATE,
    MAX_UID,
    MAX_VIFS,
    MIN_IPV6_MTU,
    MIN_MTU,
    OVERFLOW_UID,
    IPVersion,
)
from .vif import (
    MAX_ETHERTYPE,
    MIN_ETHERTYPE,
    NO_MAC,
    UNGRANTABLE_ETHERTYPES,
    Role,
    Trust,
    Vif,
    stable_mac,
)

__all__ = [
    "FIRST_HOST_PORT",
    "FIRST_VIF_PORT",
    "MAX_ADDRESSES_PER_VIF",
    "MAX_BOUND",
    "MAX_CPU",
    "MAX_ETHERTYPE",
    "MAX_ETHERTYPES",
    "MAX_MTU",
    "MAX_NETWORKS",
    "MAX_NIC_UPLINKS",
    "MAX_PORTS",
    "MAX_QUEUE_MIB",
    "MAX_RATE",
    "MAX_UID",
    "MAX_VIFS",
    "MIN_ETHERTYPE",
    "MIN_IPV6_MTU",
    "MIN_MTU",
    "NO_MAC",
    "OVERFLOW_UID",
    "UNGRANTABLE_ETHERTYPES",
    "AddressRange",
    "Config",
    "ConfigError",
    "Daemon",
    "FilterBinding",
    "Grant",
    "IPVersion",
    "Limits",
    "LinkLocal",
    "Mode",
    "Network",
    "Numbering",
    "NumbersExhausted",
    "Origin",
    "OwnLimits",
    "Role",
    "StaticVif",
    "Trust",
    "Uplink",
    "UplinkKind",
    "Vif",
    "has_uplink_port",
    "id_of_network",
    "is_inside",
    "port_of_host",
    "port_of_uplink",
    "renumbered",
    "stable_mac",
]
