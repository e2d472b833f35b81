/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.c - A TCP socket over lwIP's raw API
 *
 * lwIP frees a pcb before it reports an error, and after tcp_close(); from then
 * on the socket stands without.  A socket that is closed lets its pcb go on by
 * itself until everything is sent.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * What was received is a list of single pbufs: a chain that is one of lwIP's has a
 * length of 16 bits, less than a window.
 */
static void keep(struct pl_socket *s, struct pbuf *p)
{
	while (p) {
		struct pbuf *rest = p->next;

		p->next = NULL;
		p->tot_len = p->len;
		*s->last_received = p;
		s->last_received = &p->next;
		s->n_received++;
		p = rest;
	}
}

static void drop_first(struct pl_socket *s)
{
	struct pbuf *p = s->received;

	s->received = p->next;
	if (!s->received)
		s->last_received = &s->received;
	s->n_received--;
	p->next = NULL;
	pbuf_free(p);
}

static size_t copy_out(struct pl_socket *s, uint8_t *to, size_t room)
{
	size_t taken = 0;

	for (struct pbuf *p = s->received; p && taken < room; p = p->next) {
		size_t part = p->len < room - taken ? p->len : room - taken;

		memcpy(to + taken, p->payload, part);
		taken += part;
	}
	return taken;
}

static void drop(struct pl_socket *s, size_t taken)
{
	while (taken && s->received->len <= taken) {
		taken -= s->received->len;
		drop_first(s);
	}
	if (taken)
		pbuf_remove_header(s->received, taken);
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
	struct pl_socket *s = arg;

	(void)error;
	if (!p) {
		s->has_ended = true;
	} else if (s->is_receive_shut) {
		tcp_recved(pcb, p->tot_len);
		pbuf_free(p);
		return ERR_OK;
	} else if (s->n_received >= PL_MAX_RECEIVED) {
		/* lwIP keeps it, and comes again. */
		return ERR_MEM;
	} else {
		keep(s, p);
	}
	pl_mark(s);
	return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	(void)len;
	/*
	 * Waking up costs more than a window that is half empty for a while.  Of more
	 * than 64 KiB tcp_sndbuf() would not tell.
	 */
	if (pcb->snd_buf >= TCP_SND_BUF / 2)
		pl_mark(arg);
	return ERR_OK;
}

static void on_error(void *arg, err_t error)
{
	struct pl_socket *s = arg;

	s->tcp = NULL;
	s->error = -pl_errno(error);
	if (s->is_connecting && error == ERR_RST)
		s->error = ECONNREFUSED;
	else if (error == ERR_ABRT)
		/* Not by us, who let go first: its patience has come to an end. */
		s->error = ETIMEDOUT;
	else if (s->has_ended && error == ERR_RST)
		s->error = EPIPE;
	s->is_connecting = false;
	pl_mark(s);
}

static void note_names(struct pl_socket *s)
{
	pl_from_lwip(s, &s->tcp->local_ip, s->tcp->local_port, &s->local);
	pl_from_lwip(s, &s->tcp->remote_ip, s->tcp->remote_port, &s->peer);
}

static void take_over(struct pl_socket *s, struct tcp_pcb *pcb)
{
	s->tcp = pcb;
	tcp_arg(pcb, s);
	tcp_err(pcb, on_error);
	tcp_recv(pcb, on_received);
	tcp_sent(pcb, on_sent);
	pl_patience_apply(s);
}

static void let_go(struct tcp_pcb *pcb)
{
	tcp_arg(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
}

int pl_tcp_open(struct pl_socket *s)
{
	struct tcp_pcb *pcb = tcp_new_ip_type(pl_type(s));

	if (!pcb)
		return -ENOMEM;
	take_over(s, pcb);
	return 0;
}

void pl_tcp_close(struct pl_socket *s, bool abort)
{
	while (s->waiting) {
		struct pl_socket *next = s->waiting->next_waiting;

		pl_tcp_close(s->waiting, true);
		pl_unmark(s->waiting);
		free(s->waiting);
		s->waiting = next;
	}
	if (s->tcp && s->is_listening) {
		tcp_arg(s->tcp, NULL);
		tcp_accept(s->tcp, NULL);
		tcp_close(s->tcp);
	} else if (s->tcp) {
		let_go(s->tcp);
		/* What was received and not read makes it a reset, as in other stacks. */
		if (abort || tcp_close(s->tcp) != ERR_OK)
			tcp_abort(s->tcp);
	}
	s->tcp = NULL;
	while (s->received)
		drop_first(s);
}

int pl_tcp_bind(struct pl_socket *s, const ip_addr_t *address, uint16_t port)
{
	if (!s->tcp || s->tcp->local_port)
		return -EINVAL;
	return pl_port_tcp(s->tcp, address, port);
}

static err_t on_accepted(void *arg, struct tcp_pcb *pcb, err_t error)
{
	struct pl_socket *s = arg, *child, **at;
	int before = 0;

	if (error != ERR_OK || !pcb || !s)
		return ERR_VAL;
	for (at = &s->waiting; *at; at = &(*at)->next_waiting)
		before++;
	child = before < s->backlog ? calloc(1, sizeof(*child)) : NULL;
	if (!child) {
		tcp_abort(pcb);
		return ERR_ABRT;
	}
	child->kind = PL_TCP;
	child->family = s->family;
	child->last_datagram = &child->datagrams;
	child->last_received = &child->received;
	child->is_connected = true;
	child->patience = s->patience;
	take_over(child, pcb);
	note_names(child);
	*at = child;
	pl_mark(s);
	return ERR_OK;
}

int pl_listen(struct pl_socket *s, int backlog)
{
	struct tcp_pcb *pcb;
	int result = 0;
	err_t error = ERR_OK;

	if (s->kind != PL_TCP)
		return -EOPNOTSUPP;
	pl_lock();
	if (s->is_listening) {
		result = 0;
	} else if (!s->tcp || s->is_connected || s->is_connecting) {
		result = -EINVAL;
	} else {
		if (!s->tcp->local_port)
			result = pl_port_tcp(s->tcp, &s->tcp->local_ip, 0);
		backlog = backlog < 1 ? 1 : backlog > PL_MAX_BACKLOG ? PL_MAX_BACKLOG : backlog;
		tcp_recv(s->tcp, NULL);
		tcp_sent(s->tcp, NULL);
		tcp_err(s->tcp, NULL);
		pcb = result == 0 ? tcp_listen_with_backlog_and_err(s->tcp, 255, &error) : NULL;
		if (!pcb) {
			take_over(s, s->tcp);
			result = result ? result : pl_errno(error);
		} else {
			s->tcp = pcb;
			s->is_listening = true;
			s->backlog = backlog;
			tcp_arg(pcb, s);
			tcp_accept(pcb, on_accepted);
		}
	}
	pl_unlock();
	return result;
}

struct pl_socket *pl_accept(struct pl_socket *s, uint64_t id, struct pl_address *peer)
{
	struct pl_socket *child;

	pl_lock();
	child = s->waiting;
	if (child) {
		s->waiting = child->next_waiting;
		child->next_waiting = NULL;
		child->id = id;
		*peer = child->peer;
		pl_unmark(child);
	}
	pl_unlock();
	return child;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t error)
{
	struct pl_socket *s = arg;

	(void)pcb;
	(void)error;
	s->is_connecting = false;
	s->is_connected = true;
	note_names(s);
	pl_mark(s);
	return ERR_OK;
}

int pl_tcp_connect(struct pl_socket *s, const ip_addr_t *address, uint16_t port)
{
	int result;

	if (s->is_connecting)
		return -EALREADY;
	if (s->is_connected || s->is_listening)
		return -EISCONN;
	if (!s->tcp)
		return -EINVAL;
	if (ip_addr_isany(&s->tcp->local_ip) && pl_source6(address))
		ip_addr_copy(s->tcp->local_ip, *pl_source6(address));
	result = s->tcp->local_port ? 0 : pl_port_tcp(s->tcp, &s->tcp->local_ip, 0);
	if (result < 0)
		return result;
	result = pl_errno(tcp_connect(s->tcp, address, port, on_connected));
	if (result < 0)
		return result;
	s->is_connecting = true;
	note_names(s);
	return -EINPROGRESS;
}

int pl_connected(struct pl_socket *s)
{
	int result;

	pl_lock();
	result = s->is_connecting ? -EINPROGRESS : s->is_connected ? 0 : -s->error;
	/* Somebody else has been told why. */
	if (!s->is_connecting && !s->is_connected && !s->error)
		result = -ECONNABORTED;
	if (!s->is_connecting && !s->is_connected)
		s->error = 0;
	pl_unlock();
	return result;
}

int pl_tcp_send(struct pl_socket *s, const uint8_t *data, size_t len)
{
	err_t error;

	if (s->is_send_shut)
		return -EPIPE;
	if (!s->tcp) {
		int number = s->error ? s->error : EPIPE;

		s->error = 0;
		return -number;
	}
	if (!s->is_connected)
		return s->is_connecting ? -EAGAIN : -ENOTCONN;
	if (!len)
		return 0;
	if (len > tcp_sndbuf(s->tcp))
		len = tcp_sndbuf(s->tcp);
	if (len > 0xffff)
		len = 0xffff;
	if (!len)
		return -EAGAIN;
	error = tcp_write(s->tcp, data, (u16_t)len, TCP_WRITE_FLAG_COPY);
	if (error == ERR_MEM)
		return -EAGAIN;
	if (error != ERR_OK)
		return pl_errno(error);
	tcp_output(s->tcp);
	return (int)len;
}

int pl_tcp_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek)
{
	size_t taken;

	if (s->is_listening || (!s->is_connected && !s->is_connecting && !s->error))
		return -ENOTCONN;
	if (s->received) {
		taken = copy_out(s, to, room > 0xffff ? 0xffff : room);
		if (peek)
			return (int)taken;
		drop(s, taken);
		if (s->tcp)
			tcp_recved(s->tcp, (u16_t)taken);
		return (int)taken;
	}
	if (s->error) {
		int number = s->error;

		s->error = 0;
		return -number;
	}
	if (s->has_ended || s->is_receive_shut || !s->tcp)
		return 0;
	return -EAGAIN;
}

int pl_shut(struct pl_socket *s, bool receive, bool send)
{
	int result = 0;

	pl_lock();
	if (s->kind != PL_TCP || !s->is_connected) {
		result = -ENOTCONN;
	} else {
		s->is_receive_shut |= receive;
		if (send && !s->is_send_shut && s->tcp) {
			/* Receiving goes on in lwIP, or it would reset what comes. */
			err_t error = tcp_shutdown(s->tcp, 0, 1);

			s->is_send_shut = error == ERR_OK || error == ERR_CONN;
			result = s->is_send_shut ? 0 : pl_errno(error);
		}
		s->is_send_shut |= send;
		pl_mark(s);
	}
	pl_unlock();
	return result;
}
