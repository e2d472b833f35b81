/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - A vif of ours, by its `stream` socket: a length and a frame, in batches
 */
#include "end.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pfinet_wire.h"

#define READ_LEN (1u << 20)

struct stream {
	size_t record_len;
	size_t pending; /* bytes of the batch that the kernel has not taken yet */
	size_t at;
	size_t have;
	uint8_t batch[END_BATCH * (PFINET_LENGTH_LEN + END_MAX_FRAME)];
	uint8_t received[READ_LEN];
};

static unsigned int stream_send(struct end *end, unsigned int count)
{
	struct stream *s = end->state;
	size_t len = count * s->record_len, done = 0;

	while (done < len) {
		ssize_t sent = send(end->fd, s->batch + done, len - done, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			fail("send to vif");
		if (sent > 0)
			done += (size_t)sent;
	}
	return count;
}

static unsigned int stream_receive(struct end *end, const struct frame *wanted)
{
	struct stream *s = end->state;
	unsigned int found = 0;
	size_t at = 0, offset, len;
	ssize_t got = recv(end->fd, s->received + s->have, READ_LEN - s->have, MSG_DONTWAIT);

	if (got == 0) {
		errno = ECONNRESET;
		fail("receive from vif");
	}
	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			fail("receive from vif");
		return 0;
	}
	s->have += (size_t)got;
	for (;;) {
		int whole = pfinet_stream_next(s->received + at, s->have - at, PFINET_MAX_FRAME,
					       &offset, &len);

		if (whole < 0) {
			errno = EPROTO;
			fail("receive from vif");
		}
		if (whole == 0)
			break;
		found += (unsigned int)is_wanted(s->received + at + offset, len, wanted);
		at += offset + len;
	}
	s->have -= at;
	memmove(s->received, s->received + at, s->have);
	return found;
}

/* The daemon believes the kernel's word on who connects, so be that user for a moment. */
static int connect_as(const char *path, uid_t uid)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int buffer = 4 << 20;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0)
		fail("socket");
	if (seteuid(uid) < 0 || connect(fd, (void *)&address, sizeof(address)) < 0 || seteuid(0) < 0)
		fail(path);
	return fd;
}

void stream_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct stream *s = calloc(1, sizeof(*s));
	char *uid = strchr(rest, ':');

	if (!s || !uid) {
		errno = EINVAL;
		fail(rest);
	}
	*uid++ = 0;
	s->record_len = PFINET_LENGTH_LEN + outgoing->len;
	for (unsigned int i = 0; i < END_BATCH; i++) {
		uint8_t *record = s->batch + i * s->record_len;

		pfinet_put32(record, (uint32_t)outgoing->len);
		memcpy(record + PFINET_LENGTH_LEN, outgoing->bytes, outgoing->len);
	}
	end->fd = connect_as(rest, (uid_t)strtoul(uid, NULL, 10));
	end->state = s;
	end->send = stream_send;
	end->receive = stream_receive;
}
