/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port.h - The seam between the switch and what carries frames
 *
 * A transport is five functions, and a line in transports.c.  Frames cross the
 * seam with their offload metadata, in both directions: the one that reads
 * decodes a virtio_net_hdr into struct dp_meta, the one that writes completes
 * whatever its peer has not negotiated.  No transport ever blocks, and none
 * calls back later: what it cannot take now it drops and counts.
 */
#ifndef DP_IO_PORT_H
#define DP_IO_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/forward.h"
#include "../core/frame.h"
#include "../core/offload.h"
#include "../core/table.h"
#include "turn.h"

struct dp_loop;
struct dp_io_port;

/* Bytes before a frame that deliver() may use: a length word and a virtio_net_hdr. */
#define DP_RECORD_HEAD (4 + DP_VNET_LEN)

/*
 * A frame as it stands in its reader's buffer.
 *
 * Where @record is set, a record head stands directly before the frame: the
 * length word, then, if @vnet, a fresh virtio_net_hdr that deliver() wrote.
 * A stream of the same shape can send those bytes as they are.
 *
 * Where @rest is set, only the first DP_HEAD_LEN bytes stand at @data, with room for
 * the others behind them; those stand where the sender can still change them.  They
 * are copied once, to the receiver or, by dp_rx_gather(), behind the first.
 */
struct dp_rx {
	uint8_t *data; /* the frame, private to the engine */
	size_t len;
	const uint8_t *rest; /* what follows the head, not private; NULL: all is at @data */
	struct dp_meta meta;
	bool record;
	bool vnet;
};

/* Whether clients can write to an fd whatever they like, and how. */
enum dp_hears {
	DP_HEARS_NO_CLIENT,
	DP_HEARS_BYTES,
	DP_HEARS_MESSAGES,
};

struct dp_transport {
	const char *name;

	/* Takes over the fd, which the caller has put into @port. 0 or -errno. */
	int (*open)(struct dp_loop *loop, struct dp_io_port *port);

	/*
	 * Reads what the port's credit is worth, about, and hands each frame to
	 * dp_deliver(), which counts what that costs: dp_loop_may_go_on().
	 * 0, or -errno that ends the attachment.
	 */
	int (*receive)(struct dp_loop *loop, struct dp_io_port *port, uint32_t events);

	/*
	 * Queues a frame for the peer; @rx is the buffer that @frame is a view of.
	 * DP_PASS, or the reason for which it was dropped.
	 */
	enum dp_verdict (*send)(struct dp_loop *loop, struct dp_io_port *port,
				const struct dp_frame *frame, const struct dp_rx *rx);

	/* Hands what is queued to the kernel, without blocking; 0, or -errno that ends it. */
	int (*flush)(struct dp_loop *loop, struct dp_io_port *port);

	/*
	 * Gives back memory that was not needed of late, and credits it to the port's
	 * account.  Called now and then, and only while the port holds any; may be NULL.
	 */
	void (*relax)(struct dp_loop *loop, struct dp_io_port *port);

	/* Frees everything but the fd. */
	void (*close)(struct dp_loop *loop, struct dp_io_port *port);

	/* What a client sends to the fd, see wary.h. */
	enum dp_hears hears;

	/* Whether send() takes a frame in two parts, where it needs no completion. */
	bool takes_parts;

	/* Whether epoll tells once of what comes (EPOLLET), and receive() leaves it in the fd. */
	bool edge;
};

/* What the engine knows of an attachment or an uplink, beside its row of the table. */
struct dp_io_port {
	const struct dp_transport *transport; /* NULL: nothing is attached */
	int fd;
	int memory;          /* while a ring opens: its memory's descriptor, which stays the caller's */
	uint16_t id;         /* its port in the table */
	uint32_t generation; /* of the attachment: a stale command names an older one */
	uint32_t offload;    /* DP_OFFLOAD_* that the peer takes, and may send */
	bool vnet;           /* records carry a virtio_net_hdr */
	bool dirty;          /* stands in the loop's list of ports to flush */
	bool want_write;     /* EPOLLOUT is armed */
	bool naps;           /* epoll does not watch it: it is looked at after a nap of the loop's */
	struct dp_turn turn; /* whose turn it is */
	bool again;          /* stands in the loop's list of ports to serve in the next round */
	uint32_t events;     /* of epoll that came in a round in which it was not served */
	void *state;         /* the transport's own */
	struct dp_account *account; /* whom its memory is charged to; NULL: nobody */
	size_t held;                /* bytes that it is charged */
	size_t reserved;            /* more of them, for as long as it is attached */
};

extern const struct dp_transport dp_transport_stream;
extern const struct dp_transport dp_transport_bess;
extern const struct dp_transport dp_transport_packet;
extern const struct dp_transport dp_transport_tap;
extern const struct dp_transport dp_transport_ring;

/** dp_transport_find() - A transport by name, or NULL */
const struct dp_transport *dp_transport_find(const char *name);

#endif
