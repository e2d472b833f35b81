/* SPDX-License-Identifier: Apache-2.0 */
/*
 * judging.h - A gate of a table that a stranger wrote, and frames through it
 *
 * What was kept of a verdict must be what a walk would say, and that a frame might come
 * must change nothing: so each frame is judged twice, first only to look.
 */
#ifndef JUDGING_H
#define JUDGING_H

#include <stddef.h>

#include "fuzz.h"
#include "gate.h"
#include "learn.h"
#include "reject.h"

struct station {
	uint8_t *memory; /* of the filter */
	struct dp_gate *gate;
	struct dp_flows *flows;
	bool fickle;
	unsigned long n_loaded, n_judged, n_refused;
};

/* Forgets all connections; most of that memory was not touched. */
static inline void forget(struct dp_flows *flows)
{
	if (flows->n_used)
		memset(flows->flows, 0, (flows->n_used + 1) * sizeof(flows->flows[0]));
	memset(flows->counts, 0, sizeof(flows->counts));
	memset(flows->pieces, 0, sizeof(flows->pieces));
	memset(flows, 0, offsetof(struct dp_flows, flows));
	dp_flows_init(flows, 0x5eed);
}

/* Makes a gate of a table; false where that is refused. */
static inline bool open_gate(struct station *station, const uint8_t *bytes, size_t len)
{
	uint8_t *table = copy_of(bytes, len);
	size_t size = dp_filter_size(table, len);
	const struct dp_filter *filter;

	if (!station->gate) {
		station->gate = (struct dp_gate *)(void *)allocate(dp_gate_size());
		station->flows = calloc(1, dp_flows_size());
		REQUIRE(station->flows);
	}
	free(station->memory);
	station->memory = allocate(size);
	memset(station->memory, 0xa5, size);
	filter = size ? dp_filter_load(station->memory, table, len) : NULL;
	free(table);
	if (!filter)
		return false;
	memset(station->gate, 0, dp_gate_size());
	forget(station->flows);
	dp_gate_init(station->gate, filter, station->flows);
	station->fickle = false;
	for (uint32_t i = 0; i < filter->n_lists; i++)
		station->fickle |= filter->lists[i].fickle;
	station->n_loaded++;
	return true;
}

/* Whatever is seen is an address that a station can have. */
static inline void learn(const struct dp_frame *frame, enum dp_gate_direction direction)
{
	for (uint8_t learns = 0; learns <= DP_LEARNS_ALL; learns++) {
		struct dp_sighting what;
		bool seen;

		memset(&what, 0xa5, sizeof(what));
		if (direction == DP_GATE_OUT)
			seen = dp_learn_from_vif(learns, frame, &what);
		else
			seen = dp_learn_to_vif(learns, frame->data, frame, &what);
		REQUIRE(!seen || (learns && what.kind < DP_N_SIGHTINGS && what.addr[0] < 224));
	}
}

static inline void judge(struct station *station, const uint8_t *bytes, size_t len,
			 enum dp_gate_direction direction, uint64_t now_ns)
{
	struct dp_passage peeked, passage;
	struct dp_frame frame;
	uint8_t *data = copy_of(bytes, len), *answer;
	enum dp_filter_action action;

	memset(&frame, 0xa5, sizeof(frame));
	memset(&frame.meta, 0, sizeof(frame.meta));
	memset(&peeked, 0xa5, sizeof(peeked));
	memset(&passage, 0xa5, sizeof(passage));
	if (dp_frame_parse(&frame, data, len) < 0) {
		free(data);
		return;
	}
	dp_gate_judge(station->gate, &frame, direction, now_ns, true, &peeked);
	action = dp_gate_judge(station->gate, &frame, direction, now_ns, false, &passage);
	REQUIRE(action == passage.action);
	REQUIRE(action == DP_ACT_ACCEPT || action == DP_ACT_DROP || action == DP_ACT_REJECT);
	REQUIRE(passage.steps <= station->gate->filter->n_rules);
	/* What has expired is counted until somebody comes. */
	if (!station->fickle) {
		REQUIRE(peeked.action == passage.action);
		REQUIRE(memcmp(peeked.origin, passage.origin, sizeof(passage.origin)) == 0);
		REQUIRE(memcmp(peeked.list, passage.list, sizeof(passage.list)) == 0);
	}
	if (action == DP_ACT_ACCEPT)
		station->n_refused += !dp_gate_confirm(station->gate, now_ns, &passage);
	if (action == DP_ACT_ACCEPT)
		learn(&frame, direction);
	REQUIRE(station->flows->n_flows <= DP_MAX_FLOWS);
	answer = allocate(DP_REJECT_LEN);
	REQUIRE(dp_reject_build(answer, &frame, len) <= DP_REJECT_LEN);
	station->n_judged++;
	free(answer);
	free(data);
}

#endif
