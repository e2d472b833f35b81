/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - Frames over memory that the client shares
 *
 * The memory and its rules are those of pfinet_ring.h; the descriptor is a stream on
 * which each side kicks the other, by a byte, when that sleeps.  A ring that has frames
 * left is served again in the next round; one that is empty has its flag set, and its
 * client kicks.  So a busy client and we make no system call for a frame.
 *
 * The client can write to all of the memory at any moment.  What is decided by is copied
 * to the loop's buffer first, once, and those bytes are the ones that are delivered: of a
 * long frame whose headers end early the first DP_HEAD_LEN, of all others every byte.
 * The rest of a long one is copied once, to its receiver.  What a client may gain by
 * writing there meanwhile is a frame with another payload, which it could have sent
 * anyway.  What is written for it is never read back.
 *
 * A client whose index or record has no meaning is detached.  So is one whose stream has
 * ended, after what it had written until then.  That its memory keeps its length is
 * sealed, and seen to when the ring opens.
 *
 * The whole memory counts to the client's account, since it can touch all of it.  What
 * only we write is given back when it was not needed for a while; where the client
 * writes, it might just be doing so.
 */
#include <errno.h>
#include <fcntl.h>
#include <pfinet_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backlog.h"
#include "loop.h"
#include "wary.h"

/* The part of a ring down that is for those who send little, as in queue.h. */
#define RESERVE 4

/* Kicks that wait to be taken: of far more the stream has room (daemon/rings.py). */
#define MAX_UNREAD 16

/* What may stay touched of the ring down, however long nothing is written to it. */
#define KEPT_LEN (64u * 1024)

/* What is copied at once of short payloads, and which those are. */
#define PIECE 16
#define SHORT 128

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct ring {
	uint8_t *memory;
	size_t memory_len;
	struct pfinet_ring up, down;
	uint32_t kept;   /* index of down when its memory was last given back */
	uint32_t noted;  /* index of down when that was last considered */
	struct dp_backlog backlog; /* of down */
	bool ends;       /* the client has closed; it is served up to up.seen, and no further */
	bool broken;     /* its index of down is out of order */
	uint8_t unread;  /* kicks in the stream, at most, of a client that keeps the rules */
};

/* Whether the memory is what the client was told, for good. */
static int measure(int memory, size_t *len)
{
	int seals = fcntl(memory, F_GET_SEALS);
	off_t end = lseek(memory, 0, SEEK_END);

	if (seals < 0 || end < 0 || (seals & SEALS) != SEALS || !pfinet_ring_len_of((uint64_t)end))
		return -EINVAL;
	*len = (size_t)end;
	return 0;
}

/*
 * New memory is all zero, and what an engine before us has left is gone on with: frames
 * that it took without saying so come twice, and those that it wrote are lost.
 */
static int adopt(struct ring *r)
{
	uint32_t len = pfinet_ring_len_of(r->memory_len);

	pfinet_ring_open(&r->up, r->memory, len, PFINET_RING_UP, false);
	pfinet_ring_open(&r->down, r->memory, len, PFINET_RING_DOWN, true);
	if (pfinet_ring_adopt(&r->up, false) < 0 || pfinet_ring_adopt(&r->down, true) < 0)
		return -EOVERFLOW;
	r->kept = r->noted = r->down.index;
	dp_backlog_open(&r->backlog, len, r->down.index);
	return 0;
}

/* One that is awake, or has many kicks to come, needs no other; that it is gone shows elsewhere. */
static void kick(struct dp_loop *loop, const struct dp_io_port *port)
{
	loop->spent += DP_COST_CALL;
	(void)!send(port->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int ring_open(struct dp_loop *loop, struct dp_io_port *port)
{
	struct ring *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	error = measure(port->memory, &r->memory_len);
	if (error)
		goto failed;
	r->memory = mmap(NULL, r->memory_len, PROT_READ | PROT_WRITE, MAP_SHARED, port->memory, 0);
	if (r->memory == MAP_FAILED) {
		error = -errno;
		goto failed;
	}
	error = adopt(r);
	if (error) {
		munmap(r->memory, r->memory_len);
		goto failed;
	}
	r->unread = MAX_UNREAD; /* of our predecessor's, as many */
	port->state = r;
	port->reserved = r->memory_len;
	/* Whatever our predecessor knew: look at the ring, and let the client do the same. */
	dp_loop_again(loop, port);
	kick(loop, port);
	return 0;
failed:
	free(r);
	return error;
}

static void ring_close(struct dp_loop *loop, struct dp_io_port *port)
{
	struct ring *r = port->state;

	(void)loop;
	/* Others have duplicates of the stream, and the client shall see its end now. */
	shutdown(port->fd, SHUT_RDWR);
	munmap(r->memory, r->memory_len);
	free(r);
}

/*
 * Takes the kicks that have come.  epoll tells of each (EPOLLET), so they are left where
 * they are until there are some; it does not of those of a port that naps.  0, or -errno.
 */
static int take_kicks(struct dp_loop *loop, struct dp_io_port *port, bool *closed)
{
	struct ring *r = port->state;
	ssize_t got;

	if (!loop->wary && !port->naps && ++r->unread < MAX_UNREAD)
		return 0;
	r->unread = 0;
	if (loop->wary)
		got = dp_wary_recv(port->fd, DP_HEARS_BYTES, loop->scratch, DP_MAX_RECORD);
	else
		got = recv(port->fd, loop->scratch, DP_MAX_RECORD, MSG_DONTWAIT);
	if (got == 0 || (got < 0 && errno == ECONNRESET))
		*closed = true;
	else if (got < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	return 0;
}

/*
 * A compiler may not take what was copied for what still stands where it was copied from.
 * Nor shall it know that @len is small: it would copy by an instruction that is slow to start.
 */
static void copy_private(uint8_t *to, const uint8_t *from, size_t len)
{
	__asm__("" : "+r"(len));
	memcpy(to, from, len);
	__asm__ volatile("" ::: "memory");
}

static void deliver_payload(struct dp_loop *loop, struct dp_io_port *port, const uint8_t *payload,
			    size_t len)
{
	size_t head = port->vnet ? DP_VNET_LEN : 0;
	uint8_t *copy = loop->buffer;
	size_t first = len < head + DP_HEAD_LEN ? len : head + DP_HEAD_LEN;
	struct dp_rx rx = { .data = copy + head };

	copy_private(copy, payload, first);
	if (len < head) {
		dp_deliver_drop(loop, port, 0, DP_DROP_RUNT);
		return;
	}
	rx.len = len - head;
	if (port->vnet && dp_offload_decode(&rx.meta, copy, port->offload) < 0) {
		dp_deliver_drop(loop, port, rx.len, DP_DROP_OFFLOAD_HEADER);
		return;
	}
	if (len > first) {
		rx.rest = payload + first;
		if (!dp_frame_is_told_by_head(rx.data))
			dp_rx_gather(&rx);
	}
	dp_deliver(loop, port, &rx);
}

/* Delivers what was last seen, as far as the port's credit goes.  0 or -EPROTO. */
static int deliver_seen(struct dp_loop *loop, struct dp_io_port *port, struct ring *r)
{
	uint32_t most = DP_MAX_FRAME + (port->vnet ? DP_VNET_LEN : 0);

	while (dp_loop_may_go_on(loop, port)) {
		const uint8_t *payload;
		uint32_t len;
		int found = pfinet_ring_next(&r->up, most, &payload, &len);

		if (found < 0)
			return -EPROTO;
		if (found == 0)
			break;
		deliver_payload(loop, port, payload, len);
		pfinet_ring_take(&r->up, len);
	}
	return 0;
}

/* Who waits for room is told when there is much, or when there will not soon be more. */
static bool has_room_for_client(const struct ring *r)
{
	uint32_t left = pfinet_ring_left(&r->up);

	return left <= r->up.len / 2;
}

static int ring_receive(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	struct ring *r = port->state;
	bool closed = events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR);
	int error = r->broken ? -EOVERFLOW : 0;

	if (!r->ends && !error && (events & EPOLLIN || port->naps))
		error = take_kicks(loop, port, &closed);
	if (!r->ends && !error && pfinet_ring_look_written(&r->up) < 0)
		error = -EOVERFLOW;
	r->ends |= closed;
	if (!error)
		error = deliver_seen(loop, port, r);
	if (error)
		return error;
	pfinet_ring_publish(&r->up);
	if (r->ends) {
		if (pfinet_ring_left(&r->up) == 0)
			return -ECONNRESET;
		dp_loop_again(loop, port);
		return 0;
	}
	if (pfinet_ring_left(&r->up) || !pfinet_ring_wait(&r->up)) {
		pfinet_ring_wait_no_more(&r->up);
		dp_loop_again(loop, port);
	}
	if (has_room_for_client(r) && pfinet_ring_wakes(&r->up))
		kick(loop, port);
	return 0;
}

static void write_payload(struct dp_io_port *port, struct ring *r, const uint8_t header[DP_VNET_LEN],
			  const uint8_t *data, size_t len, const uint8_t *rest)
{
	size_t head = port->vnet ? DP_VNET_LEN : 0;
	size_t first = rest ? DP_HEAD_LEN : len;
	uint8_t *to = pfinet_ring_begin(&r->down, (uint32_t)(head + len));

	memcpy(to, header, head);
	memcpy(to + head, data, first);
	if (rest)
		memcpy(to + head + first, rest, len - first);
	pfinet_ring_end(&r->down, (uint32_t)(head + len));
	dp_backlog_give(&r->backlog, r->down.index, (uint32_t)len);
}

/* Whether so much more may wait, of whoever sends now.  1, 0, or -1 as pfinet_ring_room(). */
static int find_room(struct dp_loop *loop, struct ring *r, size_t n, size_t len)
{
	uint32_t spare = loop->heavy ? r->down.len / RESERVE : 0;

	if (dp_backlog_is_due(&r->backlog, loop->now_ns)) {
		if (pfinet_ring_look_taken(&r->down) < 0)
			return -1;
		dp_backlog_look(&r->backlog, loop->now_ns, r->down.seen);
	}
	if (!dp_backlog_has_room(&r->backlog, loop->heavy)) {
		if (pfinet_ring_look_taken(&r->down) < 0)
			return -1;
		dp_backlog_see(&r->backlog, r->down.seen);
		if (!dp_backlog_has_room(&r->backlog, loop->heavy))
			return 0;
	}
	return pfinet_ring_room(&r->down, (uint32_t)n, (uint32_t)len, spare);
}

/* DP_PASS where @n records of up to @len bytes fit. */
static enum dp_verdict reserve(struct dp_loop *loop, struct dp_io_port *port, struct ring *r,
			       size_t n, size_t len)
{
	int found = r->broken ? 0 : find_room(loop, r, n, len);

	if (found < 0) {
		r->broken = true; /* which ends it when its turn comes */
		dp_loop_again(loop, port);
	}
	return found == 1 ? DP_PASS : DP_DROP_QUEUE_FULL;
}

static enum dp_verdict ring_send(struct dp_loop *loop, struct dp_io_port *port,
				 const struct dp_frame *frame, const struct dp_rx *rx)
{
	struct ring *r = port->state;
	size_t head = port->vnet ? DP_VNET_LEN : 0;
	uint8_t header[DP_VNET_LEN] = { 0 };
	enum dp_verdict verdict;
	size_t n;

	if ((dp_offload_needs(frame) & ~port->offload) == 0) {
		verdict = reserve(loop, port, r, 1, head + frame->len);
		if (verdict != DP_PASS)
			return verdict;
		if (port->vnet)
			dp_offload_encode(header, frame);
		write_payload(port, r, header, frame->data, frame->len, rx->rest);
		return DP_PASS;
	}
	/* All segments of a frame or none: half a burst only costs the peer a retransmission. */
	n = dp_offload_segments(frame);
	verdict = reserve(loop, port, r, n, head + dp_offload_segment_len(frame));
	if (verdict != DP_PASS)
		return verdict;
	for (size_t i = 0; i < n; i++) {
		size_t len = dp_offload_segment(frame, i, loop->scratch);

		write_payload(port, r, header, loop->scratch, len, NULL);
	}
	return DP_PASS;
}

static int ring_flush(struct dp_loop *loop, struct dp_io_port *port)
{
	struct ring *r = port->state;

	pfinet_ring_publish(&r->down);
	if (pfinet_ring_wakes(&r->down))
		kick(loop, port);
	if (!port->held && r->down.index - r->kept > KEPT_LEN)
		dp_account_hold(loop, port, r->down.len);
	return 0;
}

/*
 * An empty ring down holds nothing that anybody needs: its pages are taken out of the
 * memory, and whoever touches one later gets a fresh one.
 */
static void ring_relax(struct dp_loop *loop, struct dp_io_port *port)
{
	struct ring *r = port->state;
	bool idle = r->noted == r->down.index;

	r->noted = r->down.index;
	if (!idle || pfinet_ring_look_taken(&r->down) < 0 || pfinet_ring_used(&r->down))
		return;
	if (madvise(r->down.data, r->down.len, MADV_REMOVE) == 0) {
		r->kept = r->down.index;
		dp_account_unhold(loop, port);
	}
}

const struct dp_transport dp_transport_ring = {
	.name = "ring",
	.open = ring_open,
	.receive = ring_receive,
	.send = ring_send,
	.flush = ring_flush,
	.relax = ring_relax,
	.close = ring_close,
	.hears = DP_HEARS_BYTES,
	.takes_parts = true,
	.edge = true,
};
