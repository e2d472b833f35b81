/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp.c - A datagram socket of the kernel's own stack; the frame is the payload
 */
#include "end.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PORT 5300

static unsigned int udp_send(struct end *end, unsigned int count)
{
	const struct frame *frame = end->state;

	for (unsigned int i = 0; i < count; i++)
		/* ECONNREFUSED is left from a datagram that came before the other end did. */
		if (send(end->fd, frame->bytes, frame->len, 0) < 0 && errno != ECONNREFUSED)
			fail("send to UDP");
	return count;
}

void udp_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct sockaddr_in remote = local;
	struct frame *frame = malloc(sizeof(*frame));
	char *other = strchr(rest, ':');

	if (!frame || !other) {
		errno = EINVAL;
		fail(rest);
	}
	*other++ = 0;
	end->fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (end->fd < 0 || inet_pton(AF_INET, rest, &local.sin_addr) != 1 ||
	    inet_pton(AF_INET, other, &remote.sin_addr) != 1 ||
	    bind(end->fd, (void *)&local, sizeof(local)) < 0 ||
	    connect(end->fd, (void *)&remote, sizeof(remote)) < 0)
		fail("udp");
	*frame = *outgoing;
	end->state = frame;
	end->send = udp_send;
	end->receive = end_take;
}
