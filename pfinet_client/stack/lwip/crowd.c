/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd.c - Connections that peers begin or leave, as many as they like
 *
 * lwIP keeps whoever has begun to connect for 20 seconds, and whom we were the first to
 * leave for two minutes, in lists that it walks through for each segment.  Both can be
 * made long by others, so that there is an end to each: of more than that those go of
 * which nothing was heard for longest, which lwIP has last in its lists.  A peer that is
 * there has answered long before.  Linux bounds both likewise (tcp_max_syn_backlog and
 * tcp_max_tw_buckets in tcp(7)).
 */
#include "internal.h"

#include <lwip/priv/tcp_priv.h>

#define MOST_BEGUN 1024
#define MOST_LEFT 4096
/* To look at each is worth it for many frames only; so many more than the most there may be. */
#define FRAMES 256

static void thin(struct tcp_pcb *first, enum tcp_state state, int most)
{
	struct tcp_pcb *next;
	int found = 0;

	for (struct tcp_pcb *pcb = first; pcb; pcb = next) {
		next = pcb->next;
		if (pcb->state == state && ++found > most)
			/* Without a reset: who forged the others' addresses shall not have them told. */
			tcp_abandon(pcb, 0);
	}
}

void pl_crowd_heed(void)
{
	static int frames;

	if (++frames < FRAMES)
		return;
	frames = 0;
	thin(tcp_active_pcbs, SYN_RCVD, MOST_BEGUN);
	thin(tcp_tw_pcbs, TIME_WAIT, MOST_LEFT);
}
