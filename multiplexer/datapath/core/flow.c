/* SPDX-License-Identifier: Apache-2.0 */
#include "flow.h"

#include <string.h>

#include "track.h"

#define NS_PER_S 1000000000ull

/*
 * Of what has expired, each queue loses this much at most with one frame; more where it
 * would be counted still.
 */
#define MAX_SWEEP 2
#define MAX_COUNTED_SWEEP 64

/* Seconds; Linux's own (nf_conntrack_proto_*.c), of 2.4 in all that a filter can tell. */
static const uint32_t timeout_s[DP_N_QUEUES] = {
	[DP_QUEUE_ICMP_NEW] = 30,      [DP_QUEUE_ICMP] = 30,
	[DP_QUEUE_UDP_NEW] = 30,       [DP_QUEUE_UDP] = 120,
	[DP_QUEUE_TCP_SYN] = 120,      [DP_QUEUE_TCP_SYN_RECV] = 60,
	[DP_QUEUE_TCP_PICKED_UP] = 300, [DP_QUEUE_TCP] = 432000,
	[DP_QUEUE_TCP_CLOSING] = 120,  [DP_QUEUE_TCP_RESET] = 10,
	[DP_QUEUE_OTHER_NEW] = 600,    [DP_QUEUE_OTHER] = 600,
};

size_t dp_flows_size(void)
{
	return sizeof(struct dp_flows);
}

void dp_flows_init(struct dp_flows *flows, uint64_t seed)
{
	flows->seed = seed;
}

/* ---- queues ---- */

static void unqueue(struct dp_flows *flows, uint32_t id)
{
	struct dp_flow *flow = &flows->flows[id];
	struct dp_flow_queue_ends *ends = &flows->queues[flow->queue];

	if (flow->older)
		flows->flows[flow->older].newer = flow->newer;
	else
		ends->oldest = flow->newer;
	if (flow->newer)
		flows->flows[flow->newer].older = flow->older;
	else
		ends->newest = flow->older;
}

static void enqueue(struct dp_flows *flows, uint32_t id, uint8_t queue, uint64_t now_ns)
{
	struct dp_flow *flow = &flows->flows[id];
	struct dp_flow_queue_ends *ends = &flows->queues[queue];

	flow->queue = queue;
	flow->expires_ns = now_ns + timeout_s[queue] * NS_PER_S;
	flow->older = ends->newest;
	flow->newer = DP_NO_FLOW;
	if (ends->newest)
		flows->flows[ends->newest].newer = id;
	else
		ends->oldest = id;
	ends->newest = id;
}

/* Puts a flow that was just used to the end of a queue. */
static void touch(struct dp_flows *flows, uint32_t id, uint8_t queue, uint64_t now_ns)
{
	struct dp_flow *flow = &flows->flows[id];

	/* Who used it last before is who uses it now, mostly. */
	if (flow->queue == queue && flows->queues[queue].newest == id) {
		flow->expires_ns = now_ns + timeout_s[queue] * NS_PER_S;
		return;
	}
	unqueue(flows, id);
	enqueue(flows, id, queue, now_ns);
}

static uint8_t queue_of(const struct dp_flow *flow)
{
	switch (flow->key.proto) {
	case DP_IPPROTO_TCP:
		switch (flow->tcp) {
		case DP_TCP_SYN_SENT:
			return DP_QUEUE_TCP_SYN;
		case DP_TCP_SYN_RECV:
			return DP_QUEUE_TCP_SYN_RECV;
		case DP_TCP_CLOSING:
			return DP_QUEUE_TCP_CLOSING;
		case DP_TCP_RESET:
			return DP_QUEUE_TCP_RESET;
		default:
			return flow->replied ? DP_QUEUE_TCP : DP_QUEUE_TCP_PICKED_UP;
		}
	case DP_IPPROTO_UDP:
	case DP_IPPROTO_UDPLITE:
		return flow->replied ? DP_QUEUE_UDP : DP_QUEUE_UDP_NEW;
	case DP_IPPROTO_ICMP:
	case DP_IPPROTO_ICMPV6:
		if (flow->key.query)
			return flow->replied ? DP_QUEUE_ICMP : DP_QUEUE_ICMP_NEW;
		break;
	default:
		break;
	}
	return flow->replied ? DP_QUEUE_OTHER : DP_QUEUE_OTHER_NEW;
}

/* ---- coming and going ---- */

static void remove_flow(struct dp_flows *flows, uint32_t id)
{
	struct dp_flow *flow = &flows->flows[id];
	uint32_t *link = &flows->buckets[dp_track_bucket(flows, &flow->key)];

	unqueue(flows, id);
	dp_count_forget(flows, flow);
	if (flows->last == id)
		flows->last = DP_NO_FLOW;
	/* It is in its bucket, and a bucket has at most all flows. */
	for (uint32_t i = 0; i < DP_MAX_FLOWS && *link != id; i++)
		link = &flows->flows[*link].next;
	*link = flow->next;
	flow->next = flows->free;
	flows->free = id;
	flows->n_flows--;
}

static void sweep(struct dp_flows *flows, uint64_t now_ns, unsigned int most)
{
	for (unsigned int queue = 0; queue < DP_N_QUEUES; queue++) {
		for (unsigned int i = 0; i < most; i++) {
			uint32_t id = flows->queues[queue].oldest;

			if (!id || flows->flows[id].expires_ns > now_ns)
				break;
			remove_flow(flows, id);
		}
	}
}

/* Of the heads of queues from @first to @last the one that was used least recently. */
static uint32_t least_recent(const struct dp_flows *flows, unsigned int first, unsigned int last)
{
	uint32_t found = DP_NO_FLOW;
	uint64_t found_ns = UINT64_MAX;

	for (unsigned int queue = first; queue <= last; queue++) {
		uint32_t id = flows->queues[queue].oldest;
		uint64_t used_ns;

		if (!id)
			continue;
		used_ns = flows->flows[id].expires_ns - timeout_s[queue] * NS_PER_S;
		if (used_ns < found_ns) {
			found_ns = used_ns;
			found = id;
		}
	}
	return found;
}

static uint32_t take_free(struct dp_flows *flows)
{
	uint32_t id = flows->free;

	if (!id && flows->n_used < DP_MAX_FLOWS)
		return ++flows->n_used;
	if (!id) {
		id = least_recent(flows, 0, DP_QUEUE_OTHER_NEW);
		if (!id)
			id = least_recent(flows, DP_QUEUE_TCP_RESET, DP_QUEUE_TCP_CLOSING);
		if (!id)
			return DP_NO_FLOW;
		remove_flow(flows, id);
	}
	flows->free = flows->flows[id].next;
	return id;
}

static void drop_ended(struct dp_flows *flows, struct dp_track *track)
{
	if (!track->expired && !(track->flow && track->begins))
		return;
	remove_flow(flows, track->flow);
	track->flow = DP_NO_FLOW;
	track->expired = false;
}

void dp_flow_note(struct dp_flows *flows, uint64_t now_ns, struct dp_track *track)
{
	struct dp_flow *flow;

	if (track->expired)
		drop_ended(flows, track);
	if (flows->n_counts)
		sweep(flows, now_ns, MAX_COUNTED_SWEEP);
	if (track->flow && !track->begins && track->state != DP_FLOW_RELATED) {
		flow = &flows->flows[track->flow];
		flows->last = track->flow;
		if (track->reply)
			flow->replied = true;
		if (flow->key.proto == DP_IPPROTO_TCP)
			flow->tcp = dp_track_tcp_next(flow->tcp, track->tcp_flags, track->reply);
		touch(flows, track->flow, queue_of(flow), now_ns);
	}
}

bool dp_flow_confirm(struct dp_flows *flows, uint64_t now_ns, struct dp_track *track)
{
	struct dp_flow *flow;
	uint32_t id, bucket;

	if (track->state == DP_FLOW_ESTABLISHED || (track->flow && !track->begins)) {
		if (track->counted && track->flow && track->state != DP_FLOW_RELATED)
			dp_count_add(flows, &flows->flows[track->flow], track);
		return true;
	}
	if (track->state != DP_FLOW_NEW)
		return true;
	drop_ended(flows, track);
	sweep(flows, now_ns, MAX_SWEEP);
	id = take_free(flows);
	if (!id)
		return false;
	flow = &flows->flows[id];
	memset(flow, 0, sizeof(*flow));
	flow->key = track->key;
	flow->origin = track->side;
	if (flow->key.proto == DP_IPPROTO_TCP)
		flow->tcp = dp_track_tcp_next(DP_TCP_NONE, track->tcp_flags, false);
	bucket = dp_track_bucket(flows, &flow->key);
	flow->next = flows->buckets[bucket];
	flows->buckets[bucket] = id;
	flows->n_flows++;
	enqueue(flows, id, queue_of(flow), now_ns);
	dp_count_add(flows, flow, track);
	track->flow = id;
	track->begins = false;
	return true;
}
