/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patience.c - How long a TCP socket waits for a peer that is silent
 *
 * lwIP keeps alive as tcp(7) says.  What is sent and not acknowledged it tries for
 * minutes, and knows no TCP_USER_TIMEOUT: that is counted here, in the ticks of
 * lwIP's slow timer without an acknowledgement.  Who is accepted is as patient as
 * the listener.
 */
#include "internal.h"

#include <errno.h>

#include <lwip/priv/tcp_priv.h>

/* tcp(7): in seconds, but for the last, which is none. */
static const struct pl_patience usual = {.idle = 7200, .interval = 75, .count = 9};

/* Linux's bounds of what may be set. */
#define MAX_SECONDS 32767
#define MAX_COUNT 127

static err_t on_tick(void *arg, struct tcp_pcb *pcb)
{
	struct pl_socket *s = arg;
	struct pl_patience *patience = &s->patience;

	if (pcb->lastack != patience->last_acknowledged || (!pcb->unacked && !pcb->unsent)) {
		patience->last_acknowledged = pcb->lastack;
		patience->silent_ticks = 0;
		return ERR_OK;
	}
	patience->silent_ticks++;
	if (patience->silent_ticks < patience->user_timeout_ms / TCP_SLOW_INTERVAL)
		return ERR_OK;
	/* Which is reported as an error of the connection. */
	tcp_abort(pcb);
	return ERR_ABRT;
}

void pl_patience_apply(struct pl_socket *s)
{
	struct tcp_pcb *pcb = s->tcp;

	if (!s->patience.idle)
		s->patience = usual;
	/* A listener's has no room for it. */
	if (!pcb || s->is_listening)
		return;
	pcb->keep_idle = 1000 * (u32_t)s->patience.idle;
	pcb->keep_intvl = 1000 * (u32_t)s->patience.interval;
	pcb->keep_cnt = (u32_t)s->patience.count;
	s->patience.silent_ticks = 0;
	tcp_poll(pcb, s->patience.user_timeout_ms ? on_tick : NULL, 1);
}

static int *option_of(struct pl_socket *s, enum pl_option option)
{
	switch (option) {
	case PL_KEEPIDLE: return &s->patience.idle;
	case PL_KEEPINTVL: return &s->patience.interval;
	case PL_KEEPCNT: return &s->patience.count;
	case PL_USER_TIMEOUT: return &s->patience.user_timeout_ms;
	default: return NULL;
	}
}

int pl_patience_set(struct pl_socket *s, enum pl_option option, int value)
{
	int most = option == PL_KEEPCNT ? MAX_COUNT : MAX_SECONDS;

	if (s->kind != PL_TCP)
		return -ENOPROTOOPT;
	if (option == PL_USER_TIMEOUT ? value < 0 : value < 1 || value > most)
		return -EINVAL;
	*option_of(s, option) = value;
	pl_patience_apply(s);
	return 0;
}

int pl_patience_get(struct pl_socket *s, enum pl_option option)
{
	return s->kind == PL_TCP ? *option_of(s, option) : -ENOPROTOOPT;
}
