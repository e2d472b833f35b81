/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - From bytes to meaning, at one door
 *
 * dp_frame_parse() is the only place where lengths that a stranger wrote are
 * believed, each after it was compared with the bytes that are there.  What it
 * leaves in struct dp_frame may be used without a further bounds check: every
 * offset it sets, plus the smallest header that stands there, lies inside the
 * frame.  It reads byte by byte, in counted loops, and never writes.
 */
#ifndef DP_FRAME_H
#define DP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reasons.h"

#define DP_ETH_LEN 14
#define DP_MAC_LEN 6
/* An IPv6 packet without jumbo payload behind an Ethernet header (RFC 8200, 4.5). */
#define DP_MAX_FRAME (DP_ETH_LEN + 40 + 65535)
/* virtio 1.2, 5.1.6: struct virtio_net_hdr without num_buffers. */
#define DP_VNET_LEN 10
/* Of a frame that stands in two parts, the first: whatever is decided by lies in it. */
#define DP_HEAD_LEN 256
/* Longer chains of IPv6 extension headers are dropped, not followed. */
#define DP_MAX_EXT_HEADERS 8

#define DP_ETHERTYPE_IPV4 0x0800
#define DP_ETHERTYPE_ARP 0x0806
#define DP_ETHERTYPE_IPV6 0x86dd

/* IANA, "Protocol Numbers". */
#define DP_IPPROTO_ICMP 1
#define DP_IPPROTO_IGMP 2
#define DP_IPPROTO_TCP 6
#define DP_IPPROTO_UDP 17
#define DP_IPPROTO_ICMPV6 58
#define DP_IPPROTO_PIM 103
#define DP_IPPROTO_VRRP 112

enum dp_verdict {
	DP_PASS = 0,
#define DP_REASON_ENUM(name, text, meaning) DP_DROP_##name,
	DP_REASONS(DP_REASON_ENUM)
#undef DP_REASON_ENUM
		DP_N_VERDICTS
};

/** dp_verdict_name() - The public name of a verdict, "pass" or a drop reason */
const char *dp_verdict_name(enum dp_verdict verdict);
/** dp_verdict_meaning() - What a verdict says of its frame, in a few words */
const char *dp_verdict_meaning(enum dp_verdict verdict);

/* What is known of the transport checksum. */
enum dp_csum {
	DP_CSUM_COMPLETE = 0, /* in the frame; nobody has verified it */
	DP_CSUM_NEEDED,       /* the field holds the pseudo-header's sum only */
	DP_CSUM_VERIFIED,     /* somebody has checked it already */
};

/* Segmentation that the frame still needs: virtio's numbers (virtio 1.2, 5.1.6). */
enum dp_gso {
	DP_GSO_NONE = 0,
	DP_GSO_TCPV4 = 1,
	DP_GSO_TCPV6 = 4,
	DP_GSO_UDP = 5, /* over either: VIRTIO_NET_HDR_GSO_UDP_L4, many datagrams of one flow */
};

/* What travels with a frame beside its bytes.  Host byte order. */
struct dp_meta {
	uint8_t csum;         /* enum dp_csum */
	uint8_t gso;          /* enum dp_gso */
	bool ecn;             /* the segments carry ECN: CWR in the first one only */
	bool vlan;            /* the wire's tag was stripped from the bytes */
	uint16_t gso_size;    /* payload bytes of one segment */
	uint16_t csum_start;  /* offset of the transport header in the frame */
	uint16_t csum_offset; /* of the checksum in the transport header */
};

enum dp_l3 { DP_L3_OTHER = 0, DP_L3_ARP, DP_L3_IPV4, DP_L3_IPV6 };

/* A parsed view of a frame; it owns nothing. */
struct dp_frame {
	const uint8_t *data;
	size_t len;
	struct dp_meta meta;

	uint16_t ethertype;        /* below 0x0600: an 802.3 length */
	uint8_t l3;                /* enum dp_l3 */
	uint8_t l4_proto;          /* of the last header that was reached */
	bool has_l4;               /* l4_off is set: TCP 20, UDP 8, ICMP 8 bytes there, others 0 */
	bool fragment;             /* any fragment, an atomic one (RFC 6946) too */
	bool first_fragment;       /* offset 0 */
	uint32_t l3_end;           /* end of the packet; beyond it is padding */
	uint32_t l4_off;           /* offset of the transport header */
	uint8_t malformed;         /* enum dp_verdict: why the network header is no good */
};

#ifndef DP_CDEF /* the Python binding has no use for these */
static inline uint16_t dp_get16(const uint8_t *p)
{
	return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t dp_get32(const uint8_t *p)
{
	return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}

static inline void dp_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void dp_put32(uint8_t *p, uint32_t v)
{
	dp_put16(p, (uint16_t)(v >> 16));
	dp_put16(p + 2, (uint16_t)v);
}

static inline bool dp_is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}
#endif

/**
 * dp_frame_parse() - Find the headers of a frame
 * @frame:	View to fill; @frame->meta is left alone
 * @data:	The frame, from its destination MAC on; read only
 * @len:	Bytes at @data, at most DP_MAX_FRAME
 *
 * A network header that does not fit is no failure here: @frame->malformed names
 * it, and the caller decides, since a frame from the wire is judged differently.
 *
 * Return: 0, or -1 if @len is less than an Ethernet header or more than DP_MAX_FRAME
 */
int dp_frame_parse(struct dp_frame *frame, const uint8_t *data, size_t len);

/**
 * dp_frame_is_told_by_head() - Whether nobody reads more of a long frame than its head
 * @head:	Its first DP_HEAD_LEN bytes
 *
 * So it is with TCP and UDP right behind the IP header, of which nothing is read behind
 * their own headers; but not with DHCP, whose options are read, and with nothing else:
 * other messages, and extension headers, may be as long as they like.
 */
bool dp_frame_is_told_by_head(const uint8_t *head);

#endif
