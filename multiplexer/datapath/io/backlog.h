/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backlog.h - How much may wait for a peer: what it takes in a few milliseconds
 *
 * Memory for a burst of long frames holds tens of thousands of short ones, and whoever
 * reads those one by one needs a tenth of a second for them: a flood of short frames
 * would make everything late that others send there (bufferbloat, RFC 8289).  So what
 * waits is bounded by the time that the peer needs for it, if it comes from somebody who
 * sends much (turn.h); others have four times as much.
 *
 * What a peer needs is reckoned as for turns, by frames and bytes: DP_BACKLOG_FRAME is
 * what a frame takes a peer beside its bytes, in bytes.  A peer only shows how many bytes
 * it has taken, so the work that was given until then is noted at each of DP_BACKLOG_MARKS
 * parts of the memory, and is known to one of them.
 *
 * How fast a peer works shows only while something waits for it all the time.  One that
 * did more is believed at once, one that did less by and by, since it may just not have
 * had a processor; and of one that has taken everything nobody knows how much more it
 * could have.
 */
#ifndef DP_IO_BACKLOG_H
#define DP_IO_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

#define DP_BACKLOG_FRAME 2048
#define DP_BACKLOG_MARKS 256

/* What may wait of those who send much: so long, but always so much. */
#define DP_BACKLOG_MS 5
#define DP_BACKLOG_MIN (512u * 1024)

/* How often it is looked how far a peer has come. */
#define DP_BACKLOG_LOOK_NS 1000000

struct dp_backlog {
	uint64_t given;     /* work, ever */
	uint64_t looked_ns; /* when it was last looked how far the peer is */
	uint64_t per_ms;    /* what it does; 0: it has never been looked at */
	uint64_t then_given, then_taken; /* at that look */
	uint64_t until[2];  /* before so much is given, another frame may wait: light, heavy */
	uint32_t index;     /* bytes ever, modulo 2^32 */
	uint32_t part_bits; /* of an index, within its part */
	uint64_t marks[DP_BACKLOG_MARKS]; /* what was given when a part was begun */
};

/**
 * dp_backlog_open() - Begin with nothing that waits
 * @memory_len:	Bytes that can wait at most; a power of two, at least DP_BACKLOG_MARKS
 * @index:	Of the first byte
 */
void dp_backlog_open(struct dp_backlog *backlog, uint32_t memory_len, uint32_t index);

/**
 * dp_backlog_give() - Note a frame
 * @index:	Behind its last byte, modulo 2^32
 * @len:	Of the frame
 */
void dp_backlog_give(struct dp_backlog *backlog, uint32_t index, uint32_t len);

#ifndef DP_CDEF /* the Python binding has no use for this */
/** dp_backlog_is_due() - Whether it is time for dp_backlog_look() */
static inline bool dp_backlog_is_due(const struct dp_backlog *backlog, uint64_t now_ns)
{
	return now_ns - backlog->looked_ns >= DP_BACKLOG_LOOK_NS;
}
#endif

/**
 * dp_backlog_look() - Note how far the peer has come, and reckon how fast it is
 * @taken:	Index behind the last byte that it has taken
 */
void dp_backlog_look(struct dp_backlog *backlog, uint64_t now_ns, uint32_t taken);

/**
 * dp_backlog_see() - Note how far the peer has come
 * @taken:	Index behind the last byte that it has taken
 */
void dp_backlog_see(struct dp_backlog *backlog, uint32_t taken);

/**
 * dp_backlog_has_room() - Whether another frame may wait, by how far the peer was last seen
 * @heavy:	Whether it comes from somebody who sends much
 */
bool dp_backlog_has_room(const struct dp_backlog *backlog, bool heavy);

#endif
