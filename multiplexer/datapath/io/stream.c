/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - Frames over a stream socket
 *
 * Each record is a 32-bit length and a frame, with a virtio_net_hdr between them
 * where that was negotiated (proto/SPEC.md).  One recv() takes up to a megabyte
 * of records, and of short ones about a thousand; what follows the last whole one
 * waits in the port's own small buffer.
 *
 * Sending is lazy.  As long as the records that go to one peer stand side by
 * side in the reader's buffer, nothing is copied: they are a run, and flush
 * sends it straight from there.  Whatever breaks a run, or does not fit into the
 * peer's socket, is copied into the port's queue.  A queue that is full drops.
 *
 * The peer shares the socket's description, so O_NONBLOCK means nothing here:
 * every call says MSG_DONTWAIT.
 */
#include <errno.h>
#include <pfinet_wire.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "loop.h"
#include "queue.h"
#include "wary.h"

/* A shorter read would cost more than what it reads. */
#define MIN_READ_LEN (16u * 1024)

struct stream {
	struct dp_queue queue; /* first, so that it begins with a page */
	const uint8_t *run;    /* in the loop's buffer; NULL: no run */
	size_t run_len;
	uint64_t last_len;     /* of the records of the last turn, bytes */
	uint64_t last_cost;    /* and what they cost */
	size_t partial_len;
	uint8_t partial[DP_MAX_RECORD];
};

_Static_assert(DP_VNET_LEN == PFINET_VNET_LEN, "both name virtio's header");
_Static_assert(DP_MAX_FRAME == PFINET_MAX_FRAME, "both name the longest frame");

static int stream_open(struct dp_loop *loop, struct dp_io_port *port)
{
	struct stream *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)loop;
	if (s == MAP_FAILED)
		return -errno;
	/* As for the shortest frames, until it is known. */
	s->last_len = DP_ETH_LEN;
	s->last_cost = 2 * DP_COST_FRAME;
	port->state = s;
	return 0;
}

static void stream_close(struct dp_loop *loop, struct dp_io_port *port)
{
	(void)loop;
	munmap(port->state, sizeof(struct stream));
}

static void deliver_record(struct dp_loop *loop, struct dp_io_port *port, uint8_t *payload,
			   size_t len)
{
	struct dp_rx rx = { .record = true, .vnet = port->vnet };
	size_t head = port->vnet ? DP_VNET_LEN : 0;

	rx.data = payload + head;
	rx.len = len - head;
	if (port->vnet && dp_offload_decode(&rx.meta, payload, port->offload) < 0) {
		dp_deliver_drop(loop, port, rx.len, DP_DROP_OFFLOAD_HEADER);
		return;
	}
	dp_deliver(loop, port, &rx);
}

/*
 * How many bytes to read for what credit is left, if they cost what the last ones did.
 * That goes by their number more than by their length, and by what becomes of them: a
 * flood of short frames would take ten times as long for a megabyte as a neighbour's
 * segments, and one to the wire ten times that.
 */
static size_t read_len(const struct dp_loop *loop, const struct dp_io_port *port)
{
	const struct stream *s = port->state;
	uint64_t credit = (uint64_t)(port->turn.credit - loop->spent);
	uint64_t len = credit * s->last_len / s->last_cost;

	return len < MIN_READ_LEN ? MIN_READ_LEN : len < DP_READ_LEN ? (size_t)len : DP_READ_LEN;
}

static int stream_receive(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	struct stream *s = port->state;
	size_t head = port->vnet ? DP_VNET_LEN : 0;
	size_t at = 0, have = s->partial_len, most = read_len(loop, port);
	int64_t spent = loop->spent;
	ssize_t got;

	(void)events;
	if (loop->wary)
		got = dp_wary_recv(port->fd, DP_HEARS_BYTES, loop->buffer + have, most);
	else
		got = recv(port->fd, loop->buffer + have, most, MSG_DONTWAIT);
	if (got == 0)
		return -ECONNRESET;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	memcpy(loop->buffer, s->partial, have);
	have += (size_t)got;

	for (;;) {
		size_t offset, len;
		int found = pfinet_stream_next(loop->buffer + at, have - at, head + DP_MAX_FRAME,
					       &offset, &len);

		if (found < 0 || (found > 0 && len < head))
			return -EPROTO;
		if (found == 0)
			break;
		deliver_record(loop, port, loop->buffer + at + offset, len);
		at += offset + len;
	}
	if (at) {
		s->last_len = at;
		s->last_cost = (uint64_t)(loop->spent - spent);
	}
	s->partial_len = have - at;
	memcpy(s->partial, loop->buffer + at, s->partial_len);
	return 0;
}

/*
 * How much of the run, of which @sent bytes are sent, can wait in the queue, which is
 * empty: all, or the records that the owner's account has room for.  The others are
 * dropped; but the rest of one that is sent in part must follow.
 */
static size_t run_to_keep(struct dp_loop *loop, struct dp_io_port *port, size_t sent)
{
	struct stream *s = port->state;
	struct dp_counters *count = &loop->table->ports[port->id].count;
	size_t head = PFINET_LENGTH_LEN + (port->vnet ? DP_VNET_LEN : 0);
	size_t space = dp_queue_space(loop, port, &s->queue);
	size_t kept = 0, end;

	if (s->run_len - sent <= space)
		return s->run_len;
	for (size_t at = 0; at < s->run_len; at = end) {
		end = at + PFINET_LENGTH_LEN + pfinet_get32(s->run + at);
		if (at < sent || end - sent <= space) {
			kept = end;
		} else {
			count->tx_frames--;
			count->tx_bytes -= end - at - head;
			count->drops[DP_DROP_QUEUE_FULL]++;
		}
	}
	return kept;
}

/* Ends a run of which @sent bytes are sent: the rest becomes the queue, which is empty. */
static void spill_run(struct dp_loop *loop, struct dp_io_port *port, size_t sent)
{
	struct stream *s = port->state;
	size_t len;

	if (!s->run)
		return;
	len = run_to_keep(loop, port, sent) - sent;
	dp_queue_room(loop, port, &s->queue, len); /* charges it */
	memcpy(s->queue.bytes, s->run + sent, len);
	s->queue.tail = len;
	s->run = NULL;
}

/* Writes the frame as one or more complete records. */
static enum dp_verdict queue_frame(struct dp_loop *loop, struct dp_io_port *port,
				   const struct dp_frame *frame)
{
	struct stream *s = port->state;
	size_t head = 4u + (port->vnet ? DP_VNET_LEN : 0);
	bool whole = (dp_offload_needs(frame) & ~port->offload) == 0;
	size_t n = whole ? 1 : dp_offload_segments(frame);
	size_t longest = whole ? frame->len : dp_offload_segment_len(frame);

	/* All segments of a frame or none: half a burst only costs the peer a retransmission. */
	if (!dp_queue_room(loop, port, &s->queue, n * (head + longest)))
		return DP_DROP_QUEUE_FULL;
	for (size_t i = 0; i < n; i++) {
		uint8_t *record = s->queue.bytes + s->queue.tail;
		size_t len;

		if (whole) {
			memcpy(record + head, frame->data, frame->len);
			len = frame->len;
		} else {
			len = dp_offload_segment(frame, i, record + head);
		}
		pfinet_put32(record, (uint32_t)(head - 4 + len));
		if (port->vnet && whole)
			dp_offload_encode(record + 4, frame);
		else if (port->vnet)
			memset(record + 4, 0, DP_VNET_LEN);
		s->queue.tail += head + len;
	}
	return DP_PASS;
}

static enum dp_verdict stream_send(struct dp_loop *loop, struct dp_io_port *port,
				   const struct dp_frame *frame, const struct dp_rx *rx)
{
	struct stream *s = port->state;
	size_t head = 4u + (port->vnet ? DP_VNET_LEN : 0);

	if (rx->record && rx->vnet == port->vnet && dp_queue_is_empty(&s->queue) &&
	    (dp_offload_needs(frame) & ~port->offload) == 0) {
		const uint8_t *record = rx->data - head;

		if (!s->run) {
			s->run = record;
			s->run_len = head + rx->len;
			return DP_PASS;
		}
		if (s->run + s->run_len == record) {
			s->run_len += head + rx->len;
			return DP_PASS;
		}
	}
	spill_run(loop, port, 0);
	return queue_frame(loop, port, frame);
}

/* Sends from @bytes on; how much went, or -errno. */
static ssize_t send_some(struct dp_io_port *port, const uint8_t *bytes, size_t len)
{
	ssize_t sent = send(port->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return sent;
}

static void stream_relax(struct dp_loop *loop, struct dp_io_port *port)
{
	struct stream *s = port->state;

	dp_queue_relax(loop, port, &s->queue);
}

static int stream_flush(struct dp_loop *loop, struct dp_io_port *port)
{
	struct stream *s = port->state;
	struct dp_queue *queue = &s->queue;
	ssize_t sent = 0;

	if (s->run) {
		sent = send_some(port, s->run, s->run_len);
		if (sent >= 0 && (size_t)sent < s->run_len)
			spill_run(loop, port, (size_t)sent);
		s->run = NULL;
	} else if (!dp_queue_is_empty(queue)) {
		sent = send_some(port, queue->bytes + queue->head, queue->tail - queue->head);
		if (sent > 0)
			dp_queue_taken(queue, (size_t)sent);
	}
	if (sent < 0)
		return (int)sent;
	dp_loop_want_write(loop, port, !dp_queue_is_empty(queue));
	return 0;
}

const struct dp_transport dp_transport_stream = {
	.name = "stream",
	.open = stream_open,
	.receive = stream_receive,
	.send = stream_send,
	.flush = stream_flush,
	.relax = stream_relax,
	.close = stream_close,
	.hears = DP_HEARS_BYTES,
};
