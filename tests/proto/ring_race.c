/*
 * Two processes, one ring, and as many sleeps as can be: nobody may sleep for ever.
 *
 * The producer writes numbered records of all lengths in bursts, the consumer takes and
 * checks them; each sleeps as soon as it can, so that the flag of one and the index of
 * the other are written at the same moment over and over.  Whether one gets to sleep is
 * the scheduler's choice; so now and then the producer waits until the consumer does, in
 * the first half of all records, and the consumer until the producer does, in the second.
 * The arguments are how many records, and a seed.  A lost wake-up is a deadlock, which
 * the alarm ends.
 */
#include <errno.h>
#include <poll.h>
#include <pfinet_ring.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST 3000
#define PATIENCE_S 60

#define REQUIRE(what)                                                                              \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t random_state;

/* xorshift64 (Marsaglia 2003) */
static uint32_t below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state % bound);
}

static uint32_t length_of(uint32_t number)
{
	return 4 + number * 2654435761u % (LONGEST - 4);
}

static void kick(int fd)
{
	REQUIRE(send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN);
}

static unsigned long sleep_until_kicked(int fd)
{
	struct pollfd kicked = { .fd = fd, .events = POLLIN };
	char bytes[16];

	REQUIRE(poll(&kicked, 1, -1) == 1);
	REQUIRE(recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
	return 1;
}

static void let_the_other_sleep(const struct pfinet_ring *ring)
{
	while (__atomic_load_n(&ring->other->waits, __ATOMIC_RELAXED) == 0)
		sched_yield();
}

static void produce(uint8_t *memory, int fd, uint32_t n)
{
	struct pfinet_ring ring;
	unsigned long sleeps = 0;

	pfinet_ring_open(&ring, memory, PFINET_RING_MIN_LEN, PFINET_RING_UP, true);
	for (uint32_t number = 0; number < n;) {
		for (uint32_t burst = below(below(8) ? 3 : 2000); burst-- && number < n; number++) {
			uint32_t len = length_of(number);
			int room = pfinet_ring_room(&ring, 1, len, 0);
			uint8_t *to;

			REQUIRE(room >= 0);
			if (!room)
				break;
			to = pfinet_ring_begin(&ring, len);
			memset(to, (int)number, len);
			memcpy(to, &number, sizeof(number));
			pfinet_ring_end(&ring, len);
		}
		pfinet_ring_publish(&ring);
		if (pfinet_ring_wakes(&ring))
			kick(fd);
		if (number < n / 2 && below(4) == 0)
			let_the_other_sleep(&ring);
		if (pfinet_ring_used(&ring) > ring.len - 2 * LONGEST) {
			if (pfinet_ring_wait(&ring))
				sleeps += sleep_until_kicked(fd);
			pfinet_ring_wait_no_more(&ring);
		}
	}
	printf("%lu ", sleeps);
	fflush(stdout);
}

static void consume(uint8_t *memory, int fd, uint32_t n)
{
	struct pfinet_ring ring;
	unsigned long sleeps = 0;
	uint32_t number = 0;

	pfinet_ring_open(&ring, memory, PFINET_RING_MIN_LEN, PFINET_RING_UP, false);
	while (number < n) {
		const uint8_t *payload;
		uint32_t len, found;

		/* There are more to come than the ring holds. */
		if (number >= n / 2 && number + PFINET_RING_MIN_LEN / 8 < n && below(16) == 0)
			let_the_other_sleep(&ring);
		REQUIRE(pfinet_ring_look_written(&ring) == 0);
		for (uint32_t batch = below(below(8) ? 40 : 1) + 1;
		     batch-- && pfinet_ring_next(&ring, LONGEST, &payload, &len) == 1; number++) {
			memcpy(&found, payload, sizeof(found));
			REQUIRE(found == number && len == length_of(number));
			for (uint32_t i = sizeof(found); i < len; i++)
				REQUIRE(payload[i] == (uint8_t)number);
			pfinet_ring_take(&ring, len);
		}
		pfinet_ring_publish(&ring);
		if (pfinet_ring_left(&ring) <= ring.len / 2 && pfinet_ring_wakes(&ring))
			kick(fd);
		if (pfinet_ring_left(&ring) == 0 && number < n) {
			if (pfinet_ring_wait(&ring))
				sleeps += sleep_until_kicked(fd);
			pfinet_ring_wait_no_more(&ring);
		}
	}
	printf("%lu\n", sleeps);
	fflush(stdout);
}

int main(int count, char **args)
{
	uint32_t n = (uint32_t)strtoul(args[count - 2], NULL, 10);
	uint8_t *memory = mmap(NULL, pfinet_ring_memory_len(PFINET_RING_MIN_LEN),
			       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fds[2], status;
	pid_t producer;

	REQUIRE(memory != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	random_state = strtoull(args[count - 1], NULL, 10);
	producer = fork();
	REQUIRE(producer >= 0);
	alarm(PATIENCE_S);
	if (producer == 0) {
		produce(memory, fds[0], n);
		return 0;
	}
	random_state *= 3;
	consume(memory, fds[1], n);
	REQUIRE(waitpid(producer, &status, 0) == producer && status == 0);
	return 0;
}
