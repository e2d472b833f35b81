/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define ARP_LEN 28
#define DHCP_SERVER_PORT 67

/* IPv4 options (RFC 791, section 3.1): the source routes are refused. */
#define IPOPT_END 0
#define IPOPT_NOP 1
#define IPOPT_LSRR 131
#define IPOPT_SSRR 137

/* IPv6 options (RFC 8200, section 4.2; RFC 6275, section 6.3). */
#define OPT_PAD1 0
#define OPT_HOME_ADDRESS 0xc9

/* IPv6 extension headers (IANA, "IPv6 Extension Header Types"). */
enum {
	EXT_HOP_BY_HOP = 0,
	EXT_ROUTING = 43,
	EXT_FRAGMENT = 44,
	EXT_ESP = 50,
	EXT_AUTH = 51,
	EXT_NONE = 59,
	EXT_DEST_OPTS = 60,
	EXT_MOBILITY = 135,
	EXT_HIP = 139,
	EXT_SHIM6 = 140,
	EXT_EXPERIMENT_1 = 253,
	EXT_EXPERIMENT_2 = 254,
};

static const char *const verdict_names[DP_N_VERDICTS] = {
	[DP_PASS] = "pass",
#define NAME(name, text, meaning) [DP_DROP_##name] = text,
	DP_REASONS(NAME)
#undef NAME
};

static const char *const verdict_meanings[DP_N_VERDICTS] = {
	[DP_PASS] = "delivered",
#define MEANING(name, text, meaning) [DP_DROP_##name] = meaning,
	DP_REASONS(MEANING)
#undef MEANING
};

const char *dp_verdict_name(enum dp_verdict verdict)
{
	return (unsigned int)verdict < DP_N_VERDICTS ? verdict_names[verdict] : "unknown";
}

const char *dp_verdict_meaning(enum dp_verdict verdict)
{
	return (unsigned int)verdict < DP_N_VERDICTS ? verdict_meanings[verdict] : "unknown";
}

/* The least that must stand at the transport header for others to read it. */
static size_t transport_header_len(uint8_t proto, bool ipv6)
{
	switch (proto) {
	case DP_IPPROTO_TCP:
		return 20;
	case DP_IPPROTO_UDP:
		return 8;
	case DP_IPPROTO_ICMP:
		return ipv6 ? 0 : 8;
	case DP_IPPROTO_ICMPV6:
		return ipv6 ? 8 : 0;
	default:
		return 0;
	}
}

static void parse_arp(struct dp_frame *frame)
{
	const uint8_t *arp = frame->data + DP_ETH_LEN;
	uint16_t opcode;

	frame->l3 = DP_L3_ARP;
	frame->malformed = DP_DROP_ARP_MALFORMED;
	if (frame->len < DP_ETH_LEN + ARP_LEN)
		return;
	/* RFC 826: Ethernet (1) and IPv4, with their address lengths. */
	if (dp_get16(arp) != 1 || dp_get16(arp + 2) != DP_ETHERTYPE_IPV4 || arp[4] != DP_MAC_LEN ||
	    arp[5] != 4)
		return;
	opcode = dp_get16(arp + 6);
	if (opcode == 1 || opcode == 2)
		frame->malformed = DP_PASS;
}

/* Whether the options between the fixed header and @ihl are well formed, without source routes. */
static bool ipv4_options_fit(const uint8_t *ip, size_t ihl)
{
	size_t i = IPV4_HEADER;

	while (i < ihl) {
		size_t len;

		if (ip[i] == IPOPT_END)
			return true;
		if (ip[i] == IPOPT_NOP) {
			i++;
			continue;
		}
		if (ip[i] == IPOPT_LSRR || ip[i] == IPOPT_SSRR || i + 1 >= ihl)
			return false;
		len = ip[i + 1];
		if (len < 2 || len > ihl - i)
			return false;
		i += len;
	}
	return true;
}

static void parse_ipv4(struct dp_frame *frame)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;
	size_t room = frame->len - DP_ETH_LEN;
	size_t ihl, total, payload, offset, need;

	frame->l3 = DP_L3_IPV4;
	frame->malformed = DP_DROP_IPV4_MALFORMED;
	if (room < IPV4_HEADER || ip[0] >> 4 != 4)
		return;
	ihl = (size_t)(ip[0] & 0x0f) * 4;
	total = dp_get16(ip + 2);
	if (ihl < IPV4_HEADER || ihl > total || total > room || !ipv4_options_fit(ip, ihl))
		return;

	payload = total - ihl;
	offset = (size_t)(dp_get16(ip + 6) & 0x1fff) * 8;
	frame->l3_end = (uint32_t)(DP_ETH_LEN + total);
	frame->l4_proto = ip[9];
	frame->fragment = offset > 0 || (ip[6] & 0x20);
	frame->first_fragment = offset == 0;
	if (offset + payload > 65535)
		return;
	/* It would lie over the flags of a header that had to be whole (RFC 3128, section 2). */
	if (offset == 8 && frame->l4_proto == DP_IPPROTO_TCP)
		return;
	if (offset == 0) {
		need = transport_header_len(frame->l4_proto, false);
		if (frame->fragment && need < 8)
			need = 8;
		if (payload < need)
			return;
		frame->has_l4 = true;
		frame->l4_off = (uint32_t)(DP_ETH_LEN + ihl);
	}
	frame->malformed = DP_PASS;
}

/* Whether @next is an extension header with its own length in its second byte. */
static bool ext_has_length(uint8_t next)
{
	switch (next) {
	case EXT_HOP_BY_HOP:
	case EXT_ROUTING:
	case EXT_AUTH:
	case EXT_DEST_OPTS:
	case EXT_MOBILITY:
	case EXT_HIP:
	case EXT_SHIM6:
		return true;
	default:
		return false;
	}
}

/*
 * Whether destination options carry a home address, by which the packet would
 * count as from somebody else than its source (RFC 6275, section 6.3).
 */
static bool has_home_address(const uint8_t *options, size_t len)
{
	size_t i = 2;

	while (i + 1 < len) {
		if (options[i] == OPT_HOME_ADDRESS)
			return true;
		i += options[i] == OPT_PAD1 ? 1 : 2u + options[i + 1];
	}
	return false;
}

static void parse_ipv6(struct dp_frame *frame)
{
	const uint8_t *data = frame->data;
	size_t room = frame->len - DP_ETH_LEN;
	size_t payload, end, at = DP_ETH_LEN + IPV6_HEADER;
	uint8_t next;

	frame->l3 = DP_L3_IPV6;
	frame->malformed = DP_DROP_IPV6_MALFORMED;
	if (room < IPV6_HEADER || data[DP_ETH_LEN] >> 4 != 6)
		return;
	payload = dp_get16(data + DP_ETH_LEN + 4);
	next = data[DP_ETH_LEN + 6];
	/* Payload length 0 would be a jumbogram (RFC 2675), which no path here takes. */
	if (payload > room - IPV6_HEADER || (payload == 0 && next != EXT_NONE))
		return;
	end = at + payload;
	frame->l3_end = (uint32_t)end;
	frame->first_fragment = true;

	frame->malformed = DP_DROP_EXT_HEADER;
	for (unsigned int i = 0; i <= DP_MAX_EXT_HEADERS; i++) {
		size_t len;

		frame->l4_proto = next;
		if (next == EXT_ESP || next == EXT_NONE) {
			frame->malformed = DP_PASS;
			return;
		}
		if (next != EXT_FRAGMENT && !ext_has_length(next)) {
			if (next == EXT_EXPERIMENT_1 || next == EXT_EXPERIMENT_2 ||
			    end - at < transport_header_len(next, true))
				return;
			frame->has_l4 = true;
			frame->l4_off = (uint32_t)at;
			frame->malformed = DP_PASS;
			return;
		}
		/* Hop-by-hop options stand first or nowhere (RFC 8200, section 4.1). */
		if (i == DP_MAX_EXT_HEADERS || end - at < 8 || (next == EXT_HOP_BY_HOP && i > 0))
			return;
		if (next == EXT_FRAGMENT) {
			frame->fragment = true;
			if (dp_get16(data + at + 2) >> 3) {
				frame->first_fragment = false;
				frame->l4_proto = data[at];
				frame->malformed = DP_PASS;
				return;
			}
			len = 8;
		} else if (next == EXT_AUTH) {
			len = ((size_t)data[at + 1] + 2) * 4;
		} else {
			len = ((size_t)data[at + 1] + 1) * 8;
		}
		if (len > end - at)
			return;
		if ((next == EXT_ROUTING && data[at + 3] > 0) ||
		    (next == EXT_DEST_OPTS && has_home_address(data + at, len))) {
			frame->malformed = DP_DROP_IPV6_MALFORMED;
			return;
		}
		next = data[at];
		at += len;
	}
}

_Static_assert(DP_HEAD_LEN >= DP_ETH_LEN + 60 + 60, "IPv4 and TCP with all options");

bool dp_frame_is_told_by_head(const uint8_t *head)
{
	const uint8_t *ip = head + DP_ETH_LEN;
	size_t upper;
	uint8_t proto;

	switch (dp_get16(head + 2 * DP_MAC_LEN)) {
	case DP_ETHERTYPE_IPV4:
		upper = (size_t)(ip[0] & 0x0f) * 4;
		proto = ip[9];
		break;
	case DP_ETHERTYPE_IPV6:
		upper = IPV6_HEADER;
		proto = ip[6];
		break;
	default:
		return false;
	}
	if (proto == DP_IPPROTO_TCP)
		return true;
	return proto == DP_IPPROTO_UDP && dp_get16(ip + upper + 2) != DHCP_SERVER_PORT;
}

int dp_frame_parse(struct dp_frame *frame, const uint8_t *data, size_t len)
{
	frame->data = data;
	frame->len = len;
	frame->ethertype = 0;
	frame->l3 = DP_L3_OTHER;
	frame->l4_proto = 0;
	frame->has_l4 = false;
	frame->fragment = false;
	frame->first_fragment = false;
	frame->l3_end = 0;
	frame->l4_off = 0;
	frame->malformed = DP_PASS;
	if (len < DP_ETH_LEN || len > DP_MAX_FRAME)
		return -1;
	frame->l3_end = (uint32_t)len;
	frame->ethertype = dp_get16(data + 2 * DP_MAC_LEN);
	switch (frame->ethertype) {
	case DP_ETHERTYPE_IPV4:
		parse_ipv4(frame);
		break;
	case DP_ETHERTYPE_ARP:
		parse_arp(frame);
		break;
	case DP_ETHERTYPE_IPV6:
		parse_ipv6(frame);
		break;
	default:
		break;
	}
	return 0;
}
