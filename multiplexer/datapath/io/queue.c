/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <string.h>

bool dp_queue_is_empty(const struct dp_queue *queue)
{
	return queue->head == queue->tail;
}

uint8_t *dp_queue_room(struct dp_queue *queue, size_t len)
{
	if (DP_QUEUE_LEN - queue->tail < len && queue->head >= DP_QUEUE_LEN / 2) {
		memmove(queue->bytes, queue->bytes + queue->head, queue->tail - queue->head);
		queue->tail -= queue->head;
		queue->head = 0;
	}
	return DP_QUEUE_LEN - queue->tail < len ? NULL : queue->bytes + queue->tail;
}

void dp_queue_taken(struct dp_queue *queue, size_t len)
{
	queue->head += len;
	if (queue->head == queue->tail)
		queue->head = queue->tail = 0;
}
