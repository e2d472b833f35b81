/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliver.c - One frame's way: judged by core/, then handed to its receivers
 *
 * Everything that is counted per vif is counted here.
 */
#include <string.h>

#include "../core/claim.h"
#include "loop.h"

static void count_drop(struct dp_port *port, enum dp_verdict reason)
{
	port->count.drops[reason]++;
}

/* What comes before the limits among the reasons is no frame that a vif may send at all. */
_Static_assert(DP_DROP_EXT_HEADER + 1 == DP_DROP_RATE_LIMIT, "the first of the lawful ones");

/* A frame goes no further than to where it came in. */
static void refuse(struct dp_loop *loop, struct dp_port *row, enum dp_verdict reason)
{
	if (row->kind == DP_PORT_VIF && reason < DP_DROP_RATE_LIMIT) {
		loop->spent += DP_COST_REFUSED;
		loop->refused++;
	}
	count_drop(row, reason);
}

static int64_t cost_of(size_t len)
{
	return DP_COST_FRAME + (int64_t)len;
}

/* What it takes to write a frame to a port, which may have to be given its segments. */
static int64_t cost_to(const struct dp_io_port *port, const struct dp_frame *frame)
{
	int64_t cost = cost_of(frame->len);

	if (frame->meta.gso != DP_GSO_NONE && dp_offload_needs(frame) & ~port->offload)
		cost += (int64_t)dp_offload_segments(frame) * DP_COST_FRAME;
	return cost;
}

void dp_rx_gather(struct dp_rx *rx)
{
	if (rx->rest)
		memcpy(rx->data + DP_HEAD_LEN, rx->rest, rx->len - DP_HEAD_LEN);
	rx->rest = NULL;
	/* The copy is what counts, whatever becomes of what it was made from. */
	__asm__ volatile("" ::: "memory");
}

/* Whether the receiver took it. */
static bool send_to(struct dp_loop *loop, uint16_t id, const struct dp_frame *frame,
		    struct dp_rx *rx)
{
	struct dp_io_port *port = &loop->ports[id];
	struct dp_port *row = &loop->table->ports[id];
	enum dp_verdict verdict;

	if (!port->transport || !row->up) {
		count_drop(row, DP_DROP_DETACHED);
		return false;
	}
	if (!port->transport->takes_parts || dp_offload_needs(frame) & ~port->offload)
		dp_rx_gather(rx);
	verdict = port->transport->send(loop, port, frame, rx);
	if (verdict != DP_PASS) {
		count_drop(row, verdict);
		return false;
	}
	loop->spent += cost_to(port, frame);
	row->count.tx_frames++;
	row->count.tx_bytes += frame->len;
	if (!port->dirty) {
		port->dirty = true;
		loop->dirty[loop->n_dirty++] = id;
	}
	return true;
}

static void note_conflict(struct dp_loop *loop, const struct dp_decision *decision,
			  const struct dp_frame *frame)
{
	struct dp_conflict *conflict = &loop->table->ports[decision->conflict].conflict;

	memcpy(conflict->mac, frame->data + DP_MAC_LEN, DP_MAC_LEN);
	memcpy(conflict->addr, decision->conflict_addr, sizeof(conflict->addr));
	conflict->family = decision->conflict_family;
	conflict->count++;
}

/* Whether what is left to do for the frame is something that a receiver can be told. */
static bool offload_fits(const struct dp_frame *frame)
{
	return (frame->meta.csum != DP_CSUM_NEEDED && frame->meta.gso == DP_GSO_NONE) ||
	       dp_offload_fits(frame);
}

/*
 * The kernel may leave a checksum that we do not know (a tunnel's).  It is
 * completed here, and the frame judged again: the sum may have been asked for
 * anywhere, over an address too.
 */
static void judge_from_uplink(struct dp_loop *loop, uint16_t port, struct dp_frame *frame,
			      struct dp_rx *rx, struct dp_decision *decision)
{
	size_t start = rx->meta.csum_start, offset = rx->meta.csum_offset;

	dp_forward_from_uplink(loop->table, port, frame, rx->data, rx->len, decision);
	if (decision->verdict != DP_PASS || offload_fits(frame))
		return;
	if (rx->meta.gso != DP_GSO_NONE || start + offset + 2 > frame->l3_end) {
		decision->verdict = DP_DROP_OFFLOAD_HEADER;
		return;
	}
	dp_offload_complete(rx->data, frame->l3_end, start, offset, false);
	frame->meta.csum = DP_CSUM_COMPLETE;
	dp_forward_from_uplink(loop->table, port, frame, rx->data, rx->len, decision);
}

void dp_deliver_drop(struct dp_loop *loop, struct dp_io_port *from, size_t len,
		     enum dp_verdict reason)
{
	struct dp_port *row = &loop->table->ports[from->id];

	loop->spent += cost_of(len);
	row->count.rx_frames++;
	row->count.rx_bytes += len;
	refuse(loop, row, reason);
}

static void deliver(struct dp_loop *loop, struct dp_io_port *from, struct dp_rx *rx, bool to_wire)
{
	struct dp_port *row = &loop->table->ports[from->id];
	struct dp_decision decision;
	struct dp_frame frame;

	loop->spent += cost_of(rx->len);
	row->count.rx_frames++;
	row->count.rx_bytes += rx->len;
	frame.meta = rx->meta;
	if (row->kind == DP_PORT_UPLINK) {
		judge_from_uplink(loop, from->id, &frame, rx, &decision);
		if (decision.conflict != DP_NO_PORT)
			note_conflict(loop, &decision, &frame);
	} else {
		dp_forward_from_vif(loop->table, from->id, &frame, rx->data, rx->len, loop->now_ns,
				    &decision);
	}
	if (decision.verdict != DP_PASS) {
		refuse(loop, row, (enum dp_verdict)decision.verdict);
		return;
	}
	if (to_wire && decision.route >= DP_ROUTE_FLOOD) {
		decision.route = DP_ROUTE_PORT;
		decision.port = loop->table->networks[decision.network].uplink;
	}
	if (rx->vnet)
		dp_offload_encode(rx->data - DP_VNET_LEN, &frame);
	/* All receivers shall get the same. */
	if (decision.route >= DP_ROUTE_FLOOD)
		dp_rx_gather(rx);
	for (uint16_t id = dp_forward_next(loop->table, &decision, from->id, DP_NO_PORT);
	     id != DP_NO_PORT; id = dp_forward_next(loop->table, &decision, from->id, id)) {
		bool sent = send_to(loop, id, &frame, rx);

		/* Who is on the wire was not asked. */
		if (!sent && decision.claims && loop->table->ports[id].kind == DP_PORT_UPLINK)
			dp_claim_yield(loop->table, from->id, frame.data + frame.l4_off + 8);
	}
}

void dp_deliver(struct dp_loop *loop, struct dp_io_port *from, struct dp_rx *rx)
{
	deliver(loop, from, rx, false);
}

void dp_deliver_to_wire(struct dp_loop *loop, struct dp_io_port *from, struct dp_rx *rx)
{
	deliver(loop, from, rx, true);
}
