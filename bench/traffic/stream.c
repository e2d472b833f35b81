/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - A vif of ours, by its `stream` socket: a length and a frame, in batches
 */
#include "end.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pfinet_wire.h"

#define READ_LEN (1u << 20)

struct stream {
	size_t record_len;
	size_t pending; /* bytes of the batch that the kernel has not taken yet */
	size_t at;
	size_t have;
	int varies;
	unsigned int next; /* record, of what varies */
	uint8_t batch[END_FLOWS * (PFINET_LENGTH_LEN + END_MAX_FRAME)];
	uint8_t received[READ_LEN];
};

static unsigned int stream_send(struct end *end, unsigned int count)
{
	struct stream *s = end->state;
	const uint8_t *batch = s->batch + s->next * s->record_len;
	size_t len = count * s->record_len, done = 0;

	while (done < len) {
		ssize_t sent = send(end->fd, batch + done, len - done, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			fail("send to vif");
		if (sent > 0)
			done += (size_t)sent;
	}
	if (s->varies)
		s->next = (s->next + END_BATCH) % END_FLOWS;
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

void stream_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		fail("calloc");
	s->record_len = PFINET_LENGTH_LEN + outgoing->len;
	s->varies = outgoing->varies;
	for (unsigned int i = 0; i < END_FLOWS; i++) {
		uint8_t *record = s->batch + i * s->record_len;

		pfinet_put32(record, (uint32_t)outgoing->len);
		memcpy(record + PFINET_LENGTH_LEN, outgoing->bytes, outgoing->len);
		if (outgoing->varies)
			frame_vary(record + PFINET_LENGTH_LEN, i);
	}
	end->fd = end_connect(rest, SOCK_STREAM);
	end->state = s;
	end->send = stream_send;
	end->receive = stream_receive;
}
