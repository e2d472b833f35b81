/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.c - Frames over a tap: the host's own, or that of a user who is trusted
 *
 * The descriptor arrives configured: IFF_TAP, IFF_NO_PI and, where any offload was
 * negotiated, IFF_VNET_HDR with a little-endian header of DP_VNET_LEN bytes and the
 * same offloads by TUNSETOFFLOAD (Documentation/networking/tuntap.rst).  A tap knows
 * no batches: each frame is a system call.
 *
 * Frames are read one behind the other, each with a record head before it, so that
 * those for one stream are a run and leave from where they were read.
 *
 * Somebody else may hold the same open tap and clear its O_NONBLOCK, so every call
 * says RWF_NOWAIT.  A tap whose interface is deleted says EBADFD for ever, and ends;
 * one that is down takes nothing and has nothing, and is as new when it comes up.
 */
#include <errno.h>
#include <pfinet_wire.h>
#include <sys/uio.h>

#include "loop.h"

/* What a turn reads at most, as packet.c has it. */
#define MAX_FRAMES_PER_TURN 256
#define MAX_BYTES_PER_TURN (512 * 1024)

/* One byte more than the longest frame, so that what is longer shows. */
#define READ_LEN (DP_VNET_LEN + DP_MAX_FRAME + 1)

_Static_assert(MAX_BYTES_PER_TURN + 4 + READ_LEN <= DP_READ_LEN, "a turn fits the loop's buffer");

static int tap_open(struct dp_loop *loop, struct dp_io_port *port)
{
	(void)loop;
	(void)port;
	return 0;
}

static void tap_close(struct dp_loop *loop, struct dp_io_port *port)
{
	(void)loop;
	(void)port;
}

/* The offset that means "none": a tap has no position. */
static ssize_t read_nowait(int fd, uint8_t *bytes, size_t len)
{
	const struct iovec vector = { .iov_base = bytes, .iov_len = len };

	return preadv2(fd, &vector, 1, -1, RWF_NOWAIT);
}

/* Hands on what one read gave: @len bytes at @bytes, with room for a length before them. */
static void deliver_read(struct dp_loop *loop, struct dp_io_port *port, uint8_t *bytes, size_t len)
{
	size_t head = port->vnet ? DP_VNET_LEN : 0;
	struct dp_rx rx = { .data = bytes + head, .record = true, .vnet = port->vnet };

	if (len < head) {
		dp_deliver_drop(loop, port, 0, DP_DROP_RUNT);
		return;
	}
	rx.len = len - head;
	if (port->vnet && dp_offload_decode(&rx.meta, bytes, port->offload) < 0) {
		dp_deliver_drop(loop, port, rx.len, DP_DROP_OFFLOAD_HEADER);
		return;
	}
	pfinet_put32(bytes - 4, (uint32_t)len);
	dp_deliver(loop, port, &rx);
}

static int tap_receive(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	size_t at = 0;

	(void)events;
	for (unsigned int i = 0; i < MAX_FRAMES_PER_TURN && at < MAX_BYTES_PER_TURN &&
				 dp_loop_may_go_on(loop, port); i++) {
		uint8_t *bytes = loop->buffer + at + 4;
		ssize_t got = read_nowait(port->fd, bytes, READ_LEN);

		loop->spent += DP_COST_CALL;
		if (got < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		deliver_read(loop, port, bytes, (size_t)got);
		at += 4 + (size_t)got;
	}
	return 0;
}

/* Writes one frame, behind a header where the tap has them. */
static enum dp_verdict write_nowait(struct dp_loop *loop, struct dp_io_port *port,
				    const uint8_t *header, const uint8_t *frame, size_t len)
{
	/* The kernel only reads what the vector points to. */
	const struct iovec vector[2] = {
		{ .iov_base = (void *)(uintptr_t)header, .iov_len = DP_VNET_LEN },
		{ .iov_base = (void *)(uintptr_t)frame, .iov_len = len },
	};
	const struct iovec *first = port->vnet ? vector : vector + 1;

	loop->spent += DP_COST_CALL;
	if (pwritev2(port->fd, first, port->vnet ? 2 : 1, -1, RWF_NOWAIT) >= 0)
		return DP_PASS;
	switch (errno) {
	case EIO: /* down */
	case EBADFD: /* deleted: the next read ends the attachment */
		return DP_DROP_DETACHED;
	case EINVAL:
		return DP_DROP_OFFLOAD_HEADER;
	default: /* EAGAIN, ENOBUFS */
		return DP_DROP_QUEUE_FULL;
	}
}

static enum dp_verdict tap_send(struct dp_loop *loop, struct dp_io_port *port,
				const struct dp_frame *frame, const struct dp_rx *rx)
{
	uint8_t header[DP_VNET_LEN] = { 0 };
	size_t n;

	(void)rx;
	if ((dp_offload_needs(frame) & ~port->offload) == 0) {
		if (port->vnet)
			dp_offload_encode(header, frame);
		return write_nowait(loop, port, header, frame->data, frame->len);
	}
	/* Where the tap takes no more, the rest of a burst is not tried either. */
	n = dp_offload_segments(frame);
	for (size_t i = 0; i < n; i++) {
		size_t len = dp_offload_segment(frame, i, loop->scratch);
		enum dp_verdict verdict = write_nowait(loop, port, header, loop->scratch, len);

		if (verdict != DP_PASS)
			return verdict;
	}
	return DP_PASS;
}

static int tap_flush(struct dp_loop *loop, struct dp_io_port *port)
{
	(void)loop;
	(void)port;
	return 0;
}

const struct dp_transport dp_transport_tap = {
	.name = "tap",
	.open = tap_open,
	.receive = tap_receive,
	.send = tap_send,
	.flush = tap_flush,
	.close = tap_close,
};
