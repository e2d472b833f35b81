/* SPDX-License-Identifier: Apache-2.0 */
#include "reject.h"

#include <string.h>

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define ICMP_HEADER 8

/* ICMP (RFC 792) and ICMPv6 (RFC 4443): destination unreachable, the port. */
#define ICMP_UNREACHABLE 3
#define ICMP_PORT 3
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PORT 4

#define TTL 64

/* One's complement sum of 16-bit words; an odd byte at the end counts as the high one. */
static uint32_t add_up(uint32_t sum, const uint8_t *p, size_t len)
{
	size_t i = 0;

	for (; i + 1 < len; i += 2)
		sum += dp_get16(p + i);
	if (i < len)
		sum += (uint32_t)p[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static bool is_icmp_error(const struct dp_frame *frame)
{
	const uint8_t *type = frame->data + frame->l4_off;

	/* Of other protocols there may be no byte at all. */
	if (!frame->has_l4)
		return false;
	if (frame->l3 == DP_L3_IPV4 && frame->l4_proto == DP_IPPROTO_ICMP)
		return *type == 3 || *type == 4 || *type == 5 || *type == 11 || *type == 12;
	return frame->l3 == DP_L3_IPV6 && frame->l4_proto == DP_IPPROTO_ICMPV6 &&
	       (*type < 128 || *type == 137);
}

static bool is_answered(const struct dp_frame *frame)
{
	static const uint8_t unspecified[16];
	const uint8_t *ip = frame->data + DP_ETH_LEN;

	if ((frame->l3 != DP_L3_IPV4 && frame->l3 != DP_L3_IPV6) || frame->malformed != DP_PASS ||
	    !frame->first_fragment || dp_is_group(frame->data) ||
	    dp_is_group(frame->data + DP_MAC_LEN) || is_icmp_error(frame))
		return false;
	if (frame->l3 == DP_L3_IPV4) /* neither end is 0/8, a group or the broadcast */
		return ip[12] && ip[12] < 224 && ip[16] && ip[16] < 224;
	return ip[8] != 0xff && ip[24] != 0xff && memcmp(ip + 8, unspecified, 16) != 0 &&
	       memcmp(ip + 24, unspecified, 16) != 0;
}

static size_t write_ipv4(uint8_t *ip, const uint8_t *packet, size_t quoted)
{
	uint8_t *icmp = ip + IPV4_HEADER;
	size_t len = IPV4_HEADER + ICMP_HEADER + quoted;

	memset(ip, 0, IPV4_HEADER + ICMP_HEADER);
	ip[0] = 0x45;
	dp_put16(ip + 2, (uint16_t)len);
	ip[6] = 0x40; /* not to be cut into pieces, so it needs no identification (RFC 6864) */
	ip[8] = TTL;
	ip[9] = DP_IPPROTO_ICMP;
	memcpy(ip + 12, packet + 16, 4);
	memcpy(ip + 16, packet + 12, 4);
	dp_put16(ip + 10, fold(add_up(0, ip, IPV4_HEADER)));
	icmp[0] = ICMP_UNREACHABLE;
	icmp[1] = ICMP_PORT;
	memcpy(icmp + ICMP_HEADER, packet, quoted);
	dp_put16(icmp + 2, fold(add_up(0, icmp, ICMP_HEADER + quoted)));
	return len;
}

static size_t write_ipv6(uint8_t *ip, const uint8_t *packet, size_t quoted)
{
	uint8_t *icmp = ip + IPV6_HEADER;
	size_t len = ICMP_HEADER + quoted;

	memset(ip, 0, IPV6_HEADER + ICMP_HEADER);
	ip[0] = 0x60;
	dp_put16(ip + 4, (uint16_t)len);
	ip[6] = DP_IPPROTO_ICMPV6;
	ip[7] = TTL;
	memcpy(ip + 8, packet + 24, 16);
	memcpy(ip + 24, packet + 8, 16);
	icmp[0] = ICMPV6_UNREACHABLE;
	icmp[1] = ICMPV6_PORT;
	memcpy(icmp + ICMP_HEADER, packet, quoted);
	/* The pseudo-header (RFC 8200, 8.1): both addresses, the length, the protocol. */
	dp_put16(icmp + 2, fold(add_up((uint32_t)len + DP_IPPROTO_ICMPV6, ip + 8, 32) +
				add_up(0, icmp, len)));
	return IPV6_HEADER + len;
}

size_t dp_reject_build(uint8_t *out, const struct dp_frame *frame, size_t len)
{
	const uint8_t *packet = frame->data + DP_ETH_LEN;
	size_t quoted = frame->l3_end < len ? frame->l3_end : len;

	if (!is_answered(frame))
		return 0;
	quoted = (quoted < DP_HEAD_LEN ? quoted : DP_HEAD_LEN) - DP_ETH_LEN;
	memcpy(out, frame->data + DP_MAC_LEN, DP_MAC_LEN);
	memcpy(out + DP_MAC_LEN, frame->data, DP_MAC_LEN);
	dp_put16(out + 2 * DP_MAC_LEN, frame->ethertype);
	if (frame->l3 == DP_L3_IPV4)
		return DP_ETH_LEN + write_ipv4(out + DP_ETH_LEN, packet, quoted);
	return DP_ETH_LEN + write_ipv6(out + DP_ETH_LEN, packet, quoted);
}
