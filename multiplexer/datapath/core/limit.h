/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.h - Token buckets
 *
 * A bucket holds one second's worth.  It is refilled from a clock reading that
 * the caller takes once per turn, so that no clock is read per frame.  Levels
 * are kept in units of 1/1e9 token: rate times nanoseconds, without a division.
 */
#ifndef DP_LIMIT_H
#define DP_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Rates above this are refused: level and refill then fit 64 bits. */
#define DP_MAX_RATE 8000000000ull

struct dp_bucket {
	uint64_t rate;    /* tokens per second; 0 means no limit */
	uint64_t level;   /* in 1e-9 tokens, at most rate * 1e9 */
	uint64_t last_ns; /* when it was last refilled; 0 means never */
};

/** dp_bucket_set() - Give a bucket its rate, at most DP_MAX_RATE, and fill it */
void dp_bucket_set(struct dp_bucket *bucket, uint64_t rate);

/** dp_bucket_refill() - Add what time has brought; a clock that went back adds nothing */
void dp_bucket_refill(struct dp_bucket *bucket, uint64_t now_ns);

/** dp_bucket_has() - Whether @tokens could be taken now */
bool dp_bucket_has(const struct dp_bucket *bucket, uint64_t tokens);

/** dp_bucket_take() - Take @tokens, which dp_bucket_has() said are there */
void dp_bucket_take(struct dp_bucket *bucket, uint64_t tokens);

#endif
