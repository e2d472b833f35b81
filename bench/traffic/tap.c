/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.c - The program's side of a tap, as a virtual machine's would be
 *
 * A tap takes and gives one frame per system call, and knows no batches.
 */
#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A sender pays for waking the receiver; a tap holds 1000 frames. */
#define NAP_US 250u

static unsigned int tap_send(struct end *end, unsigned int count)
{
	const struct frame *frame = end->state;

	for (unsigned int i = 0; i < count; i++)
		if (write(end->fd, frame->bytes, frame->len) < 0) {
			if (errno != EAGAIN && errno != EINTR)
				fail("write to tap");
			return i;
		}
	return count;
}

static unsigned int tap_receive(struct end *end, const struct frame *wanted)
{
	uint8_t room[2048];
	unsigned int found = 0;

	for (unsigned int i = 0; i < END_BATCH; i++) {
		ssize_t got = read(end->fd, room, sizeof(room));

		if (got < 0) {
			if (errno != EAGAIN && errno != EINTR)
				fail("read from tap");
			break;
		}
		found += (unsigned int)is_wanted(room, (size_t)got, wanted);
	}
	return found;
}

void tap_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	struct frame *frame = malloc(sizeof(*frame));

	end->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", rest);
	if (!frame || end->fd < 0 || ioctl(end->fd, TUNSETIFF, &request) < 0)
		fail(rest);
	*frame = *outgoing;
	end->state = frame;
	end->nap_us = NAP_US;
	end->send = tap_send;
	end->receive = tap_receive;
}
