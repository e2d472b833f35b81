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

/* The work of what was taken, at least. */
static uint64_t taken_until(const struct dp_backlog *backlog, uint32_t taken)
{
	if (taken == backlog->index)
		return backlog->given;
	return backlog->marks[(taken >> backlog->part_bits) % DP_BACKLOG_MARKS];
}

void dp_backlog_see(struct dp_backlog *backlog, uint32_t taken)
{
	uint64_t most = (backlog->per_ms ? backlog->per_ms : FASTEST) * DP_BACKLOG_MS;
	uint64_t done = taken_until(backlog, taken);

	if (most < DP_BACKLOG_MIN)
		most = DP_BACKLOG_MIN;
	backlog->until[0] = done + most * LIGHT;
	backlog->until[1] = done + most;
}

bool dp_backlog_has_room(const struct dp_backlog *backlog, bool heavy)
{
	return backlog->given < backlog->until[heavy];
}

void dp_backlog_open(struct dp_backlog *backlog, uint32_t memory_len, uint32_t index)
{
	memset(backlog, 0, sizeof(*backlog));
	backlog->part_bits = (uint32_t)__builtin_ctz(memory_len / DP_BACKLOG_MARKS);
	backlog->index = index;
	dp_backlog_see(backlog, index);
}

/* The parts that a frame reaches into begin with it; none is reached twice. */
static void mark(struct dp_backlog *backlog, uint32_t index)
{
	uint32_t part = backlog->index >> backlog->part_bits, last = index >> backlog->part_bits;
	uint32_t parts = (last - part) & (UINT32_MAX >> backlog->part_bits);

	for (uint32_t n = 0; n < parts && n < DP_BACKLOG_MARKS; n++)
		backlog->marks[++part % DP_BACKLOG_MARKS] = backlog->given;
}

void dp_backlog_give(struct dp_backlog *backlog, uint32_t index, uint32_t len)
{
	if ((backlog->index ^ index) >> backlog->part_bits)
		mark(backlog, index);
	backlog->index = index;
	backlog->given += len + DP_BACKLOG_FRAME;
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
	dp_backlog_see(backlog, taken);
}
