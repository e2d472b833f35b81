/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include <string.h>

/* A quarter of the index stays empty, so that a miss ends soon. */
#define MAX_KEYS (DP_INDEX_SIZE - DP_INDEX_SIZE / 4)

_Static_assert((DP_INDEX_SIZE & (DP_INDEX_SIZE - 1)) == 0, "the index is masked");

void dp_mask_addr(uint8_t *out, const uint8_t *addr, size_t bytes, unsigned int len)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned int bits = len > i * 8 ? len - (unsigned int)i * 8 : 0;

		out[i] = bits >= 8 ? addr[i] : (uint8_t)(addr[i] & (0xff00u >> bits));
	}
}

static uint64_t mix(uint64_t x)
{
	/* The finaliser of MurmurHash3: every input bit reaches every output bit. */
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

static uint32_t slot_of(const struct dp_index *index, const struct dp_key *key)
{
	uint64_t low, high;

	memcpy(&low, key->addr, 8);
	memcpy(&high, key->addr + 8, 8);
	low = mix(low ^ index->seed);
	high = mix(high + low + ((uint64_t)key->network << 16 | (uint64_t)key->kind << 8 | key->len));
	return (uint32_t)high & (DP_INDEX_SIZE - 1);
}

static bool same_key(const struct dp_key *a, const struct dp_key *b)
{
	return a->kind == b->kind && a->len == b->len && a->network == b->network &&
	       memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

/* The slot that holds @key, or the empty one where it would stand. */
static uint32_t find_slot(const struct dp_index *index, const struct dp_key *key)
{
	uint32_t slot = slot_of(index, key);

	while (index->keys[slot].kind != DP_KEY_NONE && !same_key(&index->keys[slot], key))
		slot = (slot + 1) & (DP_INDEX_SIZE - 1);
	return slot;
}

static uint32_t *length_count(struct dp_index *index, const struct dp_key *key)
{
	if (key->kind == DP_KEY_IPV4)
		return &index->n_len4[key->len];
	if (key->kind == DP_KEY_IPV6)
		return &index->n_len6[key->len];
	return NULL;
}

void dp_index_insert(struct dp_index *index, const struct dp_key *key)
{
	uint32_t *count = length_count(index, key);

	index->keys[find_slot(index, key)] = *key;
	index->n_keys++;
	index->changes++;
	if (count)
		(*count)++;
}

void dp_index_remove(struct dp_index *index, const struct dp_key *key)
{
	uint32_t *count = length_count(index, key);
	uint32_t hole = find_slot(index, key), slot = hole;

	if (index->keys[hole].kind == DP_KEY_NONE || index->keys[hole].port != key->port)
		return;
	index->n_keys--;
	index->changes++;
	if (count)
		(*count)--;
	/* Close the gap: whatever follows and would be missed moves up. */
	for (;;) {
		uint32_t home;

		slot = (slot + 1) & (DP_INDEX_SIZE - 1);
		if (index->keys[slot].kind == DP_KEY_NONE)
			break;
		home = slot_of(index, &index->keys[slot]);
		if (((slot - home) & (DP_INDEX_SIZE - 1)) >= ((slot - hole) & (DP_INDEX_SIZE - 1))) {
			index->keys[hole] = index->keys[slot];
			hole = slot;
		}
	}
	index->keys[hole].kind = DP_KEY_NONE;
}

uint16_t dp_index_find(const struct dp_index *index, const struct dp_key *key)
{
	const struct dp_key *found = &index->keys[find_slot(index, key)];

	return found->kind == DP_KEY_NONE ? DP_NO_PORT : found->port;
}

uint16_t dp_index_find_longest(const struct dp_index *index, enum dp_key_kind kind,
			       uint16_t network, const uint8_t *addr)
{
	bool ipv4 = kind == DP_KEY_IPV4;
	struct dp_key key = { .kind = (uint8_t)kind, .network = network };

	for (unsigned int len = ipv4 ? 33 : 129; len-- > 0;) {
		uint16_t port;

		if (!(ipv4 ? index->n_len4[len] : index->n_len6[len]))
			continue;
		key.len = (uint8_t)len;
		dp_mask_addr(key.addr, addr, ipv4 ? 4 : 16, len);
		port = dp_index_find(index, &key);
		if (port != DP_NO_PORT)
			return port;
	}
	return DP_NO_PORT;
}

bool dp_index_has_room(const struct dp_index *index, uint32_t n)
{
	return index->n_keys + n <= MAX_KEYS;
}
