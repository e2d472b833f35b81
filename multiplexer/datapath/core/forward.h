/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.h - Where a frame goes
 *
 * A frame walks frame -> ingress -> forward.  The two entries below take it
 * through all three, so that no caller can forget a step, and say in struct
 * dp_decision what became of it.  They count nothing but the tokens they take:
 * the caller delivers, and counts what it did.
 */
#ifndef DP_FORWARD_H
#define DP_FORWARD_H

#include "frame.h"
#include "table.h"

enum dp_route {
	DP_ROUTE_NONE = 0, /* dropped; the verdict says why */
	DP_ROUTE_PORT,     /* to one port, a vif or an uplink */
	DP_ROUTE_FLOOD,    /* to all other members of the network, and its uplink */
	DP_ROUTE_MEMBERS,  /* to all other members, not to the uplink */
};

struct dp_decision {
	uint8_t verdict;  /* enum dp_verdict */
	uint8_t route;    /* enum dp_route */
	uint16_t port;    /* the receiver, for DP_ROUTE_PORT */
	uint16_t network; /* whose members, for DP_ROUTE_FLOOD and DP_ROUTE_MEMBERS */
	/* The vif whose address a stranger on the wire claims, or DP_NO_PORT. */
	uint16_t conflict;
	uint8_t conflict_family; /* 4 or 6 */
	uint8_t conflict_addr[16];
};

/**
 * dp_forward_from_vif() - Judge a frame that a vif sent
 * @table:	Table; only the vif's token buckets change
 * @port:	The vif
 * @frame:	View to fill; its meta is set, the rest is parsed here
 * @data:	The frame, private to the caller
 * @len:	Bytes at @data
 * @now_ns:	Monotonic clock, read once per turn
 * @decision:	What becomes of it
 */
void dp_forward_from_vif(struct dp_table *table, uint16_t port, struct dp_frame *frame,
			 const uint8_t *data, size_t len, uint64_t now_ns,
			 struct dp_decision *decision);

/**
 * dp_forward_from_uplink() - Judge a frame that came from the wire
 *
 * As dp_forward_from_vif(); @port is the uplink.  The frame is not checked
 * against a binding, only that it does not claim one of ours.
 */
void dp_forward_from_uplink(struct dp_table *table, uint16_t port, struct dp_frame *frame,
			    const uint8_t *data, size_t len, struct dp_decision *decision);

#endif
