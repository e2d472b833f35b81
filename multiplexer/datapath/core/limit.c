/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"

#define NS_PER_S 1000000000ull

void dp_bucket_set(struct dp_bucket *bucket, uint64_t rate)
{
	bucket->rate = rate < DP_MAX_RATE ? rate : DP_MAX_RATE;
	bucket->level = bucket->rate * NS_PER_S;
	bucket->last_ns = 0;
}

void dp_bucket_refill(struct dp_bucket *bucket, uint64_t now_ns)
{
	uint64_t full = bucket->rate * NS_PER_S;
	uint64_t elapsed;

	if (!bucket->rate || now_ns <= bucket->last_ns)
		return;
	elapsed = now_ns - bucket->last_ns;
	bucket->last_ns = now_ns;
	/* A second fills the whole bucket; capping first keeps the product small. */
	if (elapsed >= NS_PER_S || elapsed * bucket->rate >= full - bucket->level)
		bucket->level = full;
	else
		bucket->level += elapsed * bucket->rate;
}

bool dp_bucket_has(const struct dp_bucket *bucket, uint64_t tokens)
{
	return !bucket->rate || tokens <= bucket->level / NS_PER_S;
}

void dp_bucket_take(struct dp_bucket *bucket, uint64_t tokens)
{
	if (bucket->rate)
		bucket->level -= tokens * NS_PER_S;
}
