/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ingress.h - May this vif send this frame?
 *
 * The one place where I1 (no forged frame) is decided.  Checks stand in the
 * order of reasons.h, and the first that fails names the drop.  Everything is
 * read from the private copy of the frame, through the parser's offsets.
 */
#ifndef DP_INGRESS_H
#define DP_INGRESS_H

#include "frame.h"
#include "table.h"

/* ICMPv6 types (RFC 4861, RFC 2710, RFC 3810, RFC 4286). */
enum {
	DP_ICMPV6_MLD_QUERY = 130,
	DP_ICMPV6_MLD_REPORT = 131,
	DP_ICMPV6_MLD_DONE = 132,
	DP_ICMPV6_RS = 133,
	DP_ICMPV6_RA = 134,
	DP_ICMPV6_NS = 135,
	DP_ICMPV6_NA = 136,
	DP_ICMPV6_REDIRECT = 137,
	DP_ICMPV6_RENUMBERING = 138,
	DP_ICMPV6_INVERSE_NS = 141,
	DP_ICMPV6_INVERSE_NA = 142,
	DP_ICMPV6_MLD2_REPORT = 143,
	DP_ICMPV6_MRD_ADVERTISEMENT = 151,
	DP_ICMPV6_MRD_TERMINATION = 153,
};

/**
 * dp_frame_fits_mtu() - Whether a frame, or each segment of it, fits
 * @frame:	Parsed
 * @mtu:	Bytes of the IP packet
 */
bool dp_frame_fits_mtu(const struct dp_frame *frame, uint16_t mtu);

/** dp_frame_is_tagged() - Whether its EtherType is a VLAN's (802.1Q, 802.1ad, and QinQ's old ones) */
bool dp_frame_is_tagged(const struct dp_frame *frame);

/** dp_frame_is_reserved() - Whether it goes to 01:80:c2:00:00:00-0f (IEEE 802.1Q, 8.6.3) */
bool dp_frame_is_reserved(const struct dp_frame *frame);

/** dp_ingress_is_dhcp() - Whether what goes to a UDP port is judged by what is in it */
bool dp_ingress_is_dhcp(uint16_t port);

/**
 * dp_ingress_check() - Decide whether a vif may send this frame
 * @bind:	What the vif may claim; NULL claims nothing, so drops
 * @mtu:	The network's, bytes of the IP packet
 * @frame:	Parsed view; dp_frame_parse() has checked its bounds
 *
 * Reads only.  Time is linear in the vif's prefixes and in the frame's options.
 * Rates are not its business: they are charged by dp_forward_from_vif().
 *
 * Return: DP_PASS, or the DP_DROP_* reason for the caller to count
 */
enum dp_verdict dp_ingress_check(const struct dp_binding *bind, uint16_t mtu,
				 const struct dp_frame *frame);

#endif
