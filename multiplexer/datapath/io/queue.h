/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - Bytes that a peer has not taken yet
 *
 * Written at the tail and taken at the head, always in one piece.  A queue that
 * is full refuses; it never grows.  What is in it is moved to the front only when
 * half of it is free, which bounds what a slow reader can make us copy.
 *
 * The last quarter is for those who send little: whoever took most of what a turn may
 * cost (turn.h) finds the queue full before that, so that a flood to somebody does not
 * drown what others send there.
 *
 * What a queue has touched is charged to the account of its port, a step at a
 * time, until it has been empty for a while.  An account that is full refuses too.
 */
#ifndef DP_IO_QUEUE_H
#define DP_IO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

/* One turn's run must fit when the peer takes nothing of it, and a turn's flood as well. */
#define DP_QUEUE_LEN (2 * DP_READ_LEN)

/* Of its bytes, what a heavy sender may not take. */
#define DP_QUEUE_RESERVE (DP_QUEUE_LEN / 4)

/* What a queue is charged at a time: a few pages, so that it is seldom. */
#define DP_QUEUE_STEP (16 * 1024)

/* Zeroed, at the beginning of a page. */
struct dp_queue {
	uint8_t bytes[DP_QUEUE_LEN];
	size_t head, tail;
	size_t touched; /* bytes, from the first on, that are charged */
	bool used;      /* since it was last asked to relax */
};

/** dp_queue_is_empty() - Whether the peer has taken everything */
bool dp_queue_is_empty(const struct dp_queue *queue);

/**
 * dp_queue_room() - Where @len more bytes can be written
 * @port:	Whose queue it is
 *
 * They are in the queue once its tail is moved behind them.
 *
 * Return: the tail, or NULL where they do not fit or the port's account is full
 */
uint8_t *dp_queue_room(struct dp_loop *loop, struct dp_io_port *port, struct dp_queue *queue,
		       size_t len);

/** dp_queue_space() - How many bytes an empty queue could be given */
size_t dp_queue_space(const struct dp_loop *loop, const struct dp_io_port *port,
		      const struct dp_queue *queue);

/** dp_queue_relax() - Give back the memory of a queue that was empty for a while */
void dp_queue_relax(struct dp_loop *loop, struct dp_io_port *port, struct dp_queue *queue);

/** dp_queue_taken() - Note that the peer has taken @len bytes, which were there */
void dp_queue_taken(struct dp_queue *queue, size_t len);

#endif
