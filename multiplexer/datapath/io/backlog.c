/* SPDX-License-Identifier: Apache-2.0 */
#include "backlog.h"

#include <string.h>

/* Twice what the fastest peer was seen to do, and what it is until the first look. */
#define FASTEST (1ull << 27)

/* A peer that seems slower is believed by so much of the difference. */
#define BELIEF 8

/* Of those who send little, so many times as much may wait. */
#define LIGHT 4

#define MS_NS 1000000ull
#define S_NS (1000 * MS_NS)

void dp_backlog_open(struct dp_backlog *backlog, uint32_t memory_len, uint32_t index)
{
	memset(backlog, 0, sizeof(*backlog));
	backlog->part_len = memory_len / DP_BACKLOG_MARKS;
	backlog->index = index;
}

void dp_backlog_give(struct dp_backlog *backlog, uint32_t index, uint32_t len)
{
	uint32_t part = backlog->index / backlog->part_len, last = index / backlog->part_len;

	/* The parts that it reaches into begin with it; none is reached twice. */
	for (uint32_t n = 0; part != last && n < DP_BACKLOG_MARKS; n++) {
		part = (part + 1) % (UINT32_MAX / backlog->part_len + 1);
		backlog->marks[part % DP_BACKLOG_MARKS] = backlog->given;
	}
	backlog->index = index;
	backlog->given += len + DP_BACKLOG_FRAME;
}

/* The work of what was taken, at least. */
static uint64_t taken_until(const struct dp_backlog *backlog, uint32_t taken)
{
	if (taken == backlog->index)
		return backlog->given;
	return backlog->marks[taken / backlog->part_len % DP_BACKLOG_MARKS];
}

void dp_backlog_look(struct dp_backlog *backlog, uint64_t now_ns, uint32_t taken)
{
	uint64_t elapsed_ns = now_ns - backlog->looked_ns;
	uint64_t done = taken_until(backlog, taken), per_ms;

	/* Where it had taken everything that was known exactly, and now it is to a part. */
	if (done < backlog->then_taken)
		done = backlog->then_taken;
	per_ms = (done - backlog->then_taken) * MS_NS / (elapsed_ns ? elapsed_ns : 1);
	if (backlog->per_ms == 0)
		backlog->per_ms = FASTEST;
	else if (per_ms >= backlog->per_ms)
		backlog->per_ms = per_ms;
	else if (done < backlog->then_given) /* it had something to do all the time */
		backlog->per_ms -= (backlog->per_ms - per_ms) / BELIEF;
	else /* twice as much in a second */
		backlog->per_ms += backlog->per_ms * (elapsed_ns < S_NS ? elapsed_ns : S_NS) / S_NS;
	if (backlog->per_ms > FASTEST)
		backlog->per_ms = FASTEST;
	if (backlog->per_ms == 0)
		backlog->per_ms = 1;
	backlog->looked_ns = now_ns;
	backlog->then_given = backlog->given;
	backlog->then_taken = done;
}

bool dp_backlog_has_room(const struct dp_backlog *backlog, uint32_t taken, bool heavy)
{
	uint64_t most = (backlog->per_ms ? backlog->per_ms : FASTEST) * DP_BACKLOG_MS;

	if (most < DP_BACKLOG_MIN)
		most = DP_BACKLOG_MIN;
	if (!heavy)
		most *= LIGHT;
	return backlog->given - taken_until(backlog, taken) < most;
}
