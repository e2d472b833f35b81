/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - A vif of ours, by rings: the handshake on its `attach` socket, then memory
 *
 * The daemon is woken when half of the ring waits for it, or before this end sleeps; and
 * does not wake this end while that naps, as it does where the frames are short.
 */
#include "end.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rings.h"

/* proto/SPEC.md, section 3: version 1, no offload, the transport ring. */
static const uint8_t hello[] = {
	'P', 'F', 'I', 'N', 0, 1, 0, 0,
	0, 1, 0, 4, 0, 1, 0, 1,
	0, 4, 0, 2, 0, 2,
};
#define WELCOME 2

/* A sender pays for waking the receiver; meanwhile short frames fill a part of the ring. */
#define NAP_US 40u
#define NAP_LEN 256

struct state {
	struct pfinet_rings rings;
	struct frame outgoing;
	unsigned int flow;
	int sleeps; /* the last look found nothing, and asked for a kick */
};

static void sleep_until_kicked(struct state *s)
{
	struct pollfd kicked = { .fd = s->rings.kicks, .events = POLLIN };

	if (poll(&kicked, 1, -1) < 0 || pfinet_rings_take_kicks(&s->rings) < 0)
		fail("kicks of the vif");
}

static unsigned int ring_send(struct end *end, unsigned int count)
{
	struct state *s = end->state;

	for (unsigned int i = 0; i < count; i++) {
		int found;

		if (s->outgoing.varies)
			frame_vary(s->outgoing.bytes, s->flow++ % END_FLOWS);
		while ((found = pfinet_rings_put(&s->rings, s->outgoing.bytes,
						 (uint32_t)s->outgoing.len)) == 0) {
			pfinet_rings_publish(&s->rings);
			if (pfinet_rings_wait_room(&s->rings))
				sleep_until_kicked(s);
		}
		if (found < 0) {
			errno = -found;
			fail("send to vif");
		}
	}
	pfinet_rings_pass(&s->rings);
	return count;
}

static unsigned int take_all(struct state *s, const struct frame *wanted)
{
	struct pfinet_ring *down = &s->rings.down;
	const uint8_t *payload;
	unsigned int found = 0;
	uint32_t len;
	int more;

	if (pfinet_ring_look_written(down) < 0)
		fail("receive from vif");
	while ((more = pfinet_ring_next(down, s->rings.max_payload, &payload, &len)) == 1) {
		found += (unsigned int)is_wanted(payload, len, wanted);
		pfinet_ring_take(down, len);
	}
	if (more < 0) {
		errno = EPROTO;
		fail("receive from vif");
	}
	pfinet_ring_publish(down);
	return found;
}

static unsigned int ring_receive(struct end *end, const struct frame *wanted)
{
	struct state *s = end->state;
	unsigned int found;

	if (s->sleeps && pfinet_rings_take_kicks(&s->rings) < 0)
		fail("kicks of the vif");
	s->sleeps = 0;
	while (!(found = take_all(s, wanted))) {
		pfinet_rings_publish(&s->rings);
		if (!end->waits)
			break;
		s->sleeps = pfinet_rings_wait_frames(&s->rings);
		if (s->sleeps)
			break;
	}
	return found;
}

/* Says hello, and takes what comes with the answer: the stream of the kicks, and the memory. */
static void attach(int fd, int fds[2])
{
	union {
		struct cmsghdr first;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	uint8_t answer[16384];
	struct iovec part = { .iov_base = answer, .iov_len = sizeof(answer) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *rights;

	if (send(fd, hello, sizeof(hello), MSG_NOSIGNAL) < 0 || recvmsg(fd, &message, 0) < 0)
		fail("handshake with vif");
	rights = CMSG_FIRSTHDR(&message);
	if (answer[5] != WELCOME || !rights || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
		errno = EPROTO;
		fail("welcome of vif");
	}
	memcpy(fds, CMSG_DATA(rights), 2 * sizeof(int));
}

void ring_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct state *s = calloc(1, sizeof(*s));
	/* It stays open: closing it detaches. */
	int connection = end_connect(rest, SOCK_SEQPACKET);
	int fds[2];

	if (!s)
		fail("calloc");
	attach(connection, fds);
	if (pfinet_rings_open(&s->rings, fds[1], fds[0], 0) < 0)
		fail("rings of vif");
	s->outgoing = *outgoing;
	end->fd = fds[0];
	end->nap_us = NAP_US;
	end->nap_len = NAP_LEN;
	end->state = s;
	end->send = ring_send;
	end->receive = ring_receive;
}
