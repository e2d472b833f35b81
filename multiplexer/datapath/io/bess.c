/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bess.c - Frames over a packet socket of the Unix domain
 *
 * Each message is one bare frame, as User Mode Linux speaks it to a port of the
 * Berkeley Extensible Software Switch.  Messages are read many at a time; a
 * slot is a byte longer than the network's longest frame, and what does not fit
 * into it was too long anyway.
 *
 * Each frame out is one send(): the call that takes many takes addresses too,
 * behind a pointer, and the sandbox refuses it.  What the peer's socket has no
 * room for waits in the port's queue, each frame behind its length.
 *
 * An empty message looks like the end of the connection, so it is the end.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "loop.h"
#include "queue.h"
#include "wary.h"

/* What a turn takes at most each way, so that no other port waits for long. */
#define MAX_READ 64
#define MAX_WRITTEN 256

#define LENGTH_LEN sizeof(uint32_t)

static int bess_open(struct dp_loop *loop, struct dp_io_port *port)
{
	void *memory;

	/* A bare frame has no virtio_net_hdr, and only a vif's network says how long it is. */
	if (port->vnet || loop->table->ports[port->id].kind != DP_PORT_VIF)
		return -EINVAL;
	memory = mmap(NULL, sizeof(struct dp_queue), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	port->state = memory;
	return 0;
}

static void bess_close(struct dp_loop *loop, struct dp_io_port *port)
{
	(void)loop;
	munmap(port->state, sizeof(struct dp_queue));
}

/* Where clients can send descriptors, messages are looked at one by one. */
static int receive_messages(const struct dp_loop *loop, int fd, struct mmsghdr *messages,
			    unsigned int n)
{
	unsigned int got = 0;

	if (!loop->wary)
		return recvmmsg(fd, messages, n, MSG_DONTWAIT | MSG_TRUNC, NULL);
	for (; got < n; got++) {
		const struct iovec *slot = messages[got].msg_hdr.msg_iov;
		ssize_t len = dp_wary_recv(fd, DP_HEARS_MESSAGES, slot->iov_base, slot->iov_len);

		if (len < 0)
			return got && errno == EAGAIN ? (int)got : -1;
		messages[got].msg_len = (unsigned int)len;
		messages[got].msg_hdr.msg_flags = (size_t)len > slot->iov_len ? MSG_TRUNC : 0;
	}
	return (int)got;
}

static int bess_receive(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	const struct dp_port *row = &loop->table->ports[port->id];
	size_t slot = (size_t)loop->table->networks[row->network].mtu + DP_ETH_LEN + 1;
	struct mmsghdr messages[MAX_READ];
	struct iovec slots[MAX_READ];
	unsigned int n = 0;
	int got;

	(void)events;
	memset(messages, 0, sizeof(messages));
	for (; n < MAX_READ && (n + 1) * slot <= DP_READ_LEN; n++) {
		slots[n].iov_base = loop->buffer + n * slot;
		slots[n].iov_len = slot;
		messages[n].msg_hdr.msg_iov = &slots[n];
		messages[n].msg_hdr.msg_iovlen = 1;
	}
	got = receive_messages(loop, port->fd, messages, n);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (int i = 0; i < got; i++) {
		struct dp_rx rx = { .data = slots[i].iov_base, .len = messages[i].msg_len };

		if (rx.len == 0)
			return -ECONNRESET;
		if (messages[i].msg_hdr.msg_flags & MSG_TRUNC)
			dp_deliver_drop(loop, port, rx.len, DP_DROP_OVERSIZE);
		else
			dp_deliver(loop, port, &rx);
	}
	return 0;
}

static enum dp_verdict bess_send(struct dp_loop *loop, struct dp_io_port *port,
				 const struct dp_frame *frame, const struct dp_rx *rx)
{
	struct dp_queue *queue = port->state;
	size_t n = dp_offload_segments(frame);

	(void)rx;
	/* All segments of a frame or none: half a burst only costs the peer a retransmission. */
	if (!dp_queue_room(loop, port, queue, n * (LENGTH_LEN + dp_offload_segment_len(frame))))
		return DP_DROP_QUEUE_FULL;
	for (size_t i = 0; i < n; i++) {
		uint8_t *length = queue->bytes + queue->tail;
		uint32_t len = (uint32_t)dp_offload_segment(frame, i, length + LENGTH_LEN);

		memcpy(length, &len, LENGTH_LEN);
		queue->tail += LENGTH_LEN + len;
	}
	return DP_PASS;
}

static void bess_relax(struct dp_loop *loop, struct dp_io_port *port)
{
	dp_queue_relax(loop, port, port->state);
}

static int bess_flush(struct dp_loop *loop, struct dp_io_port *port)
{
	struct dp_counters *count = &loop->table->ports[port->id].count;
	struct dp_queue *queue = port->state;

	for (unsigned int i = 0; i < MAX_WRITTEN && !dp_queue_is_empty(queue); i++) {
		const uint8_t *length = queue->bytes + queue->head;
		uint32_t len;

		memcpy(&len, length, LENGTH_LEN);
		loop->spent += DP_COST_CALL;
		if (send(port->fd, length + LENGTH_LEN, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EAGAIN || errno == EINTR)
				break;
			/* The kernel is short of memory, which is not the peer's fault. */
			if (errno != ENOBUFS && errno != ENOMEM)
				return -errno;
			count->drops[DP_DROP_QUEUE_FULL]++;
		}
		dp_queue_taken(queue, LENGTH_LEN + len);
	}
	dp_loop_want_write(loop, port, !dp_queue_is_empty(queue));
	return 0;
}

const struct dp_transport dp_transport_bess = {
	.name = "bess",
	.open = bess_open,
	.receive = bess_receive,
	.send = bess_send,
	.flush = bess_flush,
	.relax = bess_relax,
	.close = bess_close,
	.hears = DP_HEARS_MESSAGES,
};
