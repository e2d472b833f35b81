/*
 * Reads a stream as pfinet_stream_next() does, for tests.
 *
 * Each case on standard input is u32 max_payload, u32 length, then the bytes.
 * The answer on standard output is one line: each record's length in order,
 * then how many bytes were left, or "bad".  The bytes lie at the very end of
 * an allocation, so that a sanitizer sees a read beyond them.
 */
#include <pfinet_wire.h>
#include <stdio.h>
#include <stdlib.h>

static int read_case(void)
{
	uint8_t head[8], *data;
	size_t max_payload, len, at = 0;

	if (fread(head, 1, sizeof(head), stdin) != sizeof(head))
		return 0;
	max_payload = pfinet_get32(head);
	len = pfinet_get32(head + 4);
	data = malloc(len ? len : 1);
	if (!data || fread(data, 1, len, stdin) != len)
		return 0;
	for (;;) {
		size_t off, payload;
		int found = pfinet_stream_next(data + at, len - at, max_payload, &off, &payload);

		if (found < 0) {
			printf("bad\n");
			break;
		}
		if (found == 0) {
			printf("%zu\n", len - at);
			break;
		}
		printf("%zu ", payload);
		at += off + payload;
	}
	fflush(stdout);
	free(data);
	return 1;
}

int main(void)
{
	while (read_case())
		;
	return 0;
}
