/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic.c - Makes, counts and answers frames at the ends of any system
 *
 *	traffic send END FRAME SECONDS		as fast as the end takes them
 *	traffic count END FRAME HELLO SECONDS	from a moment after the first on
 *	traffic ask END FRAME REPLY TIMES	one at a time, each when the last was answered
 *	traffic answer END REPLY FRAME		until it is ended
 *	traffic pump OUTER INNER		join two taps, until it is ended
 *	traffic copy BYTES SECONDS		from one buffer to another
 *	traffic wake CPU CPU TIMES		two processes each other, in turn
 *	traffic spin				until it is ended
 *
 * FRAME, HELLO and REPLY are hexadecimal; one led by `*` varies, as in end.h, where END
 * is explained too.  `ready` says that the end is open; the result is one line of numbers.
 * HELLO is sent when the first frame has come: a switch that learns then knows where the
 * receiver is.
 */
#include "end.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Between the first frame and the first that counts: caches and buffers have filled. */
#define WARM_UP_NS 200000000ull
#define FIRST_WITHIN_MS 10000
#define REPLY_WITHIN_MS 200

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static struct frame parse_frame(const char *hex)
{
	struct frame frame = { .varies = *hex == '*' };

	hex += frame.varies;
	frame.len = strlen(hex) / 2;
	if (frame.len < (frame.varies ? END_MIN_VARYING : 1) || frame.len > END_MAX_FRAME) {
		errno = EINVAL;
		fail("length of a frame");
	}
	for (size_t i = 0; i < frame.len; i++) {
		unsigned int byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1) {
			errno = EINVAL;
			fail("a frame in hexadecimal");
		}
		frame.bytes[i] = (uint8_t)byte;
	}
	return frame;
}

static uint64_t parse_ns(const char *seconds)
{
	return (uint64_t)(strtod(seconds, NULL) * 1e9);
}

/* Waits for one or more wanted frames; 0: none came in time. */
static unsigned int wait_wanted(struct end *end, const struct frame *wanted, int timeout_ms)
{
	struct pollfd readable = { .fd = end->fd, .events = POLLIN };

	end->waits = 1;
	for (;;) {
		unsigned int found = end->receive(end, wanted);

		if (found)
			return found;
		if (poll(&readable, 1, timeout_ms) == 0)
			return 0;
	}
}

/* Takes what came of a flood, after a moment's rest if that is nothing. */
static unsigned int next_wanted(struct end *end, const struct frame *wanted)
{
	unsigned int found;

	if (!end->nap_us || (end->nap_len && wanted->len > end->nap_len))
		return wait_wanted(end, wanted, REPLY_WITHIN_MS);
	end->waits = 0;
	found = end->receive(end, wanted);
	if (!found)
		usleep(end->nap_us);
	return found;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void run_send(char **args)
{
	struct frame frame = parse_frame(args[1]);
	struct end end = end_open(args[0], &frame);
	uint64_t until = now_ns() + parse_ns(args[2]), sent = 0;

	say_ready();
	while (now_ns() < until)
		sent += end.send(&end, END_BATCH);
	printf("%llu\n", (unsigned long long)sent);
}

static void run_count(char **args)
{
	struct frame frame = parse_frame(args[1]), hello = parse_frame(args[2]);
	struct end end = end_open(args[0], &hello);
	uint64_t start, now, counted = 0, length = parse_ns(args[3]);

	say_ready();
	if (!wait_wanted(&end, &frame, FIRST_WITHIN_MS)) {
		errno = ETIMEDOUT;
		fail("no frame came");
	}
	end.send(&end, 1);
	start = now_ns() + WARM_UP_NS;
	while (now_ns() < start)
		next_wanted(&end, &frame);
	start = now_ns();
	do {
		counted += next_wanted(&end, &frame);
		now = now_ns();
	} while (now - start < length);
	printf("%llu %.9f\n", (unsigned long long)counted, (double)(now - start) / 1e9);
}

int by_size(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void run_ask(char **args)
{
	struct frame frame = parse_frame(args[1]), reply = parse_frame(args[2]);
	struct end end = end_open(args[0], &frame);
	size_t times = strtoul(args[3], NULL, 10), lost = 0;
	uint64_t *took = calloc(times + 1, sizeof(*took));

	if (!took)
		fail("calloc");
	say_ready();
	for (size_t i = 0; i < times; i++) {
		uint64_t start = now_ns();

		end.send(&end, 1);
		if (wait_wanted(&end, &reply, REPLY_WITHIN_MS) == 0 && ++lost > times / 10) {
			errno = ETIMEDOUT;
			fail("too few were answered");
		}
		took[i] = now_ns() - start;
	}
	qsort(took, times, sizeof(*took), by_size);
	printf("%.3f %.3f %zu\n", (double)took[times / 2] / 1e3,
	       (double)took[times * 99 / 100] / 1e3, lost);
}

static void run_answer(char **args)
{
	struct frame reply = parse_frame(args[1]), frame = parse_frame(args[2]);
	struct end end = end_open(args[0], &reply);

	say_ready();
	for (;;)
		for (unsigned int n = wait_wanted(&end, &frame, -1); n > 0; n--)
			end.send(&end, 1);
}

static const struct {
	const char *name;
	int n_args;
	void (*run)(char **args);
} commands[] = {
	{ "send", 3, run_send },
	{ "count", 4, run_count },
	{ "ask", 4, run_ask },
	{ "answer", 3, run_answer },
	{ "pump", 2, run_pump },
	{ "copy", 2, run_copy },
	{ "wake", 3, run_wake },
	{ "spin", 0, run_spin },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0 && argc == commands[i].n_args + 2) {
			commands[i].run(argv + 2);
			return 0;
		}
	fprintf(stderr, "usage: traffic send|count|ask|answer|pump|copy|wake|spin ...\n");
	return 2;
}
