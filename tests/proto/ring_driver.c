/*
 * Takes from the ring up and writes the ring down, as pfinet_ring.h does, for tests.
 *
 * The memory is that of the descriptor in the argument.  Each order on standard input is
 * u32 what and u32 length, then the bytes, those of TAKE the greatest payload as u32; the
 * answer is an i32.  After that of TAKE, which is how many records there were, or minus
 * that and one more if something stood there that is none, each record follows: u32
 * length, then its bytes.
 *
 * The memory is copied into an allocation of its size before something is read from
 * it, and back afterwards, so that a sanitizer sees an access beyond it.
 */
#include <pfinet_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PUT, PUBLISH, TAKE, ADOPT_UP, ADOPT_DOWN };

static uint8_t *shared, *copy;
static size_t memory_len;
static struct pfinet_ring up, down;

static void answer(int32_t number)
{
	fwrite(&number, sizeof(number), 1, stdout);
}

static int32_t take(uint8_t *taken, size_t *taken_len, uint32_t max_payload)
{
	const uint8_t *payload;
	uint32_t len;
	int32_t n = 0;
	int found;

	if (pfinet_ring_look_written(&up) < 0)
		return -1;
	while ((found = pfinet_ring_next(&up, max_payload, &payload, &len)) == 1) {
		memcpy(taken + *taken_len, &len, sizeof(len));
		memcpy(taken + *taken_len + sizeof(len), payload, len);
		*taken_len += sizeof(len) + len;
		pfinet_ring_take(&up, len);
		n++;
	}
	return found < 0 ? -n - 1 : n;
}

static void take_and_tell(uint32_t max_payload)
{
	uint8_t *taken = malloc(memory_len);
	size_t taken_len = 0;
	int32_t n = take(taken, &taken_len, max_payload);

	answer(n);
	fwrite(taken, 1, taken_len, stdout);
	/* As many follow as the answer says: the one more is empty. */
	if (n < 0)
		answer(0);
	free(taken);
}

static int32_t put(const uint8_t *bytes, uint32_t len)
{
	int found = pfinet_ring_room(&down, 1, len, 0);

	if (found == 1) {
		memcpy(pfinet_ring_begin(&down, len), bytes, len);
		pfinet_ring_end(&down, len);
	}
	return found;
}

static int obey(void)
{
	uint32_t head[2];
	uint8_t *bytes;

	if (fread(head, sizeof(head), 1, stdin) != 1)
		return 0;
	bytes = malloc(head[1] + 1);
	if (!bytes || fread(bytes, 1, head[1], stdin) != head[1])
		return 0;
	memcpy(copy, shared, memory_len);
	switch (head[0]) {
	case PUT:
		answer(put(bytes, head[1]));
		break;
	case PUBLISH:
		pfinet_ring_publish(&up);
		pfinet_ring_publish(&down);
		answer(0);
		break;
	case TAKE:
		memcpy(head, bytes, sizeof(head[0]));
		take_and_tell(head[0]);
		break;
	case ADOPT_UP:
		answer(pfinet_ring_adopt(&up, false));
		break;
	case ADOPT_DOWN:
		answer(pfinet_ring_adopt(&down, true));
		break;
	default:
		return 0;
	}
	memcpy(shared, copy, memory_len);
	fflush(stdout);
	free(bytes);
	return 1;
}

int main(int count, char **args)
{
	int memory = atoi(args[count - 1]);

	memory_len = (size_t)lseek(memory, 0, SEEK_END);
	shared = mmap(NULL, memory_len, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	copy = aligned_alloc(4096, memory_len);
	if (shared == MAP_FAILED || !copy)
		return 1;
	pfinet_ring_open(&up, copy, pfinet_ring_len_of(memory_len), PFINET_RING_UP, false);
	pfinet_ring_open(&down, copy, pfinet_ring_len_of(memory_len), PFINET_RING_DOWN, true);
	while (obey())
		;
	free(copy);
	return 0;
}
