/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump.c - Two taps joined: a stack behind a tap, as a virtual machine is behind its own
 *
 * With virtio_net_hdr and all offloads on both, so that large segments pass whole.
 */
#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VNET_LEN 10
#define ROOM (VNET_LEN + 14 + 65536)

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	unsigned int offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), header = VNET_LEN;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ||
	    ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETOFFLOAD, offloads) < 0)
		fail(name);
	return fd;
}

/* A tap that is down, or has no room, loses the frame. */
static void carry(int from, int to)
{
	static uint8_t room[ROOM];

	for (unsigned int i = 0; i < END_BATCH; i++) {
		ssize_t got = read(from, room, sizeof(room));

		if (got < 0) {
			if (errno == EBADFD) /* the tap went with its namespace: all is over */
				exit(0);
			if (errno != EAGAIN && errno != EINTR)
				fail("read from tap");
			return;
		}
		if (write(to, room, (size_t)got) < 0 && errno != EAGAIN && errno != EIO)
			fail("write to tap");
	}
}

noreturn void run_pump(char **args)
{
	int outer = open_tap(args[0]), inner = open_tap(args[1]);
	struct pollfd taps[2] = { { .fd = outer, .events = POLLIN },
				  { .fd = inner, .events = POLLIN } };

	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(taps, 2, -1) < 0)
			fail("poll");
		if (taps[0].revents)
			carry(outer, inner);
		if (taps[1].revents)
			carry(inner, outer);
	}
}
