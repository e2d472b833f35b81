/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many connections a source has, rule by rule: open addressing with linear probing.
 *
 * A rule counts the connections whose frames came as far as its limit, as Linux does
 * (xt_connlimit), and only such as are in the table.
 */
#include <string.h>

#include "track.h"

/* A quarter stays empty, so that a probe ends soon. */
#define MAX_COUNTS (DP_COUNT_SLOTS - DP_COUNT_SLOTS / 4)

_Static_assert((DP_COUNT_SLOTS & (DP_COUNT_SLOTS - 1)) == 0, "a slot is masked");
_Static_assert(sizeof(struct dp_count) == 24, "as small as can be");

static uint32_t slot_of(const struct dp_flows *flows, const uint8_t *addr, uint8_t family,
			unsigned int rule)
{
	struct dp_flow_key key;

	memset(&key, 0, sizeof(key));
	memcpy(key.addr[0], addr, 16);
	key.family = family;
	key.query = (uint8_t)rule;
	return dp_track_bucket(flows, &key) * (DP_COUNT_SLOTS / DP_FLOW_BUCKETS);
}

static bool is_of(const struct dp_count *count, const uint8_t *addr, uint8_t family,
		  unsigned int rule)
{
	return count->rule == rule && count->family == family && memcmp(count->addr, addr, 16) == 0;
}

/* The slot of that count, or the empty one where it would stand. */
static uint32_t find(const struct dp_flows *flows, const uint8_t *addr, uint8_t family,
		     unsigned int rule)
{
	uint32_t slot = slot_of(flows, addr, family, rule);

	for (uint32_t i = 0; i < DP_COUNT_SLOTS; i++) {
		if (!flows->counts[slot].n || is_of(&flows->counts[slot], addr, family, rule))
			break;
		slot = (slot + 1) & (DP_COUNT_SLOTS - 1);
	}
	return slot;
}

/* Empties a slot, and moves up what would not be found behind it any more. */
static void clear_slot(struct dp_flows *flows, uint32_t hole)
{
	uint32_t slot = hole;

	flows->n_counts--;
	for (uint32_t i = 0; i < DP_COUNT_SLOTS; i++) {
		const struct dp_count *count;
		uint32_t home;

		slot = (slot + 1) & (DP_COUNT_SLOTS - 1);
		count = &flows->counts[slot];
		if (!count->n)
			break;
		home = slot_of(flows, count->addr, count->family, count->rule);
		if (((slot - home) & (DP_COUNT_SLOTS - 1)) >= ((slot - hole) & (DP_COUNT_SLOTS - 1))) {
			flows->counts[hole] = *count;
			hole = slot;
		}
	}
	memset(&flows->counts[hole], 0, sizeof(flows->counts[hole]));
}

uint32_t dp_flow_count(const struct dp_flows *flows, struct dp_track *track, unsigned int rule)
{
	const uint8_t *addr = track->key.addr[track->side];
	const struct dp_flow *flow = &flows->flows[track->flow];
	bool known = track->flow && !track->expired && !track->begins;
	uint32_t n;

	if (known && flow->counted[track->side] & (1u << rule))
		return flows->counts[find(flows, addr, flow->key.family, rule)].n;
	n = flows->counts[find(flows, addr, track->key.family, rule)].n;
	if (!n && flows->n_counts >= MAX_COUNTS)
		return UINT32_MAX;
	track->counted |= 1u << rule;
	return n + 1;
}

void dp_count_add(struct dp_flows *flows, struct dp_flow *flow, const struct dp_track *track)
{
	uint32_t wanted = track->counted & ~flow->counted[track->side];

	for (unsigned int rule = 0; wanted && rule < DP_MAX_COUNTS; rule++) {
		struct dp_count *count;

		if (!(wanted & (1u << rule)))
			continue;
		count = &flows->counts[find(flows, flow->key.addr[track->side], flow->key.family,
					    rule)];
		if (!count->n) {
			if (flows->n_counts >= MAX_COUNTS)
				continue;
			flows->n_counts++;
			memcpy(count->addr, flow->key.addr[track->side], 16);
			count->family = flow->key.family;
			count->rule = (uint8_t)rule;
		}
		count->n++;
		flow->counted[track->side] |= 1u << rule;
	}
}

void dp_count_forget(struct dp_flows *flows, struct dp_flow *flow)
{
	for (unsigned int side = 0; side < 2; side++) {
		for (unsigned int rule = 0; flow->counted[side] && rule < DP_MAX_COUNTS; rule++) {
			uint32_t slot;

			if (!(flow->counted[side] & (1u << rule)))
				continue;
			flow->counted[side] &= ~(1u << rule);
			slot = find(flows, flow->key.addr[side], flow->key.family, rule);
			if (flows->counts[slot].n && --flows->counts[slot].n == 0)
				clear_slot(flows, slot);
		}
	}
}

void dp_flows_recount(struct dp_flows *flows)
{
	if (!flows->n_counts)
		return;
	memset(flows->counts, 0, sizeof(flows->counts));
	flows->n_counts = 0;
	for (uint32_t id = 1; id <= flows->n_used; id++)
		memset(flows->flows[id].counted, 0, sizeof(flows->flows[id].counted));
}
