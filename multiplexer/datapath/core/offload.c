/* SPDX-License-Identifier: Apache-2.0 */
#include "offload.h"

#include <assert.h>
#include <string.h>

#include "ingress.h"

/* struct virtio_net_hdr (virtio 1.2, 5.1.6): where its members stand. */
enum {
	VNET_FLAGS = 0,
	VNET_GSO_TYPE = 1,
	VNET_HDR_LEN = 2,
	VNET_GSO_SIZE = 4,
	VNET_CSUM_START = 6,
	VNET_CSUM_OFFSET = 8,
};

#define VNET_F_NEEDS_CSUM 0x01
#define VNET_F_DATA_VALID 0x02
#define VNET_GSO_ECN 0x80

#define IPV6_HEADER 40

/* Where members stand in their headers (RFC 791, RFC 8200, RFC 9293, RFC 768). */
enum {
	IPV4_TOTAL_LEN = 2,
	IPV4_ID = 4,
	IPV4_CSUM = 10,
	IPV6_PAYLOAD_LEN = 4,
	TCP_SEQ = 4,
	TCP_DATA_OFFSET = 12,
	TCP_FLAGS = 13,
	TCP_CSUM = 16,
	UDP_DESTINATION = 2,
	UDP_LEN = 4,
	UDP_CSUM = 6,
};

#define TCP_HEADER 20
#define UDP_HEADER 8
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

static_assert(VNET_CSUM_OFFSET + 2 == DP_VNET_LEN, "virtio_net_hdr without num_buffers");

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (p[1] << 8));
}

static void put_le16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* Add a word's two halves: a 64-bit sum of such cannot overflow on DP_MAX_FRAME bytes. */
static uint64_t halves(uint64_t word)
{
	return (word & 0xffffffff) + (word >> 32);
}

/* A ones' complement sum in 16 bits; it is 0 only where all that was added is 0. */
static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/*
 * The ones' complement sum of @len bytes at @p, read as big-endian 16-bit words,
 * an odd last byte as if a zero followed (RFC 1071).  Words are added in the
 * machine's order and the sum is swapped once, at the end (section 2 (B)).
 */
static uint16_t sum_bytes(const uint8_t *p, size_t len)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;
	uint64_t tail = 0;
	uint16_t native;
	const union {
		uint16_t word;
		uint8_t first;
	} order = {.word = 1};

	for (; len >= 64; len -= 64, p += 64) {
		a += halves(load64(p)) + halves(load64(p + 32));
		b += halves(load64(p + 8)) + halves(load64(p + 40));
		c += halves(load64(p + 16)) + halves(load64(p + 48));
		d += halves(load64(p + 24)) + halves(load64(p + 56));
	}
	for (; len >= 8; len -= 8, p += 8)
		a += halves(load64(p));
	for (size_t i = 0; i < len; i++)
		tail |= (uint64_t)p[i] << (order.first ? 8 * i : 56 - 8 * i);
	native = fold(a + b + c + d + halves(tail));
	if (!order.first)
		return native;
	return (uint16_t)(native << 8 | native >> 8);
}

static bool is_segmented(const struct dp_frame *frame)
{
	return frame->meta.gso != DP_GSO_NONE;
}

static bool is_udp(const struct dp_frame *frame)
{
	return frame->meta.gso == DP_GSO_UDP;
}

/* Offset of the first byte of payload; the contract of dp_offload_fits() holds. */
static size_t payload_off(const struct dp_frame *frame)
{
	if (is_udp(frame))
		return frame->l4_off + UDP_HEADER;
	return frame->l4_off + (size_t)(frame->data[frame->l4_off + TCP_DATA_OFFSET] >> 4) * 4;
}

static bool csum_fits(const struct dp_frame *frame)
{
	uint16_t offset;

	if (frame->malformed || !frame->has_l4 || frame->fragment)
		return false;
	if (frame->l4_proto == DP_IPPROTO_TCP)
		offset = TCP_CSUM;
	else if (frame->l4_proto == DP_IPPROTO_UDP)
		offset = UDP_CSUM;
	else
		return false;
	return frame->meta.csum_start == frame->l4_off && frame->meta.csum_offset == offset;
}

static bool tcp_gso_fits(const struct dp_frame *frame)
{
	uint8_t l3;

	if (frame->meta.gso == DP_GSO_TCPV4)
		l3 = DP_L3_IPV4;
	else if (frame->meta.gso == DP_GSO_TCPV6)
		l3 = DP_L3_IPV6;
	else
		return false;
	if (frame->l3 != l3 || frame->l4_proto != DP_IPPROTO_TCP ||
	    frame->meta.csum != DP_CSUM_NEEDED || frame->meta.gso_size < DP_MIN_GSO_SIZE)
		return false;
	/* Padding would be counted by none of the segments, and sent by none. */
	if (payload_off(frame) < frame->l4_off + (size_t)TCP_HEADER ||
	    payload_off(frame) >= frame->l3_end || frame->l3_end != frame->len)
		return false;
	return frame->meta.gso_size >= payload_off(frame) ||
	       dp_offload_segments(frame) <= DP_MAX_THIN_SEGMENTS;
}

static bool udp_gso_fits(const struct dp_frame *frame)
{
	const uint8_t *udp = frame->data + frame->l4_off;

	if (frame->l4_proto != DP_IPPROTO_UDP || frame->meta.csum != DP_CSUM_NEEDED ||
	    frame->meta.gso_size == 0 || frame->meta.ecn)
		return false;
	if (frame->l4_off + (size_t)dp_get16(udp + UDP_LEN) != frame->l3_end ||
	    payload_off(frame) >= frame->l3_end || frame->l3_end != frame->len)
		return false;
	return dp_offload_segments(frame) <= DP_MAX_UDP_SEGMENTS &&
	       !dp_ingress_is_dhcp(dp_get16(udp + UDP_DESTINATION));
}

static bool gso_fits(const struct dp_frame *frame)
{
	return is_udp(frame) ? udp_gso_fits(frame) : tcp_gso_fits(frame);
}

int dp_offload_decode(struct dp_meta *meta, const uint8_t hdr[DP_VNET_LEN], uint32_t negotiated)
{
	uint8_t flags = hdr[VNET_FLAGS];
	uint8_t type = hdr[VNET_GSO_TYPE] & (uint8_t)~VNET_GSO_ECN;
	bool ecn = hdr[VNET_GSO_TYPE] & VNET_GSO_ECN;
	uint32_t wanted = 0;

	if (flags & ~(VNET_F_NEEDS_CSUM | VNET_F_DATA_VALID))
		return -1;
	if (flags)
		wanted |= DP_OFFLOAD_CSUM;
	if (type == DP_GSO_TCPV4)
		wanted |= DP_OFFLOAD_TSO4;
	else if (type == DP_GSO_TCPV6)
		wanted |= DP_OFFLOAD_TSO6;
	else if (type == DP_GSO_UDP && !ecn)
		wanted |= DP_OFFLOAD_USO;
	else if (type != DP_GSO_NONE || ecn)
		return -1;
	if (ecn)
		wanted |= DP_OFFLOAD_TSO_ECN;
	if (wanted & ~negotiated)
		return -1;

	/* What is still to do wins over what is said to be done, as in Linux. */
	if (flags & VNET_F_NEEDS_CSUM)
		meta->csum = DP_CSUM_NEEDED;
	else if (flags & VNET_F_DATA_VALID)
		meta->csum = DP_CSUM_VERIFIED;
	else
		meta->csum = DP_CSUM_COMPLETE;
	meta->gso = type;
	meta->ecn = ecn;
	meta->gso_size = type == DP_GSO_NONE ? 0 : get_le16(hdr + VNET_GSO_SIZE);
	meta->csum_start = 0;
	meta->csum_offset = 0;
	if (meta->csum == DP_CSUM_NEEDED) {
		meta->csum_start = get_le16(hdr + VNET_CSUM_START);
		meta->csum_offset = get_le16(hdr + VNET_CSUM_OFFSET);
	}
	return 0;
}

void dp_offload_encode(uint8_t hdr[DP_VNET_LEN], const struct dp_frame *frame)
{
	const struct dp_meta *meta = &frame->meta;

	memset(hdr, 0, DP_VNET_LEN);
	if (meta->csum == DP_CSUM_VERIFIED)
		hdr[VNET_FLAGS] = VNET_F_DATA_VALID;
	if (meta->csum == DP_CSUM_NEEDED) {
		hdr[VNET_FLAGS] = VNET_F_NEEDS_CSUM;
		put_le16(hdr + VNET_CSUM_START, meta->csum_start);
		put_le16(hdr + VNET_CSUM_OFFSET, meta->csum_offset);
	}
	/* Linux drops a frame that is said to need segmentation and has one segment. */
	if (dp_offload_segments(frame) > 1) {
		hdr[VNET_GSO_TYPE] = (uint8_t)(meta->gso | (meta->ecn ? VNET_GSO_ECN : 0));
		put_le16(hdr + VNET_HDR_LEN, (uint32_t)payload_off(frame));
		put_le16(hdr + VNET_GSO_SIZE, meta->gso_size);
	}
}

bool dp_offload_fits(const struct dp_frame *frame)
{
	if (frame->meta.csum > DP_CSUM_VERIFIED)
		return false;
	if (frame->meta.csum == DP_CSUM_NEEDED && !csum_fits(frame))
		return false;
	return !is_segmented(frame) || gso_fits(frame);
}

uint32_t dp_offload_needs(const struct dp_frame *frame)
{
	uint32_t needs = 0;

	if (frame->meta.csum == DP_CSUM_NEEDED)
		needs |= DP_OFFLOAD_CSUM;
	if (dp_offload_segments(frame) > 1) {
		needs |= is_udp(frame)                     ? DP_OFFLOAD_USO :
			 frame->meta.gso == DP_GSO_TCPV4 ? DP_OFFLOAD_TSO4 :
							     DP_OFFLOAD_TSO6;
		if (frame->meta.ecn)
			needs |= DP_OFFLOAD_TSO_ECN;
	}
	return needs;
}

void dp_offload_complete(uint8_t *data, size_t len, size_t start, size_t offset, bool udp)
{
	uint16_t csum = (uint16_t)~sum_bytes(data + start, len - start);

	dp_put16(data + start + offset, udp && csum == 0 ? 0xffff : csum);
}

size_t dp_offload_segments(const struct dp_frame *frame)
{
	size_t payload;

	if (!is_segmented(frame))
		return 1;
	payload = frame->l3_end - payload_off(frame);
	return (payload + frame->meta.gso_size - 1) / frame->meta.gso_size;
}

size_t dp_offload_bytes(const struct dp_frame *frame)
{
	size_t n = dp_offload_segments(frame);

	return n > 1 ? frame->len + (n - 1) * payload_off(frame) : frame->len;
}

size_t dp_offload_segment_len(const struct dp_frame *frame)
{
	size_t headers;

	if (!is_segmented(frame))
		return frame->len;
	headers = payload_off(frame);
	return frame->l3_end - headers < frame->meta.gso_size ? frame->l3_end
							      : headers + frame->meta.gso_size;
}

/* Tell the network header at @ip how long the packet is now. */
static void fix_network(uint8_t *ip, bool ipv6, size_t packet_len, size_t index)
{
	if (ipv6) {
		dp_put16(ip + IPV6_PAYLOAD_LEN, (uint16_t)(packet_len - IPV6_HEADER));
		return;
	}
	dp_put16(ip + IPV4_TOTAL_LEN, (uint16_t)packet_len);
	dp_put16(ip + IPV4_ID, (uint16_t)(dp_get16(ip + IPV4_ID) + index));
	dp_put16(ip + IPV4_CSUM, 0);
	dp_put16(ip + IPV4_CSUM, (uint16_t)~sum_bytes(ip, (size_t)(ip[0] & 0x0f) * 4));
}

/* Tell the UDP header at @udp how long its datagram is now. */
static void fix_udp(uint8_t *udp, size_t len)
{
	dp_put16(udp + UDP_LEN, (uint16_t)len);
}

/* Give the TCP header at @tcp the place of its segment, and what stands in the last or first only. */
static void fix_tcp(uint8_t *tcp, size_t at, bool last)
{
	dp_put32(tcp + TCP_SEQ, (uint32_t)(dp_get32(tcp + TCP_SEQ) + at));
	if (at > 0)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	if (!last)
		tcp[TCP_FLAGS] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
}

/* Move the pseudo-header's sum at @field from one transport length to another (RFC 1624). */
static void fix_pseudo_sum(uint8_t *field, size_t old_len, size_t new_len)
{
	dp_put16(field, fold((uint64_t)dp_get16(field) + (uint16_t)~old_len + new_len));
}

size_t dp_offload_segment(const struct dp_frame *frame, size_t index, uint8_t *out)
{
	size_t l4 = frame->l4_off;
	size_t field = is_udp(frame) ? UDP_CSUM : TCP_CSUM;
	size_t headers, at, rest, n, end;

	if (!is_segmented(frame)) {
		memcpy(out, frame->data, frame->len);
		if (frame->meta.csum == DP_CSUM_NEEDED)
			dp_offload_complete(out, frame->l3_end, l4, frame->meta.csum_offset,
					    frame->l4_proto == DP_IPPROTO_UDP);
		return frame->len;
	}

	headers = payload_off(frame);
	at = index * frame->meta.gso_size;
	rest = frame->l3_end - headers - at;
	n = rest < frame->meta.gso_size ? rest : frame->meta.gso_size;
	end = headers + n;
	memcpy(out, frame->data, headers);
	memcpy(out + headers, frame->data + headers + at, n);
	fix_network(out + DP_ETH_LEN, frame->l3 == DP_L3_IPV6, end - DP_ETH_LEN, index);
	if (is_udp(frame))
		fix_udp(out + l4, end - l4);
	else
		fix_tcp(out + l4, at, n == rest);
	fix_pseudo_sum(out + l4 + field, frame->l3_end - l4, end - l4);
	dp_offload_complete(out, end, l4, field, is_udp(frame));
	return end;
}
