/* SPDX-License-Identifier: Apache-2.0 */
/*
 * datagram.c - Sockets of datagrams: UDP, and ICMP echo
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

int pl_datagram_open(struct pl_socket *s)
{
	if (s->kind == PL_UDP) {
		s->udp = udp_new_ip_type(pl_type(s));
		if (!s->udp)
			return -ENOMEM;
		udp_recv(s->udp, on_datagram, s);
		return 0;
	}
	s->raw = raw_new_ip_type(s->family == 4 ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6,
				 s->family == 4 ? IP_PROTO_ICMP : IP6_NEXTH_ICMP6);
	if (!s->raw)
		return -ENOMEM;
	raw_recv(s->raw, on_icmp, s);
	s->local.port = (uint16_t)(1 + LWIP_RAND() % 0xfffe);
	if (s->family == 6) {
		s->raw->chksum_reqd = 1;
		s->raw->chksum_offset = 2;
	}
	return 0;
}

void pl_datagram_close(struct pl_socket *s)
{
	if (s->udp)
		udp_remove(s->udp);
	if (s->raw)
		raw_remove(s->raw);
	s->udp = NULL;
	s->raw = NULL;
}

void pl_datagram_forget(struct pl_socket *s)
{
	while (s->datagrams) {
		struct datagram *next = s->datagrams->next;

		pbuf_free(s->datagrams->p);
		free(s->datagrams);
		s->datagrams = next;
	}
}

int pl_datagram_bind(struct pl_socket *s, const ip_addr_t *address, uint16_t port)
{
	if (s->kind == PL_UDP)
		return s->udp->local_port ? -EINVAL : pl_port_udp(s->udp, address, port);
	if (port)
		s->local.port = port;
	return pl_errno(raw_bind(s->raw, address));
}

static int have_port(struct udp_pcb *pcb)
{
	return pcb->local_port ? 0 : pl_port_udp(pcb, &pcb->local_ip, 0);
}

int pl_datagram_connect(struct pl_socket *s, const ip_addr_t *address, uint16_t port)
{
	if (s->kind == PL_UDP) {
		int result = have_port(s->udp);

		return result < 0 ? result : pl_errno(udp_connect(s->udp, address, port));
	}
	return pl_errno(raw_connect(s->raw, address));
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
	int result = have_port(s->udp);

	if (result < 0)
		return result;
	if (ip_addr_isany(&s->udp->local_ip))
		source = pl_source6(address);
	else if (ip_addr_isloopback(&s->udp->local_ip))
		/* udp_sendto() lets only the interface's own address be the source. */
		source = &s->udp->local_ip;
	if (pl_interface() && source)
		return pl_errno(udp_sendto_if_src(s->udp, p, address, port, pl_interface(), source));
	return pl_errno(udp_sendto(s->udp, p, address, port));
}

int pl_datagram_send(struct pl_socket *s, const uint8_t *data, size_t len,
		     const struct pl_address *to)
{
	ip_addr_t address;
	struct pbuf *p;
	int result = 0;

	if (!to && !s->is_connected)
		return -EDESTADDRREQ;
	result = pl_to_lwip(s, to ? to : &s->peer, &address);
	if (result < 0)
		return result;
	/* What lwIP counts with the headers of UDP and IP in 16 bits. */
	if (len > 0xffff - 8 - (IP_IS_V4_VAL(address) ? 20 : 40))
		return -EMSGSIZE;
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

int pl_datagram_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek,
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
