/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload.h - Checksums and segmentation that were left for later
 *
 * A virtio_net_hdr says what a frame still needs.  dp_offload_decode() reads one
 * without believing it; ingress compares the result with the headers that it
 * found itself; dp_offload_encode() writes a fresh one.  For a receiver that
 * did not negotiate them, checksums are completed and TCP and UDP are segmented here,
 * byte for byte as the Linux kernel's own GSO does (net/ipv4/tcp_offload.c,
 * udp_offload.c).
 */
#ifndef DP_OFFLOAD_H
#define DP_OFFLOAD_H

#include "frame.h"

/* What one side of an attachment can take; the bits of proto/SPEC.md. */
#define DP_OFFLOAD_CSUM 0x01
#define DP_OFFLOAD_TSO4 0x02
#define DP_OFFLOAD_TSO6 0x04
#define DP_OFFLOAD_TSO_ECN 0x08
#define DP_OFFLOAD_USO 0x10
#define DP_OFFLOAD_ALL 0x1f

/* The smallest payload that the kernel's TCP cuts into (TCP_MIN_GSO_SIZE). */
#define DP_MIN_GSO_SIZE 8
/* More segments than this must each be at least as much payload as headers: else one
 * frame of a vif becomes thousands, of a hundred times its bytes. */
#define DP_MAX_THIN_SEGMENTS 64
/* What one sendmsg() of an application becomes at most, however thin (UDP_MAX_SEGMENTS). */
#define DP_MAX_UDP_SEGMENTS 128

/**
 * dp_offload_decode() - Read a virtio_net_hdr that a stranger wrote
 * @meta:	Result; its vlan member is left alone
 * @hdr:	DP_VNET_LEN bytes, little-endian (virtio 1.2, 5.1.6)
 * @negotiated:	DP_OFFLOAD_* that the sender may use
 *
 * hdr_len is ignored: it is computed from the headers themselves where needed.
 *
 * Return: 0, or -1 for unknown flags or types, or what was not negotiated
 */
int dp_offload_decode(struct dp_meta *meta, const uint8_t hdr[DP_VNET_LEN], uint32_t negotiated);

/**
 * dp_offload_encode() - Write the virtio_net_hdr of a parsed frame
 * @hdr:	DP_VNET_LEN bytes, all of them written, little-endian
 * @frame:	Parsed, and consistent with its meta (dp_offload_fits)
 *
 * A segmentation frame that is one segment long is written as none: the kernel
 * refuses it otherwise.
 */
void dp_offload_encode(uint8_t hdr[DP_VNET_LEN], const struct dp_frame *frame);

/**
 * dp_offload_fits() - Whether the metadata agrees with the headers found
 * @frame:	Parsed
 *
 * A needed checksum must be that of the TCP or UDP header that parsing found
 * (csum_offset 16 or 6), in no fragment.  Segmentation needs that and TCP over
 * the IP version its type says, a whole TCP header, at least one payload byte
 * and a gso_size of at least DP_MIN_GSO_SIZE, no padding behind the packet, and at
 * most DP_MAX_THIN_SEGMENTS segments that are more headers than payload.
 *
 * Or UDP, whose length is that of the packet, of at most DP_MAX_UDP_SEGMENTS datagrams
 * and no DHCP: each of those is judged by what is in it, and only the first is seen.
 */
bool dp_offload_fits(const struct dp_frame *frame);

/**
 * dp_offload_needs() - The DP_OFFLOAD_* a receiver must have to take the frame as it is
 */
uint32_t dp_offload_needs(const struct dp_frame *frame);

/**
 * dp_offload_complete() - Finish a checksum in place
 * @data:	The frame
 * @len:	Bytes to sum: up to the end of the packet, without padding
 * @start:	Offset of the transport header; @start + @offset + 2 <= @len
 * @offset:	Of the checksum field, which holds the pseudo-header's sum
 * @udp:	Whether a zero result is written as 0xffff (RFC 768)
 */
void dp_offload_complete(uint8_t *data, size_t len, size_t start, size_t offset, bool udp);

/**
 * dp_offload_segments() - How many frames a segmentation frame becomes (1 for others)
 * @frame:	Parsed, and dp_offload_fits()
 */
size_t dp_offload_segments(const struct dp_frame *frame);

/**
 * dp_offload_bytes() - How many bytes the frames have together that a frame becomes
 * @frame:	Parsed, and dp_offload_fits()
 */
size_t dp_offload_bytes(const struct dp_frame *frame);

/**
 * dp_offload_segment_len() - Length in bytes of the longest frame it becomes
 * @frame:	Parsed, and dp_offload_fits()
 */
size_t dp_offload_segment_len(const struct dp_frame *frame);

/**
 * dp_offload_segment() - Write one of the frames that a frame becomes
 * @frame:	Parsed, and dp_offload_fits()
 * @index:	Which, less than dp_offload_segments()
 * @out:	At least dp_offload_segment_len() bytes
 *
 * The written frame is complete: no checksum is left to do.  Works on a frame
 * without segmentation as well: a copy, with its checksum completed.
 *
 * Return: bytes written
 */
size_t dp_offload_segment(const struct dp_frame *frame, size_t index, uint8_t *out);

#endif
