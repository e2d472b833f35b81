/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reject.h - What a sender is told whose packet a filter rejects
 *
 * A port unreachable of ICMP or ICMPv6, as if it came from whom the packet was for,
 * which a bridge's own reject does too (nft_reject_bridge).  The packet's begin is in it.
 */
#ifndef DP_REJECT_H
#define DP_REJECT_H

#include "frame.h"

/* Ethernet, IPv6, ICMPv6, and as much of the packet as is at hand of a long frame. */
#define DP_REJECT_LEN (DP_ETH_LEN + 40 + 8 + DP_HEAD_LEN - DP_ETH_LEN)

/**
 * dp_reject_build() - Write the answer to a packet
 * @out:	DP_REJECT_LEN bytes
 * @frame:	Parsed
 * @len:	Bytes of it that are at hand, all or the first DP_HEAD_LEN
 *
 * Return: bytes written; 0 where there is no answer: to groups and from them, to later
 * fragments, to errors and to what is no IP (RFC 1122, 3.2.2; RFC 4443, 2.4)
 */
size_t dp_reject_build(uint8_t *out, const struct dp_frame *frame, size_t len);

#endif
