"""How many and how large things may be: by the datapath's tables, by standards, by reason."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from pfinet_proto.attach import MAX_MTU as MAX_MTU
from pfinet_proto.attach import MIN_MTU as MIN_MTU

IPVersion: TypeAlias = Literal[4, 6]

# Sizes of the datapath's tables (datapath/core/table.h, limit.h).
MAX_NETWORKS: Final = 256
MAX_PORTS: Final = 4096
FIRST_VIF_PORT: Final = 64
FIRST_HOST_PORT: Final = MAX_PORTS - MAX_NETWORKS
MAX_VIFS: Final = FIRST_HOST_PORT - FIRST_VIF_PORT
MAX_NIC_UPLINKS: Final = FIRST_VIF_PORT
MAX_BOUND: Final[Mapping[IPVersion, int]] = MappingProxyType({4: 16, 6: 32})
MAX_ETHERTYPES: Final = 8

#: What a grant may give one vif, so that there is room for those that its stack makes.
MAX_ADDRESSES_PER_VIF: Final = 16
MAX_RATE: Final = 8_000_000_000

#: Of memory for what one user's clients do not read: a terabyte is a slip of the pen.
MAX_QUEUE_MIB: Final = 65536

#: Linux has numbers for 8192 processors at most (CONFIG_NR_CPUS).
MAX_CPU: Final = 8191

MIN_IPV6_MTU: Final = 1280  # RFC 8200, section 5

#: The uid that stands for "no such user here" in a user namespace.
OVERFLOW_UID: Final = 65534
MAX_UID: Final = 2**32 - 2  # the last one means "no change" to setuid(2)
