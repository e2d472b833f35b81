/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - From a MAC or an address to the port that is bound to it
 *
 * One hash table for all networks: open addressing with linear probing, seeded,
 * a quarter of it always empty.  A prefix is a key of its own, so an address is
 * found by one probe for each prefix length in use, the longest first.
 */
#ifndef DP_INDEX_H
#define DP_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DP_NO_PORT 0xffff
/* Twice what the most vifs need with the usual six keys each. */
#define DP_INDEX_SIZE 65536

enum dp_key_kind { DP_KEY_NONE = 0, DP_KEY_MAC, DP_KEY_IPV4, DP_KEY_IPV6 };

struct dp_key {
	uint8_t kind;     /* enum dp_key_kind; DP_KEY_NONE is an empty slot */
	uint8_t len;      /* prefix length in bits; of a MAC 0 */
	uint16_t network; /* id */
	uint16_t port;    /* what is found, no part of the key */
	uint8_t addr[16]; /* from its first byte on; the rest, and host bits, are zero */
};

struct dp_index {
	uint64_t seed;
	uint64_t changes; /* how often a key came or went: what was found before may be stale */
	uint32_t n_keys;
	/* How many keys of each prefix length there are, per family. */
	uint32_t n_len4[33];
	uint32_t n_len6[129];
	struct dp_key keys[DP_INDEX_SIZE];
};

/** dp_index_find() - The port of a key's equal, or DP_NO_PORT */
uint16_t dp_index_find(const struct dp_index *index, const struct dp_key *key);

/**
 * dp_index_find_longest() - The port of the longest prefix that covers an address
 * @index:	Index
 * @kind:	DP_KEY_IPV4 or DP_KEY_IPV6
 * @network:	Id
 * @addr:	4 or 16 bytes
 *
 * Return: the port, or DP_NO_PORT
 */
uint16_t dp_index_find_longest(const struct dp_index *index, enum dp_key_kind kind,
			       uint16_t network, const uint8_t *addr);

/** dp_index_has_room() - Whether @n more keys fit */
bool dp_index_has_room(const struct dp_index *index, uint32_t n);

/** dp_index_insert() - Add a key that is not there, where dp_index_has_room() */
void dp_index_insert(struct dp_index *index, const struct dp_key *key);

/** dp_index_remove() - Remove a key, if it is there and its port's */
void dp_index_remove(struct dp_index *index, const struct dp_key *key);

/** dp_mask_addr() - Copy @bytes of an address without what is behind its first @len bits */
void dp_mask_addr(uint8_t *out, const uint8_t *addr, size_t bytes, unsigned int len);

#endif
