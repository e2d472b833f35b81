/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of a virtual interface: frames in memory that two processes share.
 *
 * One memory holds two rings, "up" from the client to the daemon and "down" back.
 * Each has one producer and one consumer, who share two numbers: how many bytes
 * were ever written, and how many of them were taken, both modulo 2^32.
 *
 *	0	up: line of the producer	128	up: line of the consumer
 *	256	down: line of the producer	384	down: line of the consumer
 *	4096	up: data			4096 + n	down: data
 *
 * A record is a length of 4 bytes and the payload of a record of pfinet_wire.h, padded
 * to a multiple of 8 bytes.  It never wraps: what does not fit before the end of the
 * data is written at its beginning, and the length PFINET_RING_SKIP stands where it did
 * not.  All numbers are the machine's own, and aligned.  proto/SPEC.md, section 4.5, is
 * the contract.
 *
 * What must stay true, whatever the other side writes at whatever moment:
 * - It is believed nothing.  Each number is read once, into a local, and checked; a
 *   payload that is found lies inside the data.
 * - Its index only moves forward, and never beyond what there is room for; a side that
 *   sees another index, or a length that has no meaning, ends the attachment.
 * - A side's own index is its own: it is published, and never read back, but by
 *   pfinet_ring_adopt(), when a daemon goes on with what its predecessor has left.
 *
 * Ordering: who publishes an index stores it with release, who reads it loads it with
 * acquire.  Who waits sets its flag and then looks once more; who publishes looks at
 * the flag afterwards; between the two steps of each stands a sequentially consistent
 * fence, so at least one of them sees what the other has done.
 *
 * Header-only, no system calls, no allocation: the engine and its clients share it.
 */
#ifndef PFINET_RING_H
#define PFINET_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before the data: the lines. */
#define PFINET_RING_CONTROL_LEN 4096
/* The data of one ring: a power of two in these bounds, and what the daemon makes. */
#define PFINET_RING_MIN_LEN (256u * 1024)
#define PFINET_RING_MAX_LEN (4u * 1024 * 1024)
#define PFINET_RING_USUAL_LEN (1024u * 1024)
#define PFINET_RING_SEGMENTS_LEN (4u * 1024 * 1024)

#define PFINET_RING_ALIGN 8u
#define PFINET_RING_LENGTH_LEN 4u
/* Instead of a length: the next record stands at the beginning of the data. */
#define PFINET_RING_SKIP 0xffffffffu

/* What one side of one ring writes; but the other clears the flag, before it kicks. */
struct pfinet_ring_line {
	uint32_t index; /* a producer's: bytes written; a consumer's: bytes taken */
	uint32_t waits; /* not 0: kick me when your index has moved */
	uint32_t unused[30];
};

_Static_assert(sizeof(struct pfinet_ring_line) == 128, "two lines of a cache, for its prefetcher");
_Static_assert(sizeof(struct pfinet_ring_line) * 4 <= PFINET_RING_CONTROL_LEN, "before the data");

enum pfinet_ring_which {
	PFINET_RING_UP = 0,   /* from the client */
	PFINET_RING_DOWN = 1, /* to the client */
};

/* One side's view of one ring, in its private memory. */
struct pfinet_ring {
	struct pfinet_ring_line *own, *other;
	uint8_t *data;
	uint32_t len;   /* of the data */
	uint32_t index; /* this side's */
	uint32_t seen;  /* the other side's, when it was last looked at and in order */
};

/** pfinet_ring_memory_len() - How long the memory of two rings of @len bytes is */
static inline size_t pfinet_ring_memory_len(uint32_t len)
{
	return PFINET_RING_CONTROL_LEN + 2 * (size_t)len;
}

/**
 * pfinet_ring_len_of() - How long each ring of a memory is
 * @memory_len:	Of the whole
 *
 * Return: bytes, or 0 if no rings have such a memory
 */
static inline uint32_t pfinet_ring_len_of(uint64_t memory_len)
{
	uint64_t len = (memory_len - PFINET_RING_CONTROL_LEN) / 2;

	if (memory_len < PFINET_RING_CONTROL_LEN || len < PFINET_RING_MIN_LEN ||
	    len > PFINET_RING_MAX_LEN || (len & (len - 1)) ||
	    pfinet_ring_memory_len((uint32_t)len) != memory_len)
		return 0;
	return (uint32_t)len;
}

/**
 * pfinet_ring_open() - Make the view of one ring, whose memory is still all zero
 * @ring:	View
 * @memory:	pfinet_ring_memory_len() bytes, at the beginning of a page
 * @len:	Of each ring, by pfinet_ring_len_of()
 * @which:	Ring
 * @produces:	Whether this side writes it
 */
static inline void pfinet_ring_open(struct pfinet_ring *ring, uint8_t *memory, uint32_t len,
				    enum pfinet_ring_which which, bool produces)
{
	struct pfinet_ring_line *lines = (struct pfinet_ring_line *)(void *)memory + 2 * which;

	ring->own = lines + !produces;
	ring->other = lines + produces;
	ring->data = memory + PFINET_RING_CONTROL_LEN + (size_t)which * len;
	ring->len = len;
	ring->index = 0;
	ring->seen = 0;
}

/* Whether a producer's and a consumer's index can be of one ring. */
static inline bool pfinet_ring_in_order(const struct pfinet_ring *ring, uint32_t written,
					uint32_t taken)
{
	return written - taken <= ring->len &&
	       ((written | taken) & (PFINET_RING_ALIGN - 1)) == 0;
}

/**
 * pfinet_ring_adopt() - Go on from where this side has left the ring, by what stands in it
 *
 * For a daemon that has lost its own index.  A client that has changed it hurts itself.
 *
 * Return: 0, or -1 if the indices cannot be of one ring
 */
static inline int pfinet_ring_adopt(struct pfinet_ring *ring, bool produces)
{
	uint32_t own = __atomic_load_n(&ring->own->index, __ATOMIC_ACQUIRE);
	uint32_t other = __atomic_load_n(&ring->other->index, __ATOMIC_ACQUIRE);

	if (!pfinet_ring_in_order(ring, produces ? own : other, produces ? other : own))
		return -1;
	ring->index = own;
	ring->seen = other;
	return 0;
}

/**
 * pfinet_ring_publish() - Let the other side see how far this one is
 *
 * What was written, or taken, before is then its to take, or to overwrite.
 */
static inline void pfinet_ring_publish(struct pfinet_ring *ring)
{
	__atomic_store_n(&ring->own->index, ring->index, __ATOMIC_RELEASE);
}

/**
 * pfinet_ring_wakes() - Whether the other side waits for what was published, and must be kicked
 *
 * It is then not told again: the caller kicks.
 */
static inline bool pfinet_ring_wakes(struct pfinet_ring *ring)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ring->other->waits, __ATOMIC_RELAXED) == 0)
		return false;
	__atomic_store_n(&ring->other->waits, 0, __ATOMIC_RELAXED);
	return true;
}

/**
 * pfinet_ring_wait() - Ask to be kicked when the other side has moved
 *
 * Return: whether it has not, so that this side may sleep; else look again, and
 * pfinet_ring_wait_no_more()
 */
static inline bool pfinet_ring_wait(struct pfinet_ring *ring)
{
	__atomic_store_n(&ring->own->waits, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring->other->index, __ATOMIC_RELAXED) == ring->seen;
}

/** pfinet_ring_wait_no_more() - Take that back; a kick may be on its way, and does no harm */
static inline void pfinet_ring_wait_no_more(struct pfinet_ring *ring)
{
	__atomic_store_n(&ring->own->waits, 0, __ATOMIC_RELAXED);
}

/** pfinet_ring_record_len() - What a payload takes of the data, if it does not have to skip */
static inline uint32_t pfinet_ring_record_len(uint32_t payload_len)
{
	return (payload_len + PFINET_RING_LENGTH_LEN + PFINET_RING_ALIGN - 1) &
	       ~(PFINET_RING_ALIGN - 1);
}

/* ---- the producer ---- */

/** pfinet_ring_used() - Bytes that the consumer had not taken when its index was last seen */
static inline uint32_t pfinet_ring_used(const struct pfinet_ring *ring)
{
	return ring->index - ring->seen;
}

/**
 * pfinet_ring_look_taken() - Look how far the consumer is
 * Return: 0, or -1 if its index is out of order
 */
static inline int pfinet_ring_look_taken(struct pfinet_ring *ring)
{
	uint32_t taken = __atomic_load_n(&ring->other->index, __ATOMIC_ACQUIRE);

	/* Forward, and not beyond what was ever written. */
	if (taken - ring->seen > ring->index - ring->seen ||
	    !pfinet_ring_in_order(ring, ring->index, taken))
		return -1;
	ring->seen = taken;
	return 0;
}

/* Whether @n records of up to @record_len bytes fit, by what was last seen. */
static inline bool pfinet_ring_fits(const struct pfinet_ring *ring, uint32_t n,
				    uint32_t record_len, uint32_t spare)
{
	uint64_t need = (uint64_t)n * record_len;

	/* Where they pass the end of the data, less than a record is skipped. */
	if (ring->len - (ring->index & (ring->len - 1)) < need)
		need += record_len;
	return need + spare <= ring->len - pfinet_ring_used(ring);
}

/**
 * pfinet_ring_room() - Whether there is room for records, all of them
 * @n:		How many
 * @payload_len:	Of the longest
 * @spare:	Bytes that shall stay free
 *
 * Return: 1, 0, or -1 if the consumer's index is out of order
 */
static inline int pfinet_ring_room(struct pfinet_ring *ring, uint32_t n, uint32_t payload_len,
				   uint32_t spare)
{
	uint32_t record_len = pfinet_ring_record_len(payload_len);

	if (pfinet_ring_fits(ring, n, record_len, spare))
		return 1;
	if (pfinet_ring_look_taken(ring) < 0)
		return -1;
	return pfinet_ring_fits(ring, n, record_len, spare);
}

/**
 * pfinet_ring_begin() - Where the payload of the next record is written
 * @payload_len:	At most; pfinet_ring_room() said that there is room
 *
 * The other side can read, and change, what stands there at any time.
 */
static inline uint8_t *pfinet_ring_begin(struct pfinet_ring *ring, uint32_t payload_len)
{
	uint32_t at = ring->index & (ring->len - 1);

	if (ring->len - at < pfinet_ring_record_len(payload_len)) {
		__atomic_store_n((uint32_t *)(void *)(ring->data + at), PFINET_RING_SKIP,
				 __ATOMIC_RELAXED);
		ring->index += ring->len - at;
		at = 0;
	}
	return ring->data + at + PFINET_RING_LENGTH_LEN;
}

/**
 * pfinet_ring_end() - Complete the record that was begun
 * @payload_len:	1 to what was said before
 *
 * The consumer sees it after pfinet_ring_publish().
 */
static inline void pfinet_ring_end(struct pfinet_ring *ring, uint32_t payload_len)
{
	uint32_t at = ring->index & (ring->len - 1);

	__atomic_store_n((uint32_t *)(void *)(ring->data + at), payload_len, __ATOMIC_RELAXED);
	ring->index += pfinet_ring_record_len(payload_len);
}

/* ---- the consumer ---- */

/** pfinet_ring_left() - Bytes that were written when that was last seen, and are not taken */
static inline uint32_t pfinet_ring_left(const struct pfinet_ring *ring)
{
	return ring->seen - ring->index;
}

/**
 * pfinet_ring_look_written() - Look how far the producer is
 * Return: 0, or -1 if its index is out of order
 */
static inline int pfinet_ring_look_written(struct pfinet_ring *ring)
{
	uint32_t written = __atomic_load_n(&ring->other->index, __ATOMIC_ACQUIRE);

	if (written - ring->index < pfinet_ring_left(ring) ||
	    !pfinet_ring_in_order(ring, written, ring->index))
		return -1;
	ring->seen = written;
	return 0;
}

/**
 * pfinet_ring_next() - Find the next record among those that were last seen
 * @max_payload:	The greatest length to accept
 * @payload:	Set to the payload if 1 is returned: it lies inside the data, and the
 *		other side can still change it
 * @payload_len:	Set to its length, 1 to @max_payload, if 1 is returned
 *
 * Does not take it.  Time is constant.
 *
 * Return: 1; 0 if there is none; -1 if what stands there is no record
 */
static inline int pfinet_ring_next(struct pfinet_ring *ring, uint32_t max_payload,
				   const uint8_t **payload, uint32_t *payload_len)
{
	uint32_t left = pfinet_ring_left(ring);
	uint32_t at = ring->index & (ring->len - 1);
	uint32_t len, record_len;

	if (left == 0)
		return 0;
	/* At least 8 bytes are left, and before the end of the data: all indices are aligned. */
	len = __atomic_load_n((const uint32_t *)(const void *)(ring->data + at), __ATOMIC_RELAXED);
	if (len == PFINET_RING_SKIP) {
		if (at == 0 || ring->len - at > left)
			return -1;
		ring->index += ring->len - at;
		left -= ring->len - at;
		at = 0;
		if (left == 0)
			return 0;
		len = __atomic_load_n((const uint32_t *)(const void *)ring->data,
				      __ATOMIC_RELAXED);
	}
	if (len == 0 || len > max_payload)
		return -1;
	record_len = pfinet_ring_record_len(len);
	if (record_len > left || record_len > ring->len - at)
		return -1;
	*payload = ring->data + at + PFINET_RING_LENGTH_LEN;
	*payload_len = len;
	return 1;
}

/**
 * pfinet_ring_take() - Have done with the record that pfinet_ring_next() has found
 * @payload_len:	What it said
 *
 * The producer may overwrite it after pfinet_ring_publish().
 */
static inline void pfinet_ring_take(struct pfinet_ring *ring, uint32_t payload_len)
{
	ring->index += pfinet_ring_record_len(payload_len);
}

#endif
