/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_filter.c - A filter's table and frames through loading and judging
 *
 * Input: options, the length of the table, the table, and frames: how each comes, its
 * length, and itself.  Lengths are little-endian.
 */
#include "judging.h"

/* Options: the table's head says what is there. */
#define REPAIR 1
#define HEAD_LEN 3
#define FRAME_HEAD_LEN 3

static size_t get_le16(const uint8_t *p)
{
	return (size_t)(p[0] | p[1] << 8);
}

/* Writes the magic and the length, which are hard to guess. */
static uint8_t *repaired(const uint8_t *table, size_t len)
{
	uint8_t *copy = copy_of(table, len);

	if (len >= 8) {
		uint32_t magic = DP_FILTER_MAGIC;

		for (unsigned int i = 0; i < 4; i++) {
			copy[i] = (uint8_t)(magic >> 8 * i);
			copy[4 + i] = (uint8_t)(len >> 8 * i);
		}
	}
	return copy;
}

static struct station station;

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	uint64_t now_ns = 1000000000;
	size_t table_len, at = HEAD_LEN;
	uint8_t *table;
	bool open;

	if (len < HEAD_LEN)
		return -1;
	table_len = get_le16(input + 1);
	if (table_len > len - at)
		return -1;
	table = input[0] & REPAIR ? repaired(input + at, table_len) : copy_of(input + at, table_len);
	open = open_gate(&station, table, table_len);
	free(table);
	if (!open)
		return 0;
	at += table_len;
	while (len - at >= FRAME_HEAD_LEN) {
		uint8_t how = input[at];
		size_t n = get_le16(input + at + 1);

		at += FRAME_HEAD_LEN;
		if (n > len - at)
			n = len - at;
		/* From no time at all to some days. */
		now_ns += (uint64_t)(how >> 4) << (4 * (how >> 1 & 7) + 16);
		judge(&station, input + at, n, how & 1 ? DP_GATE_IN : DP_GATE_OUT, now_ns);
		at += n;
	}
	return 0;
}
