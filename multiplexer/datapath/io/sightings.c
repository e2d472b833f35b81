/* SPDX-License-Identifier: Apache-2.0 */
#include "sightings.h"

#include <string.h>

#include "loop.h"

#define QUEUE_LEN (DP_MAX_PORTS * DP_SIGHTINGS_WAITING)

/* Whether it is said, since it is news and its vif has not said too much. */
static bool is_said(struct dp_sightings *sightings, uint16_t port, const struct dp_sighting *what,
		    uint64_t now_ns)
{
	struct dp_bucket *bucket = &sightings->buckets[port];

	if (what->kind == DP_SIGHTING_SOURCE && memcmp(sightings->source[port], what->addr, 4) == 0)
		return false;
	if (!bucket->rate)
		dp_bucket_set(bucket, DP_SIGHTINGS_PER_S);
	dp_bucket_refill(bucket, now_ns);
	if (sightings->waiting[port] >= DP_SIGHTINGS_WAITING || !dp_bucket_has(bucket, 1))
		return false;
	dp_bucket_take(bucket, 1);
	if (what->kind == DP_SIGHTING_SOURCE)
		memcpy(sightings->source[port], what->addr, 4);
	return true;
}

void dp_sightings_note(struct dp_loop *loop, uint16_t port, enum dp_gate_direction direction,
		       const struct dp_frame *frame, struct dp_rx *rx)
{
	struct dp_sightings *sightings = &loop->sightings;
	const struct dp_port *row = &loop->table->ports[port];
	uint8_t learns = row->gate->learns;
	struct dp_sighting what;
	struct dp_sighted *next;
	bool seen;

	if (dp_learn_is_dhcp(frame))
		dp_rx_gather(rx);
	if (direction == DP_GATE_OUT)
		seen = dp_learn_from_vif(learns, frame, &what);
	else
		seen = dp_learn_to_vif(learns, row->bind.mac, frame, &what);
	if (!seen || !is_said(sightings, port, &what, loop->now_ns))
		return;
	/* A vif has its own share of the queue: there is room. */
	next = &sightings->queue[(sightings->at + sightings->n++) % QUEUE_LEN];
	next->port = port;
	next->what = what;
	sightings->waiting[port]++;
}

void dp_sightings_renew(struct dp_sightings *sightings, uint16_t port)
{
	memset(sightings->source[port], 0, sizeof(sightings->source[port]));
}

void dp_sightings_forget(struct dp_sightings *sightings, uint16_t port)
{
	uint32_t n = sightings->n;

	dp_sightings_renew(sightings, port);
	memset(&sightings->buckets[port], 0, sizeof(sightings->buckets[port]));
	if (!sightings->waiting[port])
		return;
	sightings->waiting[port] = 0;
	sightings->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct dp_sighted each = sightings->queue[(sightings->at + i) % QUEUE_LEN];

		if (each.port != port)
			sightings->queue[(sightings->at + sightings->n++) % QUEUE_LEN] = each;
	}
}

bool dp_sightings_next(struct dp_sightings *sightings, struct dp_sighted *sighted)
{
	if (!sightings->n)
		return false;
	*sighted = sightings->queue[sightings->at];
	sightings->at = (sightings->at + 1) % QUEUE_LEN;
	sightings->n--;
	sightings->waiting[sighted->port]--;
	return true;
}
