/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.h - What both pumps, that of a stream and that of rings, have of their steps
 */
#ifndef PFINET_PUMP_STEP_H
#define PFINET_PUMP_STEP_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "pump.h"

#define ETHERNET_LEN 14
/* Frames between two looks at the other side: enough to make a look, or a send, cheap, few
 * enough that nothing there waits for long. */
#define BATCH_FRAMES 128
/* Bytes likewise: a batch of 64 KiB frames is passed on while it is still in the cache. */
#define BATCH_BYTES (256 * 1024)

/* What a step returns beside an enum pfinet_pump_end or a negative errno. */
#define GO_ON 1000

static inline bool would_block(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK;
}

static inline void note_length(struct pfinet_pump_report *report, size_t frame_len)
{
	if (frame_len > report->longest_bytes)
		report->longest_bytes = frame_len;
}

#endif
