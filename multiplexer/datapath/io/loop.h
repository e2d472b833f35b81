/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - The engine's one thread
 *
 * dp_loop_run() moves frames until somebody has to think: a command arrived, a
 * signal, or an attachment ended.  Then Python does its few lines and calls it
 * again.  Commands and frames never run at the same time, so every change of the
 * table is atomic for the frames, without a lock.
 *
 * One round: epoll names the ready ports; each whose turn it is (turn.h) reads one
 * batch into the loop's shared buffer and delivers it; then every port that was given
 * something is flushed, with one system call each.  All reading is into the one buffer, so
 * memory at rest does not grow with the number of attachments.
 */
#ifndef DP_IO_LOOP_H
#define DP_IO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "gates.h"
#include "port.h"
#include "sightings.h"

/* One turn reads at most this: what the largest AF_UNIX buffer holds by default, and room. */
#define DP_READ_LEN (1024 * 1024)
/* A record that has only half arrived, at most. */
#define DP_MAX_RECORD (DP_RECORD_HEAD + DP_MAX_FRAME)

/* What dp_loop_run() returns beside a watched fd's tag, which is positive. */
#define DP_RUN_SIGNAL 0
#define DP_RUN_DETACHED (-1)
#define DP_RUN_FAILED (-2)
#define DP_RUN_SIGHTED (-3)

struct dp_ended {
	uint16_t port;
	uint32_t generation;
	int error; /* errno that ended it; 0: the peer closed; EBADMSG: it sent a descriptor;
		    * EPROTO, EOVERFLOW: a record's length, a ring's index has no meaning */
};

struct dp_loop {
	int epoll_fd;
	uint64_t now_ns; /* CLOCK_MONOTONIC, read once per round */
	uint64_t round;  /* of turn.h */
	int64_t spent;   /* by the port whose turn it is */
	bool heavy;      /* whether that port's last turn was, see queue.h */
	uint32_t refused; /* of what it sent in this turn, it might not send */
	struct dp_table *table;
	uint8_t *buffer;  /* what streams and taps read into: a partial record, then DP_READ_LEN */
	uint8_t *scratch; /* one record: where a frame is completed for its receiver */
	bool wary;        /* clients can send descriptors, see wary.h */
	uint32_t n_dirty;
	uint32_t n_ended;
	uint32_t n_holding; /* ports that hold memory which they do not need at rest */
	uint64_t relax_ns;  /* when they are asked next to give it back */
	uint32_t n_again;   /* ports to serve in the next round, whatever their fd says: */
	uint32_t at_again;  /* from here on in a circle */
	uint32_t n_naps;    /* so many of them may wait for a nap */
	uint16_t again[DP_MAX_PORTS];
	struct dp_io_port ports[DP_MAX_PORTS];
	uint16_t dirty[DP_MAX_PORTS];
	struct dp_ended ended[DP_MAX_PORTS];
	struct dp_account accounts[DP_MAX_PORTS];
	struct dp_housed gates[DP_MAX_PORTS];
	struct dp_sightings sightings;
	uint64_t seed; /* of whatever is hashed */
};

/**
 * dp_loop_new() - Make the engine's loop with an empty table
 * @seed:	Random, for the table's hash
 *
 * Return: the loop, or NULL with errno set
 */
struct dp_loop *dp_loop_new(uint64_t seed);

/** dp_loop_free() - Close every attachment and free the loop; NULL is fine */
void dp_loop_free(struct dp_loop *loop);

/** dp_loop_table() - The loop's table */
struct dp_table *dp_loop_table(struct dp_loop *loop);

/**
 * dp_loop_watch() - Let dp_loop_run() return @tag when @fd can be read
 * @tag:	Positive
 *
 * Return: 0 or -errno
 */
int dp_loop_watch(struct dp_loop *loop, int fd, int tag);

/**
 * dp_loop_unwatch() - Forget a watched @fd, before it is closed
 *
 * Return: 0 or -errno
 */
int dp_loop_unwatch(struct dp_loop *loop, int fd);

/**
 * dp_loop_attach() - Let a port's frames flow over an fd
 * @port:	A vif or an uplink in the table; nothing may be attached to it
 * @generation:	Names this attachment in events and commands
 * @transport:	Name of a transport
 * @fd:		Its end; the loop owns it from here on, if this succeeds
 * @offload:	DP_OFFLOAD_* negotiated; none works without DP_OFFLOAD_CSUM
 * @vnet:	Whether records carry a virtio_net_hdr: if, and only if, any was negotiated
 *
 * Return: 0, -EINVAL, -EBUSY where the port is taken, or what the transport says
 */
int dp_loop_attach(struct dp_loop *loop, uint16_t port, uint32_t generation, const char *transport,
		   int fd, uint32_t offload, bool vnet);

/**
 * dp_loop_attach_ring() - Let a port's frames flow over memory that a client shares
 * @kick:	A stream, as @fd of dp_loop_attach()
 * @memory:	Its descriptor; stays the caller's
 *
 * The other arguments are as for dp_loop_attach().
 *
 * Return: 0 or -errno: -EOVERFLOW where the indices that an engine before has left have no meaning
 */
int dp_loop_attach_ring(struct dp_loop *loop, uint16_t port, uint32_t generation, int kick,
			int memory, uint32_t offload, bool vnet);

/** dp_loop_set_up() - As dp_table_set_up(); claims that are not firm end with a network's wire */
void dp_loop_set_up(struct dp_loop *loop, uint16_t port, bool up);

/**
 * dp_loop_charge() - Bound the memory of an attachment together with its owner's others
 * @number:	Of the owner's account
 * @most:	Bytes for all attachments of that account
 *
 * Return: 0, -EINVAL if nothing is attached or an account is named already, or -ENOBUFS
 * where the account has not the memory that the attachment reserves
 */
int dp_loop_charge(struct dp_loop *loop, uint16_t port, uint32_t number, size_t most);

/**
 * dp_loop_detach() - End an attachment and close its fd
 * Return: 0, -ENOENT where @generation is not what is attached, or -EBADMSG where it
 * ended but the client had sent a descriptor
 */
int dp_loop_detach(struct dp_loop *loop, uint16_t port, uint32_t generation);

/**
 * dp_loop_inject() - Deliver a frame as if the stack of a vif had sent it
 * @port:	A vif; nothing need be attached to it
 * @frame:	Whole, without any offload; checked, counted and charged as all of the vif's
 * @len:	DP_MAX_FRAME at most
 * @to_wire:	What would go to all goes to the network's uplink alone
 *
 * Return: 0, or -EINVAL where @port is no vif or the frame is too long
 */
int dp_loop_inject(struct dp_loop *loop, uint16_t port, const uint8_t *frame, size_t len,
		   bool to_wire);

/**
 * dp_loop_run() - Move frames until there is something to do
 * Return: the tag of a watched fd that can be read; DP_RUN_SIGNAL; DP_RUN_DETACHED:
 * dp_loop_next_ended() tells which; DP_RUN_SIGHTED: dp_loop_next_sighting() has some, said
 * once until it is called; DP_RUN_FAILED with errno set
 */
int dp_loop_run(struct dp_loop *loop);

/**
 * dp_loop_next_ended() - Take one attachment that ended by itself
 * Return: whether there was one
 */
bool dp_loop_next_ended(struct dp_loop *loop, struct dp_ended *ended);

/**
 * dp_loop_next_sighting() - Take one sighting, the longest waiting first
 * Return: whether there was one
 */
bool dp_loop_next_sighting(struct dp_loop *loop, struct dp_sighted *sighted);

/** dp_loop_tell_sightings() - Let dp_loop_run() say again that there are some, if there are */
void dp_loop_tell_sightings(struct dp_loop *loop);

/* ---- for transports ---- */

/**
 * dp_deliver() - Walk one received frame through the switch
 * @loop:	Loop
 * @from:	Where it came from; its counters say what became of it
 * @rx:		The frame and its metadata; its record head may be rewritten
 */
void dp_deliver(struct dp_loop *loop, struct dp_io_port *from, struct dp_rx *rx);

/** dp_deliver_to_wire() - As dp_deliver(), but what would be flooded goes to the uplink alone */
void dp_deliver_to_wire(struct dp_loop *loop, struct dp_io_port *from, struct dp_rx *rx);

/** dp_deliver_drop() - Count a frame that could not even be handed to dp_deliver() */
void dp_deliver_drop(struct dp_loop *loop, struct dp_io_port *from, size_t len,
		     enum dp_verdict reason);

#ifndef DP_CDEF /* the Python binding has no use for this */
/** dp_loop_may_go_on() - Whether a port, whose turn it is, has credit left */
static inline bool dp_loop_may_go_on(const struct dp_loop *loop, const struct dp_io_port *port)
{
	return loop->spent < port->turn.credit;
}
#endif

/** dp_rx_gather() - Copy the rest of a frame behind its head */
void dp_rx_gather(struct dp_rx *rx);

/** dp_loop_again() - Serve a port in the next round too, as if its fd could be read */
void dp_loop_again(struct dp_loop *loop, struct dp_io_port *port);

/**
 * dp_loop_nap() - Serve a port after a nap, as if its fd could be read, and do not watch the fd
 * @naps:	false: watch it again
 *
 * To be said in each of its turns, for as long as it naps.
 */
void dp_loop_nap(struct dp_loop *loop, struct dp_io_port *port, bool naps);

/** dp_loop_want_write() - Arm or disarm EPOLLOUT for a port */
void dp_loop_want_write(struct dp_loop *loop, struct dp_io_port *port, bool want);

#endif
