/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliver.c - One frame's way: judged by core/, then handed to its receivers
 *
 * Everything that is counted per vif is counted here.
 */
#include <string.h>

#include "../core/claim.h"
#include "../core/reject.h"
#include "loop.h"

static void count_drop(struct dp_port *port, enum dp_verdict reason)
{
	port->count.drops[reason]++;
}

/* What comes before filter and limits among the reasons no vif may send at all. */
_Static_assert(DP_DROP_EXT_HEADER + 1 == DP_DROP_FILTER_OUT, "the first of the lawful ones");

/* Nor may it flood with broadcasts.  What a filter or a rate is against may be lawful else. */
static bool is_refused(enum dp_verdict reason)
{
	return reason < DP_DROP_FILTER_OUT || reason == DP_DROP_BROADCAST_LIMIT;
}

/* A frame goes no further than to where it came in. */
static void refuse(struct dp_loop *loop, struct dp_port *row, enum dp_verdict reason)
{
	if (row->kind == DP_PORT_VIF && is_refused(reason)) {
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

/* Answers who sent what a filter has rejected, not too often. */
static void reject(struct dp_loop *loop, struct dp_gate *gate, uint16_t to,
		   const struct dp_frame *frame, const struct dp_rx *rx)
{
	uint8_t answer[DP_REJECT_LEN];
	struct dp_frame view = { .meta = { .csum = DP_CSUM_COMPLETE } };
	struct dp_rx out = { .data = answer };

	dp_bucket_refill(&gate->rejects, loop->now_ns);
	if (!dp_bucket_has(&gate->rejects, 1))
		return;
	out.len = dp_reject_build(answer, frame, rx->rest ? DP_HEAD_LEN : frame->len);
	if (!out.len || dp_frame_parse(&view, answer, out.len) < 0)
		return;
	dp_bucket_take(&gate->rejects, 1);
	send_to(loop, to, &view, &out);
}

/* What a receiver's filter says of a frame, which then has passed all others. */
static enum dp_verdict enter(struct dp_loop *loop, struct dp_gate *gate, uint16_t from,
			     const struct dp_frame *frame, const struct dp_rx *rx)
{
	struct dp_passage passage;
	enum dp_filter_action action =
		dp_gate_judge(gate, frame, DP_GATE_IN, loop->now_ns, false, &passage);

	loop->spent += (int64_t)passage.steps * DP_COST_RULE;
	if (action == DP_ACT_REJECT)
		reject(loop, gate, from, frame, rx);
	if (action != DP_ACT_ACCEPT)
		return DP_DROP_FILTER_IN;
	return dp_gate_confirm(gate, loop->now_ns, &passage) ? DP_PASS : DP_DROP_FLOW_LIMIT;
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
	if (decision.filtered) {
		loop->spent += (int64_t)decision.passage.steps * DP_COST_RULE;
		if (row->gate->learns && decision.passage.action == DP_ACT_ACCEPT)
			dp_sightings_note(loop, from->id, DP_GATE_OUT, &frame, rx);
	}
	if (decision.verdict != DP_PASS) {
		refuse(loop, row, (enum dp_verdict)decision.verdict);
		if (decision.verdict == DP_DROP_FILTER_OUT &&
		    decision.passage.action == DP_ACT_REJECT)
			reject(loop, row->gate, from->id, &frame, rx);
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
		struct dp_port *to = &loop->table->ports[id];
		enum dp_verdict verdict =
			to->gate ? enter(loop, to->gate, from->id, &frame, rx) : DP_PASS;
		bool sent;

		if (verdict != DP_PASS) {
			count_drop(to, verdict);
			continue;
		}
		/* It has passed everything, the first time that somebody gets it. */
		if (decision.filtered &&
		    !dp_gate_confirm(row->gate, loop->now_ns, &decision.passage)) {
			count_drop(row, DP_DROP_FLOW_LIMIT);
			return;
		}
		decision.filtered = false;
		sent = send_to(loop, id, &frame, rx);
		if (sent && to->gate && to->gate->learns)
			dp_sightings_note(loop, id, DP_GATE_IN, &frame, rx);

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
