/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vde.c - A port of vde_switch, through its own client library
 *
 * What libvdeplug opens is a datagram socket, so batches are received from it.
 * The library sends frame by frame; the switch, which reads so too, is the
 * slower of the two.
 */
#include "end.h"

#include <errno.h>
#include <libvdeplug.h>
#include <stdlib.h>
#include <string.h>

/* A sender pays for waking the receiver; a socket holds what net.unix.max_dgram_qlen says. */
#define NAP_US 250u

struct vde {
	VDECONN *connection;
	struct frame frame;
};

static unsigned int vde_send_frames(struct end *end, unsigned int count)
{
	struct vde *v = end->state;

	for (unsigned int i = 0; i < count; i++)
		if (vde_send(v->connection, v->frame.bytes, v->frame.len, 0) < 0) {
			if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
				fail("vde_send");
			end_wait_writable(end->fd);
			return i;
		}
	return count;
}

void vde_open_end(struct end *end, char *rest, const struct frame *outgoing)
{
	char url[256] = "vde://";
	struct vde *v = calloc(1, sizeof(*v));

	if (!v)
		fail("calloc");
	strncat(url, rest, sizeof(url) - strlen(url) - 1);
	v->connection = vde_open(url, "bench", NULL);
	if (!v->connection)
		fail(url);
	v->frame = *outgoing;
	end->fd = vde_datafd(v->connection);
	end->state = v;
	end->nap_us = NAP_US;
	end->send = vde_send_frames;
	end->receive = end_take;
}
