/* SPDX-License-Identifier: Apache-2.0 */
/*
 * learn.h - What frames say of the address of a vif whose filter has yet to know it
 *
 * A filter may need the one IPv4 address of a vif that is bound to a whole prefix.
 * Where its table says so, the frames that it lets pass are read for it: the vif's
 * own, whose sources ingress has checked already, and what DHCP servers tell it.
 *
 * A frame is only read here, and what it says is a sighting.  Nothing is decided by
 * one: who compiles filters does that, and may give the vif another one.
 */
#ifndef DP_LEARN_H
#define DP_LEARN_H

#include "frame.h"

/* What a filter wants to know of; bits. */
#define DP_LEARNS_SOURCES 0x1 /* of what the vif sends, by ARP and IPv4 */
#define DP_LEARNS_LEASES 0x2  /* of DHCP: what a server assigns, and the vif gives back */
#define DP_LEARNS_ALL 0x3

enum dp_sighting_kind {
	DP_SIGHTING_SOURCE = 0, /* the vif has sent from the address */
	DP_SIGHTING_LEASE,      /* a server has assigned it */
	DP_SIGHTING_RELEASE,    /* the vif has given it back, or will not have it */
	DP_N_SIGHTINGS,
};

struct dp_sighting {
	uint8_t kind; /* enum dp_sighting_kind */
	uint8_t addr[4];
	uint8_t server[4]; /* of a lease: the source of what assigns it */
	uint32_t lease_s;  /* 0xffffffff: for ever (RFC 2131, section 3.3) */
};

/**
 * dp_learn_is_dhcp() - Whether a frame may be a message of DHCP, to client or server
 * @frame:	Parsed; its head is enough
 */
bool dp_learn_is_dhcp(const struct dp_frame *frame);

/**
 * dp_learn_from_vif() - Read a frame that a vif has sent
 * @learns:	DP_LEARNS_*
 * @frame:	Parsed; ingress has let it pass.  Whole, if it is DHCP
 * @sighting:	Filled, if there is one
 *
 * Return: whether there is a sighting
 */
bool dp_learn_from_vif(uint8_t learns, const struct dp_frame *frame, struct dp_sighting *sighting);

/**
 * dp_learn_to_vif() - Read a frame that a vif is given
 * @learns:	DP_LEARNS_*
 * @mac:	The vif's
 * @frame:	Parsed.  Whole, if it is DHCP
 * @sighting:	Filled, if there is one
 *
 * Time is linear in the frame's length, which is at most the MTU's.
 *
 * Return: whether there is a sighting
 */
bool dp_learn_to_vif(uint8_t learns, const uint8_t *mac, const struct dp_frame *frame,
		     struct dp_sighting *sighting);

#endif
