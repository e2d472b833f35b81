/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - Bytes that a peer has not taken yet
 *
 * Written at the tail and taken at the head, always in one piece.  A queue that
 * is full refuses; it never grows.  What is in it is moved to the front only when
 * half of it is free, which bounds what a slow reader can make us copy.
 */
#ifndef DP_IO_QUEUE_H
#define DP_IO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

/* One turn's run must fit when the peer takes nothing of it, and a turn's flood as well. */
#define DP_QUEUE_LEN (2 * DP_READ_LEN)

struct dp_queue {
	size_t head, tail;
	uint8_t bytes[DP_QUEUE_LEN];
};

/** dp_queue_is_empty() - Whether the peer has taken everything */
bool dp_queue_is_empty(const struct dp_queue *queue);

/**
 * dp_queue_room() - Where @len more bytes can be written
 *
 * They are in the queue once its tail is moved behind them.
 *
 * Return: the tail, or NULL where they do not fit
 */
uint8_t *dp_queue_room(struct dp_queue *queue, size_t len);

/** dp_queue_taken() - Note that the peer has taken @len bytes, which were there */
void dp_queue_taken(struct dp_queue *queue, size_t len);

#endif
