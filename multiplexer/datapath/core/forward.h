/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.h - Where a frame goes
 *
 * A frame walks frame -> ingress -> filter -> forward.  The two entries below take it
 * through all of them, so that no caller can forget a step, and say in struct
 * dp_decision what became of it.  The filter of whoever gets it is the caller's to ask.  They count nothing but the tokens they take:
 * the caller delivers, and counts what it did.
 */
#ifndef DP_FORWARD_H
#define DP_FORWARD_H

#include "frame.h"
#include "gate.h"
#include "table.h"

enum dp_route {
	DP_ROUTE_NONE = 0, /* dropped; the verdict says why */
	DP_ROUTE_PORT,     /* to one port, a vif or an uplink */
	DP_ROUTE_FLOOD,    /* to the network's uplink, and to members: dp_forward_next() */
	DP_ROUTE_MEMBERS,  /* to the same members, not to the uplink */
};

/* The steps of a frame's way, in their order. */
enum dp_step {
	DP_STEP_FRAME = 0,
	DP_STEP_INGRESS,
	DP_STEP_FILTER,
	DP_STEP_FORWARD,
	DP_STEP_LIMIT,
};

struct dp_decision {
	uint8_t verdict;  /* enum dp_verdict */
	uint8_t step;     /* enum dp_step: the last one that a frame of a vif came to */
	uint8_t route;    /* enum dp_route */
	bool claims;      /* by it, a vif claims a link-local address: claim.h */
	uint16_t port;    /* the receiver, for DP_ROUTE_PORT */
	uint16_t network; /* whose members, for DP_ROUTE_FLOOD and DP_ROUTE_MEMBERS */
	/* The vif whose address a stranger on the wire claims, or DP_NO_PORT. */
	uint16_t conflict;
	uint8_t conflict_family; /* 4 or 6 */
	uint8_t conflict_addr[16];
	bool filtered;             /* the sender has a filter, and @passage is set */
	struct dp_passage passage; /* through it */
};

/**
 * dp_forward_from_vif() - Judge a frame that a vif sent
 * @table:	Table; only the vif's token buckets and claims change
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
 * against a binding, only that it does not claim one of ours.  What a vif has
 * only just claimed yields to it.
 */
void dp_forward_from_uplink(struct dp_table *table, uint16_t port, struct dp_frame *frame,
			    const uint8_t *data, size_t len, struct dp_decision *decision);

/**
 * dp_forward_next() - Iterate over those who get a frame
 * @table:	Table
 * @decision:	What becomes of it
 * @from:	Where it came from
 * @after:	The receiver before, or DP_NO_PORT for the first
 *
 * A single receiver may be down; those of a flood are up, but for the uplink.  A flood
 * never returns to where it came from, and from the wire does not go to the host's port.
 *
 * Return: the next receiver's port, or DP_NO_PORT
 */
uint16_t dp_forward_next(const struct dp_table *table, const struct dp_decision *decision,
			 uint16_t from, uint16_t after);

/**
 * dp_forward_list() - List those who get a frame
 * @table:	Table
 * @decision:	What becomes of it
 * @from:	Where it came from
 * @ports:	Filled with the first of them
 * @most:	Ports that @ports has room for
 *
 * Return: how many there are, also where that is more than @most
 */
size_t dp_forward_list(const struct dp_table *table, const struct dp_decision *decision,
		       uint16_t from, uint16_t *ports, size_t most);

/**
 * dp_forward_asks_for() - Whether a group frame asks for one address
 * @table:	Table
 * @network:	Where
 * @frame:	Parsed view of a frame to a group
 * @holder:	Set to the port that is bound to the address, or DP_NO_PORT
 *
 * An ARP request or a neighbour solicitation does.
 */
bool dp_forward_asks_for(const struct dp_table *table, uint16_t network,
			 const struct dp_frame *frame, uint16_t *holder);

/**
 * dp_forward_trace() - Judge a frame that a vif could send
 *
 * As dp_forward_from_vif(), by the same code; but takes no tokens and changes nothing.
 */
void dp_forward_trace(const struct dp_table *table, uint16_t port, struct dp_frame *frame,
		      const uint8_t *data, size_t len, uint64_t now_ns,
		      struct dp_decision *decision);

#endif
