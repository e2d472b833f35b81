/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - What is the same for sockets of every kind
 *
 * Here the core lock is taken, and what the kinds do differently is left to
 * tcp.c and datagram.c.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static int open_pcb(struct pl_socket *s)
{
	return s->kind == PL_TCP ? pl_tcp_open(s) : pl_datagram_open(s);
}

struct pl_socket *pl_open(enum pl_kind kind, int family, uint64_t id)
{
	struct pl_socket *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->kind = kind;
	s->family = family;
	s->id = id;
	s->local.family = s->peer.family = (uint8_t)family;
	s->last_datagram = &s->datagrams;
	s->last_received = &s->received;
	pl_lock();
	if (open_pcb(s) < 0) {
		free(s);
		s = NULL;
	}
	pl_unlock();
	return s;
}

static void close_pcb(struct pl_socket *s, bool abort)
{
	if (s->kind == PL_TCP)
		pl_tcp_close(s, abort);
	else
		pl_datagram_close(s);
}

void pl_close(struct pl_socket *s, bool abort)
{
	pl_lock();
	close_pcb(s, abort);
	pl_datagram_forget(s);
	pl_unmark(s);
	pl_unlock();
	free(s);
}

static int bind_pcb(struct pl_socket *s, const struct pl_address *to)
{
	ip_addr_t address;
	int result = pl_to_lwip(s, to, &address);

	if (result < 0)
		return result == -ENETUNREACH ? -EINVAL : result;
	if (!pl_is_own(&address))
		return -EADDRNOTAVAIL;
	/* The address that is none binds both families, where the socket takes both. */
	if (pl_type(s) == IPADDR_TYPE_ANY && ip_addr_isany(&address))
		IP_SET_TYPE_VAL(address, IPADDR_TYPE_ANY);
	if (s->kind == PL_TCP)
		return pl_tcp_bind(s, &address, to->port);
	return pl_datagram_bind(s, &address, to->port);
}

int pl_bind(struct pl_socket *s, const struct pl_address *to)
{
	int result;

	pl_lock();
	result = bind_pcb(s, to);
	pl_unlock();
	return result;
}

static int connect_pcb(struct pl_socket *s, const struct pl_address *to)
{
	ip_addr_t address;
	int result = pl_to_lwip(s, to, &address);

	if (result < 0)
		return result;
	/* This very host, as in other stacks. */
	if (ip_addr_isany(&address)) {
		if (IP_IS_V4_VAL(address))
			ip_addr_set_loopback_val(false, address);
		else
			ip_addr_set_loopback_val(true, address);
	}
	if (s->kind == PL_TCP)
		return pl_tcp_connect(s, &address, to->port);
	result = pl_datagram_connect(s, &address, to->port);
	if (result == 0) {
		s->is_connected = true;
		s->peer = *to;
	}
	return result;
}

int pl_connect(struct pl_socket *s, const struct pl_address *to)
{
	int result;

	pl_lock();
	result = connect_pcb(s, to);
	pl_unlock();
	return result;
}

int pl_send(struct pl_socket *s, const uint8_t *data, size_t len)
{
	int result;

	pl_lock();
	result = s->kind == PL_TCP ? pl_tcp_send(s, data, len)
				   : pl_datagram_send(s, data, len, NULL);
	pl_unlock();
	return result;
}

int pl_send_to(struct pl_socket *s, const uint8_t *data, size_t len, const struct pl_address *to)
{
	int result;

	pl_lock();
	if (s->kind == PL_TCP)
		result = pl_tcp_send(s, data, len);
	else
		result = pl_datagram_send(s, data, len, to);
	pl_unlock();
	return result;
}

int pl_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek, struct pl_address *from,
	       size_t *whole)
{
	int result;

	pl_lock();
	if (s->kind == PL_TCP) {
		result = pl_tcp_receive(s, to, room, peek);
		*from = s->peer;
		*whole = result > 0 ? (size_t)result : 0;
	} else {
		result = pl_datagram_receive(s, to, room, peek, from, whole);
	}
	pl_unlock();
	return result;
}

bool pl_can_receive(struct pl_socket *s)
{
	bool result;

	pl_lock();
	result = s->received || s->datagrams || s->waiting || s->has_ended || s->is_receive_shut ||
		 s->error || (s->kind == PL_TCP && !s->tcp);
	pl_unlock();
	return result;
}

bool pl_can_send(struct pl_socket *s)
{
	bool result;

	pl_lock();
	result = s->kind != PL_TCP || !s->tcp || s->is_send_shut ||
		 (s->is_connected && tcp_sndbuf(s->tcp) > 0);
	pl_unlock();
	return result;
}

int pl_name(struct pl_socket *s, bool peer, struct pl_address *name)
{
	int result = 0;

	pl_lock();
	if (peer && (!s->is_connected || (s->kind == PL_TCP && !s->tcp)))
		result = -ENOTCONN;
	else if (peer)
		*name = s->peer;
	else if (s->tcp)
		pl_from_lwip(s, &s->tcp->local_ip, s->tcp->local_port, name);
	else if (s->udp)
		pl_from_lwip(s, &s->udp->local_ip, s->udp->local_port, name);
	else
		*name = s->local;
	pl_unlock();
	return result;
}

static struct ip_pcb *ip_of(struct pl_socket *s)
{
	return s->tcp ? (struct ip_pcb *)s->tcp : s->udp ? (struct ip_pcb *)s->udp
							 : (struct ip_pcb *)s->raw;
}

static int set_v6only(struct pl_socket *s, bool on)
{
	uint16_t port = s->tcp ? s->tcp->local_port : s->udp ? s->udp->local_port : 0;
	struct ip_pcb *pcb = ip_of(s);

	if (s->family != 6)
		return -ENOPROTOOPT;
	if (port || s->is_listening || s->is_connected || s->is_connecting)
		return -EINVAL;
	s->v6only = on;
	/* As lwIP makes one anew, which would have none of the options that were set. */
	if (pcb && s->kind != PL_ICMP) {
		IP_SET_TYPE_VAL(pcb->local_ip, pl_type(s));
		IP_SET_TYPE_VAL(pcb->remote_ip, pl_type(s));
	}
	return 0;
}

static uint8_t flag_of(enum pl_option option)
{
	return option == PL_REUSEADDR ? SOF_REUSEADDR
	       : option == PL_KEEPALIVE ? SOF_KEEPALIVE : SOF_BROADCAST;
}

int pl_set(struct pl_socket *s, enum pl_option option, int value)
{
	bool on = value != 0;
	int result = 0;
	struct ip_pcb *pcb;

	pl_lock();
	pcb = ip_of(s);
	if (option == PL_V6ONLY) {
		result = set_v6only(s, on);
	} else if (option == PL_NODELAY) {
		if (s->kind != PL_TCP)
			result = -ENOPROTOOPT;
		else if (s->tcp && !s->is_listening && on)
			tcp_nagle_disable(s->tcp);
		else if (s->tcp && !s->is_listening)
			tcp_nagle_enable(s->tcp);
	} else if (option >= PL_KEEPIDLE) {
		result = pl_patience_set(s, option, value);
	} else if (pcb && on) {
		ip_set_option(pcb, flag_of(option));
	} else if (pcb) {
		ip_reset_option(pcb, flag_of(option));
	}
	pl_unlock();
	return result;
}

int pl_get(struct pl_socket *s, enum pl_option option)
{
	int result = 0;
	struct ip_pcb *pcb;

	pl_lock();
	pcb = ip_of(s);
	if (option == PL_V6ONLY)
		result = s->family == 6 ? s->v6only : -ENOPROTOOPT;
	else if (option == PL_NODELAY)
		result = s->kind != PL_TCP ? -ENOPROTOOPT
					   : s->tcp && !s->is_listening && tcp_nagle_disabled(s->tcp);
	else if (option >= PL_KEEPIDLE)
		result = pl_patience_get(s, option);
	else if (pcb)
		result = ip_get_option(pcb, flag_of(option)) != 0;
	pl_unlock();
	return result;
}

int pl_take_error(struct pl_socket *s)
{
	int result;

	pl_lock();
	result = s->error;
	s->error = 0;
	pl_unlock();
	return result;
}
