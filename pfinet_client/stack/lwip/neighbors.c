/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neighbors.c - Neighbours that lwIP asks for and that never answer
 *
 * Who forges the sources of what it sends has lwIP ask for as many neighbours as it
 * likes.  lwIP has few places for them, and rather than one that it waits for it gives
 * up one that it has found.  Hence those that it waits for have half of them; of more,
 * those go that have waited longest, and one that is there has answered by then.
 */
#include "internal.h"

#include <string.h>

#include <lwip/memp.h>
#include <lwip/nd6.h>
#include <lwip/priv/nd6_priv.h>

#define MOST (LWIP_ND6_NUM_NEIGHBORS / 2)
/* So many frames cannot fill the other half: to each there is one answer, or two. */
#define FRAMES LWIP_MAX(1, LWIP_ND6_NUM_NEIGHBORS / 8)

static bool is_waited_for(const struct nd6_neighbor_cache_entry *entry)
{
	return entry->state == ND6_INCOMPLETE && !entry->isrouter;
}

static void forget(struct nd6_neighbor_cache_entry *entry)
{
	while (entry->q) {
		struct nd6_q_entry *first = entry->q;

		entry->q = first->next;
		pbuf_free(first->p);
		memp_free(MEMP_ND6_QUEUE, first);
	}
	memset(entry, 0, sizeof(*entry));
}

void pl_neighbors_heed(void)
{
	static int frames, at;
	int waited_for = 0;

	if (++frames < FRAMES)
		return;
	frames = 0;
	for (int each = 0; each < LWIP_ND6_NUM_NEIGHBORS; each++)
		waited_for += is_waited_for(&neighbor_cache[each]);
	/* New ones go where others went, so that this comes round to each in turn. */
	while (waited_for > MOST) {
		if (is_waited_for(&neighbor_cache[at])) {
			forget(&neighbor_cache[at]);
			waited_for--;
		}
		at = (at + 1) % LWIP_ND6_NUM_NEIGHBORS;
	}
}
