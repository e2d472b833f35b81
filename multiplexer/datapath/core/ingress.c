/* SPDX-License-Identifier: Apache-2.0 */
#include "ingress.h"

#include <string.h>

#include "claim.h"
#include "offload.h"

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCPV6_CLIENT_PORT 546
#define DHCPV6_SERVER_PORT 547
#define DHCPV6_RELAY_FORW 12
#define DHCPV6_RELAY_REPL 13
/* A BOOTP message up to the end of chaddr (RFC 2131, section 2). */
#define DHCP_CHADDR_END 44
/* The options, behind their magic cookie (RFC 2131, section 3), and some of them (RFC 2132). */
#define DHCP_COOKIE 236
#define DHCP_OPTIONS 240
#define DHCP_OPT_PAD 0
#define DHCP_OPT_REQUESTED 50
#define DHCP_OPT_OVERLOAD 52
#define DHCP_OPT_TYPE 53
#define DHCP_OPT_CLIENT_ID 61
#define DHCP_OPT_END 255
#define DHCP_DECLINE 4

/* ICMP types (RFC 792, RFC 1256). */
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

/* IGMP types (RFC 3376, section 4; RFC 4286, section 3; IANA for the old ones). */
#define IGMP_QUERY 0x11
#define IGMP_DVMRP 0x13
#define IGMP_PIM 0x14
#define IGMP_MRD_ADVERTISEMENT 0x30
#define IGMP_MRD_TERMINATION 0x32

/* Neighbour discovery options (RFC 4861, section 4.6). */
#define ND_OPT_SOURCE_LLA 1
#define ND_OPT_TARGET_LLA 2

static const uint8_t broadcast_mac[DP_MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t unspecified[16];
/* ff02::1:ff00:0/104 (RFC 4291, section 2.7.1). */
static const uint8_t solicited_node[13] = { 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff };

bool dp_frame_fits_mtu(const struct dp_frame *frame, uint16_t mtu)
{
	bool udp = frame->meta.gso == DP_GSO_UDP;
	size_t header;

	if (frame->meta.gso == DP_GSO_NONE)
		return frame->len <= (size_t)mtu + DP_ETH_LEN;
	if (!frame->has_l4 || frame->l4_proto != (udp ? DP_IPPROTO_UDP : DP_IPPROTO_TCP))
		return true; /* no segmentation frame at all: dp_offload_fits() says so */
	header = udp ? 8 : (size_t)(frame->data[frame->l4_off + 12] >> 4) * 4;
	return frame->l4_off + header + frame->meta.gso_size <= (size_t)mtu + DP_ETH_LEN;
}

bool dp_ingress_is_dhcp(uint16_t port)
{
	return port == DHCP_SERVER_PORT || port == DHCP_CLIENT_PORT ||
	       port == DHCPV6_CLIENT_PORT || port == DHCPV6_SERVER_PORT;
}

bool dp_frame_is_tagged(const struct dp_frame *frame)
{
	switch (frame->ethertype) {
	case 0x8100: /* IEEE 802.1Q */
	case 0x88a8: /* IEEE 802.1ad */
	case 0x9100: /* QinQ before 802.1ad, by habit of the vendors */
	case 0x9200:
	case 0x9300:
		return true;
	default:
		return false;
	}
}

bool dp_frame_is_reserved(const struct dp_frame *frame)
{
	static const uint8_t prefix[5] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };

	return memcmp(frame->data, prefix, sizeof(prefix)) == 0 && frame->data[5] < 0x10;
}

static bool ethertype_allowed(const struct dp_binding *bind, const struct dp_frame *frame)
{
	if (frame->l3 != DP_L3_OTHER || bind->flags & DP_VIF_ANY_ETHERTYPE)
		return true;
	for (unsigned int i = 0; i < bind->n_ethertypes; i++)
		if (bind->ethertypes[i] == frame->ethertype)
			return true;
	return false;
}

static enum dp_verdict check_arp(const struct dp_binding *bind, const struct dp_frame *frame)
{
	const uint8_t *arp = frame->data + DP_ETH_LEN;

	if (memcmp(arp + 8, bind->mac, DP_MAC_LEN) != 0)
		return DP_DROP_ARP_SENDER;
	if (dp_binding_has_ipv4(bind, arp + 14))
		return DP_PASS;
	/* A probe makes its target the prober's if nobody objects (RFC 5227, section 1.1). */
	if (dp_get16(arp + 6) == 1 && dp_get32(arp + 14) == 0 &&
	    dp_binding_has_ipv4(bind, arp + 24))
		return DP_PASS;
	return DP_DROP_ARP_SENDER;
}

/*
 * Whether a client's options speak of itself: servers know a client by its identifier
 * (option 61), which is its MAC if it says so, and take back an address that is declined.
 * What could be read in two ways is refused: options elsewhere, and one twice (RFC 3396).
 */
static bool dhcp_options_are_own(const struct dp_binding *bind, const uint8_t *options, size_t len)
{
	const uint8_t *requested = NULL;
	bool decline = false, identified = false, typed = false;
	size_t at = 0;

	while (at < len && options[at] != DHCP_OPT_END) {
		const uint8_t *value = options + at + 2;
		uint8_t code = options[at], n;

		if (code == DHCP_OPT_PAD) {
			at++;
			continue;
		}
		if (len - at < 2 || options[at + 1] > len - at - 2)
			return false;
		n = options[at + 1];
		switch (code) {
		case DHCP_OPT_OVERLOAD:
			return false;
		case DHCP_OPT_TYPE:
			if (typed || n != 1)
				return false;
			typed = true;
			decline = value[0] == DHCP_DECLINE;
			break;
		case DHCP_OPT_REQUESTED:
			if (requested || n != 4)
				return false;
			requested = value;
			break;
		case DHCP_OPT_CLIENT_ID:
			if (identified || (n >= 1 && value[0] == 1 &&
					   (n != 1 + DP_MAC_LEN ||
					    memcmp(value + 1, bind->mac, DP_MAC_LEN) != 0)))
				return false;
			identified = true;
			break;
		default:
			break;
		}
		at += 2u + n;
	}
	return !decline || !requested || dp_binding_has_ipv4(bind, requested);
}

static enum dp_verdict check_dhcp(const struct dp_binding *bind, const struct dp_frame *frame)
{
	const uint8_t *udp = frame->data + frame->l4_off;
	uint16_t from = dp_get16(udp), to = dp_get16(udp + 2);

	/* Clients listen to whatever source port, and so do servers. */
	if (to == DHCP_CLIENT_PORT || (to == DHCP_SERVER_PORT && from == DHCP_SERVER_PORT))
		return bind->flags & DP_VIF_DHCP_SERVER ? DP_PASS : DP_DROP_DHCP_SERVER;
	if (to == DHCP_SERVER_PORT) {
		const uint8_t *dhcp = udp + 8;
		size_t len = frame->l3_end - frame->l4_off - 8;

		/* A later fragment could lie over what is read here. */
		if (frame->fragment || frame->l3_end - frame->l4_off < 8 + DHCP_CHADDR_END)
			return DP_DROP_DHCP_CLIENT;
		if (dhcp[0] != 1 || dhcp[1] != 1 || dhcp[2] != DP_MAC_LEN ||
		    dp_get32(dhcp + 24) != 0 || memcmp(dhcp + 28, bind->mac, DP_MAC_LEN) != 0)
			return DP_DROP_DHCP_CLIENT;
		/* What is released or renewed is ciaddr. */
		if (dp_get32(dhcp + 12) != 0 && !dp_binding_has_ipv4(bind, dhcp + 12))
			return DP_DROP_DHCP_CLIENT;
		if (len > DHCP_OPTIONS && dp_get32(dhcp + DHCP_COOKIE) == 0x63825363 &&
		    !dhcp_options_are_own(bind, dhcp + DHCP_OPTIONS, len - DHCP_OPTIONS))
			return DP_DROP_DHCP_CLIENT;
	}
	return DP_PASS;
}

/* An error speaks of a packet that its sender received: so it was sent to a bound address. */
static enum dp_verdict check_icmp_error(const struct dp_binding *bind, const struct dp_frame *frame,
					bool ipv6)
{
	const uint8_t *inner = frame->data + frame->l4_off + 8;
	size_t room = frame->l3_end - frame->l4_off - 8;
	bool ours;

	if (bind->flags & DP_VIF_ROUTER)
		return DP_PASS;
	if (ipv6)
		ours = room >= 40 && inner[0] >> 4 == 6 && dp_binding_has_ipv6(bind, inner + 24);
	else
		ours = room >= 20 && inner[0] >> 4 == 4 && dp_binding_has_ipv4(bind, inner + 16);
	return ours ? DP_PASS : DP_DROP_ICMP_ERROR;
}

static enum dp_verdict check_icmp(const struct dp_binding *bind, const struct dp_frame *frame)
{
	switch (frame->data[frame->l4_off]) {
	case ICMP_ROUTER_ADVERTISEMENT:
		return bind->flags & DP_VIF_ROUTER ? DP_PASS : DP_DROP_RA_GUARD;
	case ICMP_REDIRECT:
		return bind->flags & DP_VIF_ROUTER ? DP_PASS : DP_DROP_REDIRECT;
	case ICMP_UNREACHABLE:
	case ICMP_SOURCE_QUENCH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		return check_icmp_error(bind, frame, false);
	default:
		return DP_PASS;
	}
}

/*
 * Switches that snoop take whoever queries for a router, and send it every group's
 * frames and the network's reports; hosts take a VRRP master for their gateway.
 */
static bool is_router_message(const struct dp_frame *frame)
{
	const uint8_t *message = frame->data + frame->l4_off;

	switch (frame->l4_proto) {
	case DP_IPPROTO_PIM:
	case DP_IPPROTO_VRRP:
		return true;
	case DP_IPPROTO_IGMP:
		break;
	default:
		return false;
	}
	if (frame->l3 != DP_L3_IPV4 || frame->l3_end <= frame->l4_off)
		return false;
	switch (message[0]) {
	case IGMP_QUERY:
	case IGMP_DVMRP:
	case IGMP_PIM:
	case IGMP_MRD_ADVERTISEMENT:
	case IGMP_MRD_TERMINATION:
		return true;
	default:
		return false;
	}
}

/* DHCP's first message is the only one without an address (RFC 2131, section 4.1). */
static bool may_be_unspecified_ipv4(const struct dp_frame *frame)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;
	const uint8_t *udp = frame->data + frame->l4_off;

	return dp_get32(ip + 12) == 0 && dp_get32(ip + 16) == 0xffffffff && frame->has_l4 &&
	       !frame->fragment && frame->l4_proto == DP_IPPROTO_UDP &&
	       dp_get16(udp) == DHCP_CLIENT_PORT && dp_get16(udp + 2) == DHCP_SERVER_PORT &&
	       memcmp(frame->data, broadcast_mac, DP_MAC_LEN) == 0;
}

static enum dp_verdict check_ipv4(const struct dp_binding *bind, const struct dp_frame *frame)
{
	if (!dp_binding_has_ipv4(bind, frame->data + DP_ETH_LEN + 12) &&
	    !may_be_unspecified_ipv4(frame))
		return DP_DROP_IPV4_SRC;
	if (!frame->has_l4)
		return DP_PASS;
	if (is_router_message(frame) && !(bind->flags & DP_VIF_ROUTER))
		return DP_DROP_ROUTER_MESSAGE;
	if (frame->l4_proto == DP_IPPROTO_UDP)
		return check_dhcp(bind, frame);
	if (frame->l4_proto == DP_IPPROTO_ICMP)
		return check_icmp(bind, frame);
	return DP_PASS;
}

/* Duplicate address detection, group membership and router solicitation (RFC 4862, RFC 3590). */
static bool may_be_unspecified_ipv6(const struct dp_frame *frame)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;

	if (memcmp(ip + 8, unspecified, 16) != 0 || !frame->has_l4 || frame->fragment ||
	    frame->l4_proto != DP_IPPROTO_ICMPV6)
		return false;
	switch (frame->data[frame->l4_off]) {
	case DP_ICMPV6_NS:
		return memcmp(ip + 24, solicited_node, sizeof(solicited_node)) == 0;
	case DP_ICMPV6_RS:
	case DP_ICMPV6_MLD_REPORT:
	case DP_ICMPV6_MLD_DONE:
	case DP_ICMPV6_MLD2_REPORT:
		return true;
	default:
		return false;
	}
}

static enum dp_verdict check_nd(const struct dp_binding *bind, const struct dp_frame *frame)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;
	const uint8_t *nd = frame->data + frame->l4_off;
	size_t len = frame->l3_end - frame->l4_off;
	size_t at = nd[0] == DP_ICMPV6_RS ? 8 : 24;
	bool dad = memcmp(ip + 8, unspecified, 16) == 0;

	/* RFC 4861, section 7.1; fragments: RFC 6980, section 5. */
	if (frame->fragment || ip[7] != 255 || nd[1] != 0 || len < at)
		return DP_DROP_ND_SPOOF;
	/* Who detects duplicates claims the target, as who advertises it does. */
	if ((nd[0] == DP_ICMPV6_NA || (nd[0] == DP_ICMPV6_NS && dad)) &&
	    !dp_binding_has_ipv6(bind, nd + 8) && !dp_claim_is_made(bind, frame))
		return DP_DROP_ND_SPOOF;
	while (at < len) {
		size_t option;

		if (len - at < 8)
			return DP_DROP_ND_SPOOF;
		option = (size_t)nd[at + 1] * 8;
		if (option == 0 || option > len - at)
			return DP_DROP_ND_SPOOF;
		if (nd[at] == ND_OPT_SOURCE_LLA || nd[at] == ND_OPT_TARGET_LLA) {
			if (option != 8 || memcmp(nd + at + 2, bind->mac, DP_MAC_LEN) != 0 ||
			    (dad && nd[at] == ND_OPT_SOURCE_LLA))
				return DP_DROP_ND_SPOOF;
		}
		at += option;
	}
	return DP_PASS;
}

static enum dp_verdict check_icmpv6(const struct dp_binding *bind, const struct dp_frame *frame)
{
	uint8_t type = frame->data[frame->l4_off];
	bool router = bind->flags & DP_VIF_ROUTER;

	switch (type) {
	case DP_ICMPV6_RS:
	case DP_ICMPV6_NS:
	case DP_ICMPV6_NA:
		return check_nd(bind, frame);
	case DP_ICMPV6_RENUMBERING:
	case DP_ICMPV6_INVERSE_NS:
	case DP_ICMPV6_INVERSE_NA:
		return router && !frame->fragment ? DP_PASS : DP_DROP_ND_SPOOF;
	case DP_ICMPV6_RA:
		if (router && frame->fragment)
			return DP_DROP_ND_SPOOF; /* RFC 6980, section 5 */
		return router ? DP_PASS : DP_DROP_RA_GUARD;
	case DP_ICMPV6_REDIRECT:
		if (router && frame->fragment)
			return DP_DROP_ND_SPOOF;
		return router ? DP_PASS : DP_DROP_REDIRECT;
	case DP_ICMPV6_MLD_QUERY:
	case DP_ICMPV6_MRD_ADVERTISEMENT:
	case DP_ICMPV6_MRD_TERMINATION:
		return router ? DP_PASS : DP_DROP_ROUTER_MESSAGE;
	default:
		/* Types below 128 are errors, the unknown ones too (RFC 4443, section 2.1). */
		return type < 128 ? check_icmp_error(bind, frame, true) : DP_PASS;
	}
}

/* Whether a datagram is a server's or a relay's (RFC 8415, sections 7.2 and 7.3). */
static bool is_dhcpv6_of_server(const struct dp_frame *frame, const uint8_t *udp)
{
	uint16_t from = dp_get16(udp), to = dp_get16(udp + 2);

	if (to == DHCPV6_CLIENT_PORT)
		return true;
	if (to != DHCPV6_SERVER_PORT)
		return false;
	return from == DHCPV6_SERVER_PORT || frame->l3_end - frame->l4_off <= 8 ||
	       udp[8] == DHCPV6_RELAY_FORW || udp[8] == DHCPV6_RELAY_REPL;
}

static enum dp_verdict check_ipv6(const struct dp_binding *bind, const struct dp_frame *frame)
{
	if (!dp_binding_has_ipv6(bind, frame->data + DP_ETH_LEN + 8) &&
	    !may_be_unspecified_ipv6(frame))
		return DP_DROP_IPV6_SRC;
	if (!frame->has_l4)
		return frame->malformed; /* DP_DROP_EXT_HEADER, or nothing wrong with it */
	if (is_router_message(frame) && !(bind->flags & DP_VIF_ROUTER))
		return DP_DROP_ROUTER_MESSAGE;
	if (frame->l4_proto == DP_IPPROTO_ICMPV6)
		return check_icmpv6(bind, frame);
	if (frame->l4_proto == DP_IPPROTO_UDP) {
		const uint8_t *udp = frame->data + frame->l4_off;

		if (!(bind->flags & DP_VIF_DHCP_SERVER) && is_dhcpv6_of_server(frame, udp))
			return DP_DROP_DHCP_SERVER;
	}
	return DP_PASS;
}

enum dp_verdict dp_ingress_check(const struct dp_binding *bind, uint16_t mtu,
				 const struct dp_frame *frame)
{
	const struct dp_meta *meta = &frame->meta;

	if (frame->len < DP_ETH_LEN)
		return DP_DROP_RUNT;
	if (frame->len > DP_MAX_FRAME || !dp_frame_fits_mtu(frame, mtu))
		return DP_DROP_OVERSIZE;
	if ((meta->csum == DP_CSUM_NEEDED || meta->gso != DP_GSO_NONE) &&
	    (frame->malformed != DP_PASS || !dp_offload_fits(frame)))
		return DP_DROP_OFFLOAD_HEADER;
	if (meta->gso != DP_GSO_NONE && dp_is_group(frame->data))
		return DP_DROP_OFFLOAD_HEADER;
	if (!bind || memcmp(frame->data + DP_MAC_LEN, bind->mac, DP_MAC_LEN) != 0 ||
	    dp_is_group(frame->data + DP_MAC_LEN))
		return DP_DROP_SRC_MAC;
	if (dp_frame_is_reserved(frame))
		return DP_DROP_RESERVED_MAC;
	if (dp_frame_is_tagged(frame))
		return DP_DROP_VLAN_TAG;
	if (!ethertype_allowed(bind, frame))
		return DP_DROP_ETHERTYPE;
	if (frame->malformed != DP_PASS && frame->malformed != DP_DROP_EXT_HEADER)
		return (enum dp_verdict)frame->malformed;
	switch (frame->l3) {
	case DP_L3_ARP:
		return check_arp(bind, frame);
	case DP_L3_IPV4:
		return check_ipv4(bind, frame);
	case DP_L3_IPV6:
		return check_ipv6(bind, frame);
	default:
		return DP_PASS;
	}
}
