/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet.c - Frames over a packet socket: the NIC
 *
 * The broker has made the socket: bound, filtered, with PACKET_VNET_HDR, an
 * RX ring of TPACKET_V2 and PACKET_IGNORE_OUTGOING.  Frames are read in place
 * from the ring (Documentation/networking/packet_mmap.rst), and each is written by
 * one call: on this kernel a TX ring was slower at every size, and stalls on a frame
 * that is too long.  An AF_XDP socket would be faster, but what it sends goes past
 * the host's tc(8) and tcpdump(8), and by one queue of the NIC.
 *
 * Where frames go fast, either way, the socket is read after naps (moderation.h).
 * That spares whoever sends waking us, and the kernel asking for each frame that was
 * sent whether somebody waits for room.
 *
 * Link state as the kernel shows it: an interface that goes down says ENETDOWN
 * once and works again when it comes up; one that is deleted never does, and the
 * broker brings a new socket.  So no error of the link ends this port.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "loop.h"
#include "moderation.h"
#include "packet.h"

/* What a turn reads at most: so much fits any queue. */
#define MAX_FRAMES_PER_TURN 256
#define MAX_BYTES_PER_TURN (512 * 1024)

_Static_assert(sizeof(struct virtio_net_hdr) == DP_VNET_LEN, "the kernel's and ours");

struct packet {
	uint8_t *ring;
	uint32_t next; /* slot to read */
	uint32_t sent; /* frames since the last flush */
	struct dp_moderation moderation;
};

static struct tpacket2_hdr *slot_at(const struct packet *p, uint32_t index)
{
	/* Slots do not cross blocks, and each is aligned for its header. */
	return (struct tpacket2_hdr *)(void *)(p->ring +
					       (size_t)(index / DP_RING_SLOTS_PER_BLOCK) *
						       DP_RING_BLOCK_LEN +
					       (size_t)(index % DP_RING_SLOTS_PER_BLOCK) *
						       DP_RING_SLOT_LEN);
}

static int packet_open(struct dp_loop *loop, struct dp_io_port *port)
{
	struct packet *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)loop;
	if (p == MAP_FAILED)
		return -errno;
	p->ring = mmap(NULL, (size_t)DP_RING_BLOCKS * DP_RING_BLOCK_LEN, PROT_READ | PROT_WRITE,
		       MAP_SHARED, port->fd, 0);
	if (p->ring == MAP_FAILED) {
		int error = -errno;

		munmap(p, sizeof(*p));
		return error;
	}
	port->state = p;
	return 0;
}

static void packet_close(struct dp_loop *loop, struct dp_io_port *port)
{
	struct packet *p = port->state;

	(void)loop;
	munmap(p->ring, (size_t)DP_RING_BLOCKS * DP_RING_BLOCK_LEN);
	munmap(p, sizeof(*p));
}

static void deliver_slot(struct dp_loop *loop, struct dp_io_port *port, struct tpacket2_hdr *slot,
			 uint32_t status)
{
	struct dp_rx rx = { .data = (uint8_t *)slot + slot->tp_mac, .len = slot->tp_snaplen };

	if (slot->tp_snaplen < slot->tp_len || rx.len > DP_MAX_FRAME) {
		dp_deliver_drop(loop, port, slot->tp_len, DP_DROP_OVERSIZE);
		return;
	}
	if (dp_offload_decode(&rx.meta, rx.data - DP_VNET_LEN, DP_OFFLOAD_ALL) < 0) {
		dp_deliver_drop(loop, port, rx.len, DP_DROP_OFFLOAD_HEADER);
		return;
	}
	/* The kernel has taken the tag out of the bytes; tag 0 is a tag too. */
	rx.meta.vlan = status & TP_STATUS_VLAN_VALID;
	dp_deliver(loop, port, &rx);
}

static void note_frames(struct dp_loop *loop, struct dp_io_port *port, uint32_t frames)
{
	struct packet *p = port->state;

	dp_loop_nap(loop, port, dp_moderation_note(&p->moderation, loop->now_ns, frames));
}

static int packet_receive(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	struct packet *p = port->state;
	unsigned int frames = 0;
	size_t bytes = 0;

	if (events & EPOLLERR) {
		/* One read takes the link's error away; else epoll would never sleep again. */
		uint8_t byte;

		(void)!recv(port->fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC);
	}
	for (; frames < MAX_FRAMES_PER_TURN && bytes < MAX_BYTES_PER_TURN &&
	       dp_loop_may_go_on(loop, port); frames++) {
		struct tpacket2_hdr *slot = slot_at(p, p->next);
		uint32_t status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);

		if (!(status & TP_STATUS_USER))
			break;
		bytes += slot->tp_snaplen;
		deliver_slot(loop, port, slot, status);
		__atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		p->next = (p->next + 1) % DP_RING_SLOTS;
	}
	note_frames(loop, port, frames);
	return 0;
}

/* Up to so many bytes are sooner copied together than handed over in parts. */
#define MAX_COPIED (4 * 1024)

/* The offset that means "none": a socket has no position. */
static ssize_t write_parts(int fd, const struct iovec *parts, int n)
{
	if (n == 1)
		return send(fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return pwritev2(fd, parts, n, -1, RWF_NOWAIT);
}

/* One frame with its virtio_net_hdr to the driver. */
static enum dp_verdict write_frame(struct dp_loop *loop, struct dp_io_port *port,
				   const struct iovec *parts, int n)
{
	for (unsigned int tries = 0; tries < 3; tries++) {
		loop->spent += DP_COST_CALL;
		if (write_parts(port->fd, parts, n) >= 0)
			return DP_PASS;
		/* ENETDOWN may be left from before the link came up: the next one tells. */
		if (errno != EINTR && errno != ENETDOWN)
			break;
	}
	switch (errno) {
	case EMSGSIZE:
		return DP_DROP_EGRESS_MTU;
	case ENETDOWN:
	case ENXIO:
		return DP_DROP_DETACHED;
	case EINVAL:
		return DP_DROP_OFFLOAD_HEADER;
	default: /* EAGAIN, ENOBUFS: the driver's queue */
		return DP_DROP_QUEUE_FULL;
	}
}

/* The kernel only reads what a part points to. */
static struct iovec part(const uint8_t *bytes, size_t len)
{
	return (struct iovec){ .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
}

static enum dp_verdict packet_send(struct dp_loop *loop, struct dp_io_port *port,
				   const struct dp_frame *frame, const struct dp_rx *rx)
{
	struct packet *p = port->state;
	size_t first = rx->rest ? DP_HEAD_LEN : frame->len;
	struct iovec parts[] = {
		part(loop->scratch, DP_VNET_LEN),
		part(frame->data, first),
		part(rx->rest, frame->len - first),
	};

	p->sent++;
	/* A record with a virtio_net_hdr is already what the socket takes. */
	if (rx->record && rx->vnet) {
		parts[0] = part(rx->data - DP_VNET_LEN, DP_VNET_LEN + rx->len);
		return write_frame(loop, port, parts, 1);
	}
	dp_offload_encode(loop->scratch, frame);
	if (frame->len > MAX_COPIED)
		return write_frame(loop, port, parts, rx->rest ? 3 : 2);
	memcpy(loop->scratch + DP_VNET_LEN, frame->data, first);
	if (rx->rest)
		memcpy(loop->scratch + DP_VNET_LEN + first, rx->rest, frame->len - first);
	parts[0].iov_len += frame->len;
	return write_frame(loop, port, parts, 1);
}

static int packet_flush(struct dp_loop *loop, struct dp_io_port *port)
{
	struct packet *p = port->state;

	note_frames(loop, port, p->sent);
	p->sent = 0;
	return 0;
}

const struct dp_transport dp_transport_packet = {
	.name = "packet",
	.open = packet_open,
	.receive = packet_receive,
	.send = packet_send,
	.flush = packet_flush,
	.close = packet_close,
	.takes_parts = true,
};
