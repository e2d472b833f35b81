/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor.c - What the machine itself can do, which no system comes below
 *
 * Each frame is copied at least once, and somebody who sleeps has to be woken.
 */
#include "end.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* As large as a ring: more than the nearest caches hold. */
#define BUFFER_LEN (1u << 20)
#define CACHE_LINE 64u

void run_copy(char **args)
{
	size_t len = strtoul(args[0], NULL, 10), at = 0;
	size_t step = (len + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	uint8_t *from = malloc(BUFFER_LEN), *to = malloc(BUFFER_LEN);
	uint64_t copied = 0, start, now, length = (uint64_t)(strtod(args[1], NULL) * 1e9);

	if (!from || !to || !len || step > BUFFER_LEN) {
		errno = EINVAL;
		fail("copy");
	}
	memset(from, 1, BUFFER_LEN);
	memset(to, 2, BUFFER_LEN);
	start = now_ns();
	do {
		for (unsigned int i = 0; i < END_BATCH; i++) {
			memcpy(to + at, from + at, len);
			/* The compiler may not know that nobody looks. */
			__asm__ volatile("" : : "r"(to), "r"(from) : "memory");
			at += step;
			if (at + step > BUFFER_LEN)
				at = 0;
		}
		copied += END_BATCH;
		now = now_ns();
	} while (now - start < length);
	printf("%llu %.9f\n", (unsigned long long)copied, (double)(now - start) / 1e9);
}

static void stay_on(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(strtoul(cpu, NULL, 10), &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

/* Sends a byte back for each that comes, until none can. */
static noreturn void echo(int fd)
{
	char byte;

	while (read(fd, &byte, 1) == 1)
		if (write(fd, &byte, 1) != 1)
			break;
	exit(0);
}

void run_wake(char **args)
{
	size_t times = strtoul(args[2], NULL, 10);
	uint64_t *took = calloc(times + 1, sizeof(*took));
	char byte = 0;
	int ends[2];
	pid_t child;

	if (!took || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		fail("socketpair");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			fail("prctl");
		close(ends[0]);
		stay_on(args[1]);
		echo(ends[1]);
	}
	close(ends[1]);
	stay_on(args[0]);
	for (size_t i = 0; i < times; i++) {
		uint64_t start = now_ns();

		if (write(ends[0], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
			fail("wake");
		took[i] = now_ns() - start;
	}
	qsort(took, times, sizeof(*took), by_size);
	/* There and back are two. */
	printf("%.3f\n", (double)took[times / 2] / 2e3);
}

noreturn void run_spin(char **args)
{
	(void)args;
	puts("ready");
	fflush(stdout);
	for (;;)
		__asm__ volatile("");
}
