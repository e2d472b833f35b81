/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - What every sanitizer driver needs: numbers, memory, changes, a verdict
 *
 * The sequence of numbers is the same in every run.  Whatever the core is to
 * read or write lies in an allocation of exactly its size, so that the address
 * sanitizer sees a single byte too far.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(what)                                                                              \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* xorshift64 (Marsaglia 2003) */
static inline uint64_t next_random(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static inline size_t below(size_t bound)
{
	return (size_t)(next_random() % bound);
}

static inline uint8_t *allocate(size_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	REQUIRE(p);
	return p;
}

static inline uint8_t *copy_of(const uint8_t *bytes, size_t len)
{
	return memcpy(allocate(len), bytes, len);
}

/* Change @n bytes of @len, most of them among the first 80, where headers stand. */
static inline void mutate(uint8_t *p, size_t len, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t at = below(below(4) && len > 80 ? 80 : len);

		if (below(3))
			p[at] = (uint8_t)next_random();
		else
			p[at] ^= (uint8_t)(1u << below(8));
	}
}

#endif
