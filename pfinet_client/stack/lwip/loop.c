/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - lwIP without a thread: the event loop drives it
 *
 * Timers run when pl_work() is called, by a clock of the kernel's that the loop waits
 * for: the loop's own may be a test's.  What lwIP sends to itself is taken in
 * before the lock is let go, so nothing waits for a thread that is not there: lwIP
 * would abort the process for a frame whose source is our own address.
 *
 * The lock is there for sockets that are closed by the collector of another thread.
 */
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <lwip/init.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/sys.h>
#include <lwip/timeouts.h>

#include "port/isn.h"

static pthread_mutex_t core = PTHREAD_MUTEX_INITIALIZER;
static int timer = -1;

static void set_timer(u32_t ms)
{
	struct itimerspec in = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}};

	/* Cannot fail: the time is a valid one, and none at all would be no alarm. */
	timerfd_settime(timer, 0, &in, NULL);
}

int pl_init(void)
{
	int result = pl_isn_begin();

	if (result < 0)
		return result;
	if (timer < 0)
		timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer < 0)
		return -errno;
	pl_lock();
	lwip_init();
	set_timer(TCP_TMR_INTERVAL);
	pl_unlock();
	return 0;
}

void pl_lock(void)
{
	pthread_mutex_lock(&core);
}

void pl_unlock(void)
{
	if (pl_interface())
		netif_poll(pl_interface());
	pthread_mutex_unlock(&core);
}

int pl_clock(void)
{
	return timer;
}

void pl_work(void)
{
	uint64_t times;
	u32_t wait_ms;

	if (read(timer, &times, sizeof(times)) < 0)
		return;
	pl_lock();
	sys_check_timeouts();
	wait_ms = sys_timeouts_sleeptime();
	/* Whatever begins meanwhile needs the timer of TCP, which is the quickest. */
	set_timer(LWIP_MAX(1, LWIP_MIN(wait_ms, TCP_TMR_INTERVAL)));
	pl_unlock();
}

u32_t sys_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}
