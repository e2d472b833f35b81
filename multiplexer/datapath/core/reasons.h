/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reasons.h - Every way a frame can end, in the order in which they are tried
 *
 * One line per drop reason: the enum's suffix, the name that administrators and
 * users see, and what it says of the frame.  The counter of a reason stands at
 * its verdict's index in struct dp_counters.  multiplexerctl(8) has a line for
 * each; a test compares them.
 */
#ifndef DP_REASONS_H
#define DP_REASONS_H

#define DP_REASONS(X)                                                          \
	X(RUNT, "runt", "shorter than an Ethernet header")                     \
	X(OVERSIZE, "oversize", "longer than the network's MTU")               \
	X(OFFLOAD_HEADER, "offload_header", "offload header does not fit")     \
	X(SRC_MAC, "src_mac", "source MAC is not the bound one")               \
	X(RESERVED_MAC, "reserved_mac", "to a reserved link-local group")      \
	X(VLAN_TAG, "vlan_tag", "tagged, from a vif")                          \
	X(ETHERTYPE, "ethertype", "EtherType is not allowed")                  \
	X(IPV4_MALFORMED, "ipv4_malformed", "IPv4 header does not fit")        \
	X(IPV4_SRC, "ipv4_src", "IPv4 source is not bound")                    \
	X(ARP_MALFORMED, "arp_malformed", "not Ethernet/IPv4 ARP")             \
	X(ARP_SENDER, "arp_sender", "ARP sender is not bound")                 \
	X(IPV6_MALFORMED, "ipv6_malformed", "IPv6 header does not fit")        \
	X(IPV6_SRC, "ipv6_src", "IPv6 source is not bound")                    \
	X(ND_SPOOF, "nd_spoof", "neighbour discovery claims what is not bound") \
	X(RA_GUARD, "ra_guard", "router advertisement")                        \
	X(REDIRECT, "redirect", "ICMP redirect")                               \
	X(ROUTER_MESSAGE, "router_message", "what only routers tell hosts and switches") \
	X(DHCP_SERVER, "dhcp_server", "DHCP server message")                   \
	X(DHCP_CLIENT, "dhcp_client", "DHCP for another MAC, or relayed")      \
	X(ICMP_ERROR, "icmp_error", "ICMP error about a packet of others")     \
	X(EXT_HEADER, "ext_header", "IPv6 extension headers do not fit")       \
	X(FILTER_OUT, "filter_out", "the vif's filter does not let it out")     \
	X(RATE_LIMIT, "rate_limit", "over the vif's frames or bytes a second") \
	X(BROADCAST_LIMIT, "broadcast_limit", "over the vif's broadcasts or copies a second") \
	X(UPLINK_VLAN, "uplink_vlan", "tagged, from the wire")                 \
	X(UPLINK_SPOOF, "uplink_spoof", "from the wire, with a source bound here") \
	X(NO_RECEIVER, "no_receiver", "nobody here holds the destination")     \
	X(EGRESS_MTU, "egress_mtu", "longer than the receiver's MTU")          \
	X(FILTER_IN, "filter_in", "the receiver's filter does not let it in")   \
	X(FLOW_LIMIT, "flow_limit", "the vif's filter has to follow too many connections") \
	X(DETACHED, "detached", "the receiver is not attached, or is down")    \
	X(QUEUE_FULL, "queue_full", "the receiver did not read in time")

#endif
