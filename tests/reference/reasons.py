"""The reasons for a drop, in the order in which they are tried.

Written down again from the design, not taken from the C under test.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a frame was dropped; of several that apply, the first here is the one named."""

    RUNT = "runt"
    OVERSIZE = "oversize"
    OFFLOAD_HEADER = "offload_header"
    SRC_MAC = "src_mac"
    RESERVED_MAC = "reserved_mac"
    VLAN_TAG = "vlan_tag"
    ETHERTYPE = "ethertype"
    IPV4_MALFORMED = "ipv4_malformed"
    IPV4_SRC = "ipv4_src"
    ARP_MALFORMED = "arp_malformed"
    ARP_SENDER = "arp_sender"
    IPV6_MALFORMED = "ipv6_malformed"
    IPV6_SRC = "ipv6_src"
    ND_SPOOF = "nd_spoof"
    RA_GUARD = "ra_guard"
    REDIRECT = "redirect"
    ROUTER_MESSAGE = "router_message"
    DHCP_SERVER = "dhcp_server"
    DHCP_CLIENT = "dhcp_client"
    ICMP_ERROR = "icmp_error"
    EXT_HEADER = "ext_header"
    FILTER_OUT = "filter_out"
    RATE_LIMIT = "rate_limit"
    BROADCAST_LIMIT = "broadcast_limit"
    UPLINK_VLAN = "uplink_vlan"
    UPLINK_SPOOF = "uplink_spoof"
    NO_RECEIVER = "no_receiver"
    EGRESS_MTU = "egress_mtu"
    FILTER_IN = "filter_in"
    FLOW_LIMIT = "flow_limit"
    DETACHED = "detached"
    QUEUE_FULL = "queue_full"


DELIVERY = frozenset({Reason.DETACHED, Reason.QUEUE_FULL})
"""Found out when a frame is handed over, after all that the reference decides."""

FILTER = frozenset({Reason.FILTER_OUT, Reason.FILTER_IN, Reason.FLOW_LIMIT})
"""Of filters, which the reference knows nothing of: they are compared with an evaluator."""
