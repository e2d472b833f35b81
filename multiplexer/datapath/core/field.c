/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read here of the frame lies within what the parser has found, or is compared
 * with its length.
 */
#include "field.h"

#include <string.h>

#include "track.h"

#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_RARP 0x8035
/* Below it, the field is a length (IEEE 802.3, 3.2.6). */
#define LEAST_ETHERTYPE 0x0600
#define ARP_HEAD 8
#define ARP_LEN 28
#define EXT_AUTH 51

/* A configuration BPDU behind its LLC header (IEEE 802.1D, 9.3.1): from the frame's start. */
#define STP_AT 17
#define STP_LEN 35

static bool is_ip(const struct dp_frame *frame)
{
	return (frame->l3 == DP_L3_IPV4 || frame->l3 == DP_L3_IPV6) && frame->malformed == DP_PASS;
}

bool dp_field_has_ports(const struct dp_frame *frame)
{
	if (!is_ip(frame) || !frame->has_l4 || frame->l3_end - frame->l4_off < 4)
		return false;
	switch (frame->l4_proto) {
	case DP_IPPROTO_TCP:
	case DP_IPPROTO_UDP:
	case DP_IPPROTO_UDPLITE:
	case DP_IPPROTO_SCTP:
	case DP_IPPROTO_DCCP:
		return true;
	default:
		return false;
	}
}

static bool has_icmp(const struct dp_frame *frame)
{
	return is_ip(frame) && frame->has_l4 &&
	       frame->l4_proto ==
		       (frame->l3 == DP_L3_IPV4 ? DP_IPPROTO_ICMP : DP_IPPROTO_ICMPV6);
}

bool dp_field_has_tcp(const struct dp_frame *frame)
{
	return is_ip(frame) && frame->has_l4 && frame->l4_proto == DP_IPPROTO_TCP;
}

static bool is_arp(const struct dp_frame *frame, size_t len)
{
	return (frame->ethertype == DP_ETHERTYPE_ARP || frame->ethertype == ETHERTYPE_RARP) &&
	       frame->len >= DP_ETH_LEN + len;
}

/* Whether its addresses are of Ethernet and of IPv4. */
static bool has_arp_addresses(const struct dp_frame *frame)
{
	const uint8_t *arp = frame->data + DP_ETH_LEN;

	return is_arp(frame, ARP_LEN) && dp_get16(arp) == 1 &&
	       dp_get16(arp + 2) == DP_ETHERTYPE_IPV4 && arp[4] == DP_MAC_LEN && arp[5] == 4;
}

static bool is_stp(const struct dp_frame *frame, size_t len)
{
	/* LLC 42 42 03, protocol 0, version 0 of the spanning tree */
	static const uint8_t head[6] = { 0x42, 0x42, 0x03 };

	return frame->ethertype < LEAST_ETHERTYPE && frame->len >= STP_AT + len &&
	       memcmp(frame->data + DP_ETH_LEN, head, sizeof(head)) == 0;
}

static bool is_stp_configuration(const struct dp_frame *frame)
{
	return is_stp(frame, STP_LEN) && frame->data[STP_AT + 3] == 0;
}

static bool stp16(const struct dp_frame *frame, size_t at, uint32_t *value)
{
	if (!is_stp_configuration(frame))
		return false;
	*value = dp_get16(frame->data + STP_AT + at);
	return true;
}

bool dp_field_has_tcp_option(const struct dp_frame *frame, uint32_t first, uint32_t last)
{
	const uint8_t *tcp = frame->data + frame->l4_off;
	size_t len = (size_t)(tcp[12] >> 4) * 4, at = 20;

	if (len > frame->l3_end - frame->l4_off)
		len = frame->l3_end - frame->l4_off;
	for (unsigned int i = 0; i < 40 && at < len; i++) {
		if (tcp[at] >= first && tcp[at] <= last)
			return true;
		/* End of options, and no operation, have no length; one of 0 is passed like them. */
		if (tcp[at] < 2 || at + 1 >= len || !tcp[at + 1])
			at++;
		else
			at += tcp[at + 1];
	}
	return false;
}

bool dp_field_number(const struct dp_frame *frame, unsigned int field, uint32_t *value)
{
	const uint8_t *data = frame->data, *l3 = data + DP_ETH_LEN;

	switch (field) {
	case DP_FIELD_ETH_TYPE:
		*value = frame->ethertype;
		return true;
	case DP_FIELD_VLAN_ID:
	case DP_FIELD_VLAN_TYPE:
		if (frame->ethertype != ETHERTYPE_VLAN || frame->len < DP_ETH_LEN + 4)
			return false;
		*value = field == DP_FIELD_VLAN_ID ? dp_get16(l3) & 0xfffu : dp_get16(l3 + 2);
		return true;
	case DP_FIELD_STP_TYPE:
		if (!is_stp(frame, 4))
			return false;
		*value = data[STP_AT + 3];
		return true;
	case DP_FIELD_STP_FLAGS:
		if (!is_stp_configuration(frame))
			return false;
		*value = data[STP_AT + 4];
		return true;
	case DP_FIELD_STP_ROOT_PRIORITY:
		return stp16(frame, 5, value);
	case DP_FIELD_STP_ROOT_COST:
		if (!is_stp_configuration(frame))
			return false;
		*value = dp_get32(data + STP_AT + 13);
		return true;
	case DP_FIELD_STP_SENDER_PRIORITY:
		return stp16(frame, 17, value);
	case DP_FIELD_STP_PORT:
		return stp16(frame, 25, value);
	case DP_FIELD_STP_AGE:
		return stp16(frame, 27, value);
	case DP_FIELD_STP_MAX_AGE:
		return stp16(frame, 29, value);
	case DP_FIELD_STP_HELLO_TIME:
		return stp16(frame, 31, value);
	case DP_FIELD_STP_FORWARD_DELAY:
		return stp16(frame, 33, value);
	case DP_FIELD_ARP_HWTYPE:
	case DP_FIELD_ARP_PROTOCOL:
	case DP_FIELD_ARP_OPCODE:
		if (!is_arp(frame, ARP_HEAD))
			return false;
		*value = dp_get16(l3 + (field == DP_FIELD_ARP_HWTYPE	 ? 0 :
					field == DP_FIELD_ARP_PROTOCOL ? 2 :
									 6));
		return true;
	case DP_FIELD_ARP_SRC_IP:
	case DP_FIELD_ARP_DST_IP:
		if (!has_arp_addresses(frame))
			return false;
		*value = dp_get32(l3 + (field == DP_FIELD_ARP_SRC_IP ? 14 : 24));
		return true;
	case DP_FIELD_ARP_GRATUITOUS:
		if (!has_arp_addresses(frame))
			return false;
		*value = memcmp(l3 + 14, l3 + 24, 4) == 0;
		return true;
	case DP_FIELD_IPV4_SRC:
	case DP_FIELD_IPV4_DST:
		if (frame->l3 != DP_L3_IPV4 || !is_ip(frame))
			return false;
		*value = dp_get32(l3 + (field == DP_FIELD_IPV4_SRC ? 12 : 16));
		return true;
	case DP_FIELD_PROTOCOL:
		*value = frame->l4_proto;
		return is_ip(frame);
	case DP_FIELD_AH:
		if (frame->l3 != DP_L3_IPV6 || !is_ip(frame))
			return false;
		*value = dp_frame_find_ext(frame, EXT_AUTH) != 0;
		return true;
	case DP_FIELD_DSCP:
		if (!is_ip(frame))
			return false;
		*value = frame->l3 == DP_L3_IPV4 ? l3[1] >> 2 : (dp_get16(l3) >> 6) & 0x3fu;
		return true;
	case DP_FIELD_SRC_PORT:
	case DP_FIELD_DST_PORT:
		if (!dp_field_has_ports(frame))
			return false;
		*value = dp_get16(data + frame->l4_off + (field == DP_FIELD_SRC_PORT ? 0 : 2));
		return true;
	case DP_FIELD_ICMP:
		if (!has_icmp(frame))
			return false;
		*value = dp_get16(data + frame->l4_off);
		return true;
	case DP_FIELD_TCP_FLAGS:
		if (!dp_field_has_tcp(frame))
			return false;
		*value = data[frame->l4_off + 13] & 0x3fu;
		return true;
	default:
		return false;
	}
}

const uint8_t *dp_field_address(const struct dp_frame *frame, unsigned int field, size_t *len)
{
	const uint8_t *l3 = frame->data + DP_ETH_LEN;

	*len = DP_MAC_LEN;
	switch (field) {
	case DP_FIELD_ETH_DST:
		return frame->data;
	case DP_FIELD_ETH_SRC:
		return frame->data + DP_MAC_LEN;
	case DP_FIELD_STP_ROOT_ADDR:
		return is_stp_configuration(frame) ? frame->data + STP_AT + 7 : NULL;
	case DP_FIELD_STP_SENDER_ADDR:
		return is_stp_configuration(frame) ? frame->data + STP_AT + 19 : NULL;
	case DP_FIELD_ARP_SRC_MAC:
		return has_arp_addresses(frame) ? l3 + 8 : NULL;
	case DP_FIELD_ARP_DST_MAC:
		return has_arp_addresses(frame) ? l3 + 18 : NULL;
	case DP_FIELD_IPV4_SRC:
	case DP_FIELD_IPV4_DST:
		*len = 4;
		if (frame->l3 != DP_L3_IPV4 || !is_ip(frame))
			return NULL;
		return l3 + (field == DP_FIELD_IPV4_SRC ? 12 : 16);
	case DP_FIELD_IPV6_SRC:
	case DP_FIELD_IPV6_DST:
		*len = 16;
		if (frame->l3 != DP_L3_IPV6 || !is_ip(frame))
			return NULL;
		return l3 + (field == DP_FIELD_IPV6_SRC ? 8 : 24);
	default:
		return NULL;
	}
}
