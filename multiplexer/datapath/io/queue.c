/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <string.h>
#include <sys/mman.h>

_Static_assert(DP_QUEUE_LEN % DP_QUEUE_STEP == 0, "the last step ends with the queue");

bool dp_queue_is_empty(const struct dp_queue *queue)
{
	return queue->head == queue->tail;
}

/* Whether the queue may be written up to @end: then it is charged. */
static bool touch(struct dp_loop *loop, struct dp_io_port *port, struct dp_queue *queue, size_t end)
{
	size_t more;

	queue->used = true;
	if (end <= queue->touched)
		return true;
	more = (end - queue->touched + DP_QUEUE_STEP - 1) / DP_QUEUE_STEP * DP_QUEUE_STEP;
	if (!dp_account_charge(loop, port, more))
		return false;
	queue->touched += more;
	return true;
}

/* Where the queue ends for who sends now. */
static size_t end_for_sender(const struct dp_loop *loop)
{
	return loop->heavy ? DP_QUEUE_LEN - DP_QUEUE_RESERVE : DP_QUEUE_LEN;
}

uint8_t *dp_queue_room(struct dp_loop *loop, struct dp_io_port *port, struct dp_queue *queue,
		       size_t len)
{
	size_t end = end_for_sender(loop);

	if (queue->tail + len > end && queue->head >= DP_QUEUE_LEN / 2) {
		memmove(queue->bytes, queue->bytes + queue->head, queue->tail - queue->head);
		queue->tail -= queue->head;
		queue->head = 0;
	}
	if (queue->tail + len > end || !touch(loop, port, queue, queue->tail + len))
		return NULL;
	return queue->bytes + queue->tail;
}

size_t dp_queue_space(const struct dp_loop *loop, const struct dp_io_port *port,
		      const struct dp_queue *queue)
{
	size_t room = dp_account_room(port) / DP_QUEUE_STEP * DP_QUEUE_STEP;
	size_t end = end_for_sender(loop);

	return queue->touched < end && room < end - queue->touched ? queue->touched + room : end;
}

void dp_queue_relax(struct dp_loop *loop, struct dp_io_port *port, struct dp_queue *queue)
{
	if (!queue->used && dp_queue_is_empty(queue) &&
	    madvise(queue->bytes, DP_QUEUE_LEN, MADV_DONTNEED) == 0) {
		queue->touched = 0;
		dp_account_credit(loop, port);
	}
	queue->used = false;
}

void dp_queue_taken(struct dp_queue *queue, size_t len)
{
	queue->head += len;
	if (queue->head == queue->tail)
		queue->head = queue->tail = 0;
}
