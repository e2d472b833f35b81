/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize_filter.c - Hostile tables through loading, and frames through what was loaded
 *
 * Each file that is given is an input of ../../fuzz/fuzz_filter.c whose table is good.
 * Its table is changed where that may still be loaded: single numbers, most of them to
 * such as are nearly right.  What a table may cost is what judging.h requires.
 */
#include "../../fuzz/fuzz_filter.c"

#define N_CHANGED 4000
#define N_ROUNDS 12
#define MAX_INPUT (1u << 20)
#define TABLE_HEAD 32

static unsigned long n_tried;

static uint32_t nearly_right(uint32_t was)
{
	static const uint32_t edges[] = { 0, 1, 2, 6, 7, 31, 32, 0xff, 0x100, 0xffff,
					  0x10000, 0x7fffffff, 0x80000000, 0xffffffff };

	switch (below(4)) {
	case 0:
		return was + 1;
	case 1:
		return was - 1;
	case 2:
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	default:
		return was ^ 1u << below(32);
	}
}

/* Changes a number of 1, 2 or 4 bytes somewhere behind the magic and the length. */
static void change_number(uint8_t *table, size_t len)
{
	size_t size = (size_t)1 << below(3);
	size_t at = 8 + below(below(4) ? len - 8 : TABLE_HEAD - 8);
	uint32_t value = 0;

	at -= at % size;
	if (at + size > len)
		return;
	for (size_t i = 0; i < size; i++)
		value |= (uint32_t)table[at + i] << 8 * i;
	value = nearly_right(value);
	for (size_t i = 0; i < size; i++)
		table[at + i] = (uint8_t)(value >> 8 * i);
}

static void try_input(const uint8_t *input, size_t len)
{
	size_t table_len = get_le16(input + 1);

	REQUIRE(HEAD_LEN + table_len <= len && table_len >= TABLE_HEAD);
	for (unsigned int i = 0; i < N_CHANGED; i++) {
		uint8_t *changed = copy_of(input, len);

		for (size_t n = i ? 1 + below(4) : 0; n; n--)
			change_number(changed + HEAD_LEN, table_len);
		/* Frames are hostile as well, and a table may be cut short. */
		if (len > HEAD_LEN + table_len && below(2))
			mutate(changed + HEAD_LEN + table_len, len - HEAD_LEN - table_len, below(8));
		if (below(16) == 0)
			changed[1] ^= (uint8_t)(1u << below(8));
		LLVMFuzzerTestOneInput(changed, len);
		n_tried++;
		free(changed);
	}
}

static size_t read_input(const char *path, uint8_t *room)
{
	FILE *file = fopen(path, "rb");
	size_t len;

	REQUIRE(file);
	len = fread(room, 1, MAX_INPUT, file);
	REQUIRE(len > HEAD_LEN && len < MAX_INPUT && fclose(file) == 0);
	return len;
}

int main(int argc, char **argv)
{
	uint8_t *room = allocate(MAX_INPUT);

	REQUIRE(argc > 1);
	for (unsigned int round = 0; round < N_ROUNDS; round++)
		for (int i = 1; i < argc; i++)
			try_input(room, read_input(argv[i], room));
	/* A run whose tables were all refused, or all taken, would prove nothing. */
	REQUIRE(station.n_loaded > n_tried / 10 && station.n_loaded < n_tried - n_tried / 10);
	REQUIRE(station.n_judged > station.n_loaded);
	printf("%lu tried, %lu loaded, %lu frames judged\n", n_tried, station.n_loaded,
	       station.n_judged);
	free(station.memory);
	free(station.gate);
	free(station.flows);
	free(room);
	return 0;
}
