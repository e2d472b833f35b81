/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - lwIP with a thread of its own, as Debian builds it
 *
 * The thread runs the timers, and takes in what lwIP sends to itself.
 */
#include "internal.h"

#include <stdlib.h>
#include <sys/random.h>

#include <lwip/tcpip.h>

int pl_init(void)
{
	unsigned int seed;

	/* Its LWIP_RAND() is rand(). */
	if (getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed))
		srand(seed);
	tcpip_init(NULL, NULL);
	return 0;
}

void pl_lock(void)
{
	LOCK_TCPIP_CORE();
}

void pl_unlock(void)
{
	UNLOCK_TCPIP_CORE();
}

int pl_clock(void)
{
	return -1;
}

void pl_work(void)
{
}
