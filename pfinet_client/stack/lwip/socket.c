/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - Sockets of every kind, and those of datagrams: UDP, and ICMP echo
 *
 * ICMP sockets are as the kernel's ping sockets (icmp(7)): they send echo
 * requests, whose identifier is the socket's port, and receive the replies.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/inet_chksum.h>
#include <lwip/prot/icmp.h>
#include <lwip/prot/icmp6.h>
#include <lwip/tcpip.h>

int pl_errno(err_t error)
{
	switch (error) {
	case ERR_OK: return 0;
	case ERR_MEM: case ERR_BUF: return -ENOBUFS;
	case ERR_TIMEOUT: return -ETIMEDOUT;
	case ERR_RTE: return -ENETUNREACH;
	case ERR_INPROGRESS: return -EINPROGRESS;
	case ERR_WOULDBLOCK: return -EAGAIN;
	case ERR_USE: return -EADDRINUSE;
	case ERR_ALREADY: return -EALREADY;
	case ERR_ISCONN: return -EISCONN;
	case ERR_CONN: return -ENOTCONN;
	case ERR_IF: return -ENETDOWN;
	case ERR_ABRT: return -ECONNABORTED;
	case ERR_RST: case ERR_CLSD: return -ECONNRESET;
	default: return -EINVAL;
	}
}

uint8_t pl_type(const struct pl_socket *s)
{
	if (s->family == 4)
		return IPADDR_TYPE_V4;
	return s->v6only ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY;
}

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

int pl_to_lwip(const struct pl_socket *s, const struct pl_address *from, ip_addr_t *to)
{
	memset(to, 0, sizeof(*to));
	if (from->family != s->family)
		return -EAFNOSUPPORT;
	if (from->family == 4) {
		IP_SET_TYPE_VAL(*to, IPADDR_TYPE_V4);
		memcpy(&ip_2_ip4(to)->addr, from->bytes, 4);
	} else if (!s->v6only && !memcmp(from->bytes, mapped, 12)) {
		IP_SET_TYPE_VAL(*to, IPADDR_TYPE_V4);
		memcpy(&ip_2_ip4(to)->addr, from->bytes + 12, 4);
	} else {
		IP_SET_TYPE_VAL(*to, IPADDR_TYPE_V6);
		memcpy(ip_2_ip6(to)->addr, from->bytes, 16);
		if (pl_interface())
			ip6_addr_assign_zone(ip_2_ip6(to), IP6_UNKNOWN, pl_interface());
	}
	return 0;
}

void pl_from_lwip(const struct pl_socket *s, const ip_addr_t *from, uint16_t port,
		  struct pl_address *to)
{
	memset(to, 0, sizeof(*to));
	to->family = (uint8_t)s->family;
	to->port = port;
	if (s->family == 4) {
		memcpy(to->bytes, &ip_2_ip4(from)->addr, 4);
	} else if (IP_IS_V4_VAL(*from)) {
		memcpy(to->bytes, mapped, 12);
		memcpy(to->bytes + 12, &ip_2_ip4(from)->addr, 4);
	} else {
		memcpy(to->bytes, ip_2_ip6(from)->addr, 16);
	}
}

bool pl_is_own(const ip_addr_t *address)
{
	struct netif *netif = pl_interface();

	if (ip_addr_isany(address))
		return true;
	/* One is all that lwIP takes in of 127.0.0.0/8. */
	if (IP_IS_V4(address) && ip_2_ip4(address)->addr == PP_HTONL(IPADDR_LOOPBACK))
		return true;
	if (!netif)
		return false;
	if (IP_IS_V4(address))
		return ip4_addr_cmp(ip_2_ip4(address), netif_ip4_addr(netif));
	return netif_get_ip6_addr_match(netif, ip_2_ip6(address)) >= 0;
}

const ip_addr_t *pl_source6(const ip_addr_t *to)
{
	struct netif *netif = pl_interface();
	const ip_addr_t *first = NULL;

	if (!netif || !IP_IS_V6(to) || ip_addr_isloopback(to) || ip_addr_ismulticast(to) ||
	    ip6_addr_islinklocal(ip_2_ip6(to)))
		return NULL;
	for (u8_t at = 1; at < LWIP_IPV6_NUM_ADDRESSES - 1; at++) {
		const ip_addr_t *own = netif_ip_addr6(netif, at);

		if (!ip6_addr_ispreferred(netif_ip6_addr_state(netif, at)))
			continue;
		/* Of the prefix of a neighbour rather than another. */
		if (ip6_addr_netcmp_zoneless(ip_2_ip6(own), ip_2_ip6(to)))
			return own;
		if (!first)
			first = own;
	}
	return first;
}

static void queue(struct pl_socket *s, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
	struct datagram *datagram =
		s->n_datagrams < PL_MAX_DATAGRAMS ? malloc(sizeof(*datagram)) : NULL;

	if (!datagram) {
		pbuf_free(p);
		return;
	}
	datagram->next = NULL;
	datagram->p = p;
	datagram->from = *from;
	datagram->port = port;
	*s->last_datagram = datagram;
	s->last_datagram = &datagram->next;
	s->n_datagrams++;
	pl_mark(s);
}

static void on_datagram(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from,
			u16_t port)
{
	(void)pcb;
	queue(arg, p, from, port);
}

static u8_t on_icmp(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
	struct pl_socket *s = arg;
	uint8_t head[6];
	u16_t ip_len = (u16_t)(s->family == 4 ? 4 * (pbuf_get_at(p, 0) & 15) : 40);
	struct pbuf *copy;

	(void)pcb;
	if (pbuf_copy_partial(p, head, sizeof(head), ip_len) != sizeof(head) ||
	    head[0] != (s->family == 4 ? ICMP_ER : ICMP6_TYPE_EREP) ||
	    (head[4] << 8 | head[5]) != s->local.port)
		return 0;
	copy = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
	if (copy) {
		pbuf_remove_header(copy, ip_len);
		queue(s, copy, from, 0);
	}
	return 0;
}

static int open_pcb(struct pl_socket *s)
{
	switch (s->kind) {
	case PL_TCP:
		return pl_tcp_open(s);
	case PL_UDP:
		s->udp = udp_new_ip_type(pl_type(s));
		if (s->udp)
			udp_recv(s->udp, on_datagram, s);
		return s->udp ? 0 : -ENOMEM;
	default:
		s->raw = raw_new_ip_type(s->family == 4 ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6,
					 s->family == 4 ? IP_PROTO_ICMP : IP6_NEXTH_ICMP6);
		if (!s->raw)
			return -ENOMEM;
		raw_recv(s->raw, on_icmp, s);
		s->local.port = (uint16_t)(1 + rand() % 0xfffe);
		if (s->family == 6) {
			s->raw->chksum_reqd = 1;
			s->raw->chksum_offset = 2;
		}
		return 0;
	}
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
	LOCK_TCPIP_CORE();
	if (open_pcb(s) < 0) {
		free(s);
		s = NULL;
	}
	UNLOCK_TCPIP_CORE();
	return s;
}

static void close_pcb(struct pl_socket *s, bool abort)
{
	if (s->kind == PL_TCP)
		pl_tcp_close(s, abort);
	if (s->udp)
		udp_remove(s->udp);
	if (s->raw)
		raw_remove(s->raw);
	s->udp = NULL;
	s->raw = NULL;
}

void pl_close(struct pl_socket *s, bool abort)
{
	LOCK_TCPIP_CORE();
	close_pcb(s, abort);
	while (s->datagrams) {
		struct datagram *next = s->datagrams->next;

		pbuf_free(s->datagrams->p);
		free(s->datagrams);
		s->datagrams = next;
	}
	pl_unmark(s);
	UNLOCK_TCPIP_CORE();
	free(s);
}

static int bind_pcb(struct pl_socket *s, const struct pl_address *to)
{
	ip_addr_t address;
	int result = pl_to_lwip(s, to, &address);

	if (result < 0)
		return result;
	if (!pl_is_own(&address))
		return -EADDRNOTAVAIL;
	/* The address that is none binds both families, where the socket takes both. */
	if (pl_type(s) == IPADDR_TYPE_ANY && ip_addr_isany(&address))
		IP_SET_TYPE_VAL(address, IPADDR_TYPE_ANY);
	if (s->kind == PL_TCP)
		return pl_tcp_bind(s, &address, to->port);
	if (s->kind == PL_UDP)
		return s->udp->local_port ? -EINVAL : pl_errno(udp_bind(s->udp, &address, to->port));
	if (to->port)
		s->local.port = to->port;
	return pl_errno(raw_bind(s->raw, &address));
}

int pl_bind(struct pl_socket *s, const struct pl_address *to)
{
	int result;

	LOCK_TCPIP_CORE();
	result = bind_pcb(s, to);
	UNLOCK_TCPIP_CORE();
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
	if (s->kind == PL_UDP)
		result = pl_errno(udp_connect(s->udp, &address, to->port));
	else
		result = pl_errno(raw_connect(s->raw, &address));
	if (result == 0) {
		s->is_connected = true;
		s->peer = *to;
	}
	return result;
}

int pl_connect(struct pl_socket *s, const struct pl_address *to)
{
	int result;

	LOCK_TCPIP_CORE();
	result = connect_pcb(s, to);
	UNLOCK_TCPIP_CORE();
	return result;
}

static int send_echo(struct pl_socket *s, struct pbuf *p, const ip_addr_t *address)
{
	uint8_t *head = p->payload;
	const ip_addr_t *source = ip_addr_isany(&s->raw->local_ip) ? pl_source6(address) : NULL;

	if (p->len < 8 || head[0] != (s->family == 4 ? ICMP_ECHO : ICMP6_TYPE_EREQ))
		return -EINVAL;
	head[4] = (uint8_t)(s->local.port >> 8);
	head[5] = (uint8_t)s->local.port;
	head[2] = head[3] = 0;
	if (s->family == 4) {
		u16_t sum = inet_chksum(head, p->len);

		memcpy(head + 2, &sum, 2);
	}
	if (source)
		return pl_errno(raw_sendto_if_src(s->raw, p, address, pl_interface(), source));
	return pl_errno(raw_sendto(s->raw, p, address));
}

static int send_udp(struct pl_socket *s, struct pbuf *p, const ip_addr_t *address, u16_t port)
{
	const ip_addr_t *source = NULL;

	if (ip_addr_isany(&s->udp->local_ip))
		source = pl_source6(address);
	else if (ip_addr_isloopback(&s->udp->local_ip))
		/* udp_sendto() lets only the interface's own address be the source. */
		source = &s->udp->local_ip;
	if (pl_interface() && source)
		return pl_errno(udp_sendto_if_src(s->udp, p, address, port, pl_interface(), source));
	return pl_errno(udp_sendto(s->udp, p, address, port));
}

static int send_datagram(struct pl_socket *s, const uint8_t *data, size_t len,
			 const struct pl_address *to)
{
	ip_addr_t address;
	struct pbuf *p;
	int result = 0;

	if (!to && !s->is_connected)
		return -EDESTADDRREQ;
	if (len > 0xffff - 8 - 40)
		return -EMSGSIZE;
	result = pl_to_lwip(s, to ? to : &s->peer, &address);
	if (result < 0)
		return result;
	p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)len, PBUF_RAM);
	if (!p)
		return -ENOBUFS;
	pbuf_take(p, data, (u16_t)len);
	if (s->kind == PL_ICMP)
		result = send_echo(s, p, &address);
	else
		result = send_udp(s, p, &address, to ? to->port : s->peer.port);
	pbuf_free(p);
	return result < 0 ? result : (int)len;
}

int pl_send(struct pl_socket *s, const uint8_t *data, size_t len)
{
	int result;

	LOCK_TCPIP_CORE();
	result = s->kind == PL_TCP ? pl_tcp_send(s, data, len) : send_datagram(s, data, len, NULL);
	UNLOCK_TCPIP_CORE();
	return result;
}

int pl_send_to(struct pl_socket *s, const uint8_t *data, size_t len, const struct pl_address *to)
{
	int result;

	LOCK_TCPIP_CORE();
	if (s->kind == PL_TCP)
		result = pl_tcp_send(s, data, len);
	else
		result = send_datagram(s, data, len, to);
	UNLOCK_TCPIP_CORE();
	return result;
}

static int receive_datagram(struct pl_socket *s, uint8_t *to, size_t room, bool peek,
			    struct pl_address *from, size_t *whole)
{
	struct datagram *datagram = s->datagrams;
	int taken;

	if (!datagram)
		return -EAGAIN;
	taken = pbuf_copy_partial(datagram->p, to, (u16_t)(room > 0xffff ? 0xffff : room), 0);
	*whole = datagram->p->tot_len;
	pl_from_lwip(s, &datagram->from, datagram->port, from);
	if (peek)
		return taken;
	s->datagrams = datagram->next;
	if (!s->datagrams)
		s->last_datagram = &s->datagrams;
	s->n_datagrams--;
	pbuf_free(datagram->p);
	free(datagram);
	return taken;
}

int pl_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek, struct pl_address *from,
	       size_t *whole)
{
	int result;

	LOCK_TCPIP_CORE();
	if (s->kind == PL_TCP) {
		result = pl_tcp_receive(s, to, room, peek);
		*from = s->peer;
		*whole = result > 0 ? (size_t)result : 0;
	} else {
		result = receive_datagram(s, to, room, peek, from, whole);
	}
	UNLOCK_TCPIP_CORE();
	return result;
}

bool pl_can_receive(struct pl_socket *s)
{
	bool result;

	LOCK_TCPIP_CORE();
	result = s->received || s->datagrams || s->waiting || s->has_ended || s->is_receive_shut ||
		 s->error || (s->kind == PL_TCP && !s->tcp);
	UNLOCK_TCPIP_CORE();
	return result;
}

bool pl_can_send(struct pl_socket *s)
{
	bool result;

	LOCK_TCPIP_CORE();
	result = s->kind != PL_TCP || !s->tcp || s->is_send_shut ||
		 (s->is_connected && tcp_sndbuf(s->tcp) > 0);
	UNLOCK_TCPIP_CORE();
	return result;
}

int pl_name(struct pl_socket *s, bool peer, struct pl_address *name)
{
	int result = 0;

	LOCK_TCPIP_CORE();
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
	UNLOCK_TCPIP_CORE();
	return result;
}

static int set_v6only(struct pl_socket *s, bool on)
{
	uint16_t port = s->tcp ? s->tcp->local_port : s->udp ? s->udp->local_port : 0;

	if (s->family != 6)
		return -ENOPROTOOPT;
	if (port || s->is_listening || s->is_connected || s->is_connecting)
		return -EINVAL;
	if (s->v6only == on)
		return 0;
	s->v6only = on;
	close_pcb(s, false);
	return open_pcb(s);
}

static struct ip_pcb *ip_of(struct pl_socket *s)
{
	return s->tcp ? (struct ip_pcb *)s->tcp : s->udp ? (struct ip_pcb *)s->udp
							 : (struct ip_pcb *)s->raw;
}

static uint8_t flag_of(enum pl_option option)
{
	return option == PL_REUSEADDR ? SOF_REUSEADDR
	       : option == PL_KEEPALIVE ? SOF_KEEPALIVE : SOF_BROADCAST;
}

int pl_set(struct pl_socket *s, enum pl_option option, bool on)
{
	int result = 0;
	struct ip_pcb *pcb;

	LOCK_TCPIP_CORE();
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
	} else if (pcb && on) {
		ip_set_option(pcb, flag_of(option));
	} else if (pcb) {
		ip_reset_option(pcb, flag_of(option));
	}
	UNLOCK_TCPIP_CORE();
	return result;
}

int pl_get(struct pl_socket *s, enum pl_option option)
{
	int result = 0;
	struct ip_pcb *pcb;

	LOCK_TCPIP_CORE();
	pcb = ip_of(s);
	if (option == PL_V6ONLY)
		result = s->family == 6 ? s->v6only : -ENOPROTOOPT;
	else if (option == PL_NODELAY)
		result = s->kind != PL_TCP ? -ENOPROTOOPT
					   : s->tcp && !s->is_listening && tcp_nagle_disabled(s->tcp);
	else if (pcb)
		result = ip_get_option(pcb, flag_of(option)) != 0;
	UNLOCK_TCPIP_CORE();
	return result;
}

int pl_take_error(struct pl_socket *s)
{
	int result;

	LOCK_TCPIP_CORE();
	result = s->error;
	s->error = 0;
	UNLOCK_TCPIP_CORE();
	return result;
}
