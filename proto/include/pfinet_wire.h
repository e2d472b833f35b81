/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data stream of a virtual interface, as bytes.
 *
 * Each Ethernet frame is one record:
 *
 *	u32 big-endian length | virtio_net_hdr, if negotiated | frame
 *
 * The length counts what follows it.  The header is there on every record if
 * the attach handshake accepted any offload, and on none otherwise; the plain
 * `stream` socket never has it.  proto/SPEC.md, section 4, is the contract.
 *
 * Header-only, no system calls, no allocation: the engine and the client's
 * pump share it.  Numbers are read byte by byte, so alignment and the host's
 * byte order do not matter.
 */
#ifndef PFINET_WIRE_H
#define PFINET_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* The length before each record. */
#define PFINET_LENGTH_LEN 4

/* struct virtio_net_hdr, little-endian, without num_buffers (virtio 1.2, 5.1.6, legacy). */
#define PFINET_VNET_LEN 10

/* An IPv6 packet of the longest payload with its Ethernet header; an IPv4 one is shorter. */
#define PFINET_MAX_FRAME (14 + 40 + 65535)

/* What an attachment may negotiate; the same bits as in the handshake's OFFLOAD. */
#define PFINET_OFFLOAD_CSUM 0x1u
#define PFINET_OFFLOAD_TSO4 0x2u
#define PFINET_OFFLOAD_TSO6 0x4u
#define PFINET_OFFLOAD_ECN 0x8u
#define PFINET_OFFLOAD_USO 0x10u

/**
 * pfinet_put32() - Write a number as four big-endian bytes
 * @to:		Room for four bytes, of any alignment
 * @value:	The number
 */
static inline void pfinet_put32(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 24);
	to[1] = (uint8_t)(value >> 16);
	to[2] = (uint8_t)(value >> 8);
	to[3] = (uint8_t)value;
}

/**
 * pfinet_get32() - Read four big-endian bytes as a number
 * @from:	Four bytes, of any alignment
 *
 * Return: the number
 */
static inline uint32_t pfinet_get32(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 |
	       (uint32_t)from[3];
}

/**
 * pfinet_stream_next() - Find the first record in received bytes
 * @buf:		Bytes of the stream, the first of them the first of a length
 * @len:		How many there are; may be 0
 * @max_payload:	The greatest length to accept: PFINET_MAX_FRAME, and
 *			PFINET_VNET_LEN more if each record has a header
 * @frame_off:		Set to where the payload begins in @buf, if 1 is returned
 * @frame_len:		Set to the payload's length, 1 to @max_payload, if 1 is returned
 *
 * Reads only, never beyond @len.  The length is judged as soon as its four
 * bytes are there, so a reader needs no more room than a longest record.  The
 * next record, if any, begins at @frame_off + @frame_len.  A payload may still
 * be shorter than the header or the Ethernet header: that is the caller's check.
 *
 * Return: 1 if a whole record is there; 0 if bytes are missing; -1 if the
 * length is 0 or above @max_payload, after which the stream has no meaning
 */
static inline int pfinet_stream_next(const uint8_t *buf, size_t len, size_t max_payload,
				     size_t *frame_off, size_t *frame_len)
{
	size_t payload;

	if (len < PFINET_LENGTH_LEN)
		return 0;
	payload = pfinet_get32(buf);
	if (payload == 0 || payload > max_payload)
		return -1;
	if (payload > len - PFINET_LENGTH_LEN)
		return 0;
	*frame_off = PFINET_LENGTH_LEN;
	*frame_len = payload;
	return 1;
}

#endif
