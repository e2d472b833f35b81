/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - What the files of the glue share
 */
#ifndef PFINET_LWIP_INTERNAL_H
#define PFINET_LWIP_INTERNAL_H

#include "glue.h"

#include <stdbool.h>
#include <lwip/netif.h>
#include <lwip/raw.h>
#include <lwip/tcp.h>
#include <lwip/udp.h>

struct datagram {
	struct datagram *next;
	struct pbuf *p;
	ip_addr_t from;
	uint16_t port;
};

/** What tcp(7) calls TCP_KEEPIDLE, _KEEPINTVL, _KEEPCNT and _USER_TIMEOUT */
struct pl_patience {
	int idle, interval, count, user_timeout_ms;
	uint32_t last_acknowledged;
	int silent_ticks;
};

/** A socket; @tcp, @udp or @raw is NULL once lwIP has let go of it. */
struct pl_socket {
	enum pl_kind kind;
	int family;
	uint64_t id;
	struct tcp_pcb *tcp;
	struct udp_pcb *udp;
	struct raw_pcb *raw;
	int error;
	bool v6only, is_listening, is_connecting, is_connected;
	bool has_ended, is_send_shut, is_receive_shut;
	struct pbuf *received, **last_received;
	unsigned int n_received;
	struct datagram *datagrams, **last_datagram;
	unsigned int n_datagrams;
	int backlog;
	struct pl_patience patience;
	struct pl_socket *waiting, *next_waiting;	/* accepted, not taken yet */
	struct pl_address local, peer;	/* of a connection, kept when it is over */
	bool is_marked;
	struct pl_socket *next_marked;
};

/* loop.c or thread.c, as lwIP was built */

/** pl_init() - Start lwIP; return 0 or a negative errno */
int pl_init(void);
/** pl_lock() - Take the core lock, which is held in everything below */
void pl_lock(void);
void pl_unlock(void);

/* glue.c */
void pl_signal(void);
void pl_mark(struct pl_socket *s);
void pl_unmark(struct pl_socket *s);
/** pl_interface() - Return the interface, NULL if there is none */
struct netif *pl_interface(void);

/* slots.c */
/** pl_slots_begin() - Give the interface the addresses that each has */
void pl_slots_begin(struct netif *netif);
/**
 * pl_slots_face() - Have no ::1 while what comes from outside is answered
 *
 * lwIP takes it for the address of the widest scope, and would answer from there
 * whomever it has no address of the same scope for.
 */
void pl_slots_face(struct netif *netif, bool outside);
/** pl_slots_own() - Whether one may send from an address: it is ours, and nobody else's */
bool pl_slots_own(struct netif *netif, const ip6_addr_t *address);

/* router.c */
/** pl_router_forget() - Have no router but advertised ones, as the interface goes */
void pl_router_forget(void);

/* sieve.c */
/** pl_may_see() - Whether lwIP may see a frame, of 14 bytes at least */
bool pl_may_see(const uint8_t *frame, size_t len);
/** pl_may_send() - Whether a frame is from an address that is ours */
bool pl_may_send(struct netif *netif, const uint8_t *frame, size_t len);

/* path.c */
/** pl_path_heed() - Let no path have an MTU that it cannot have */
void pl_path_heed(void);

/* crowd.c */
/** pl_crowd_heed() - Keep no more connections of peers' making than there is time for, after a frame */
void pl_crowd_heed(void);

/* neighbors.c */
/** pl_neighbors_heed() - Wait for no more neighbours than there is room for, after an IPv6 frame */
void pl_neighbors_heed(void);

/* address.c */
/** pl_errno() - Return the negative errno of what lwIP returned */
int pl_errno(err_t error);
/** pl_to_lwip() - Return an address as lwIP's, of the type that @s may have; or a negative errno */
int pl_to_lwip(const struct pl_socket *s, const struct pl_address *from, ip_addr_t *to);
/** pl_from_lwip() - Return an address of lwIP's as one for @s */
void pl_from_lwip(const struct pl_socket *s, const ip_addr_t *from, uint16_t port,
		  struct pl_address *to);
/** pl_is_own() - Whether one may bind to an address: it is ours, or none in particular */
bool pl_is_own(const ip_addr_t *address);
/**
 * pl_source6() - Return the address to send from to an IPv6 one, NULL if lwIP may choose
 *
 * lwIP chooses by scope, in which it takes ::1 for wider than a unique local
 * address (RFC 4193), and the daemon would drop what comes from there.
 */
const ip_addr_t *pl_source6(const ip_addr_t *to);
/** pl_type() - Return which addresses @s takes: IPADDR_TYPE_V4, _V6 or _ANY */
uint8_t pl_type(const struct pl_socket *s);

/* port.c */
/** pl_port_tcp() - Bind to a port, by chance if it is 0; return 0 or a negative errno */
int pl_port_tcp(struct tcp_pcb *pcb, const ip_addr_t *address, uint16_t port);
int pl_port_udp(struct udp_pcb *pcb, const ip_addr_t *address, uint16_t port);

/* tcp.c */
int pl_tcp_open(struct pl_socket *s);
void pl_tcp_close(struct pl_socket *s, bool abort);
int pl_tcp_bind(struct pl_socket *s, const ip_addr_t *address, uint16_t port);
int pl_tcp_connect(struct pl_socket *s, const ip_addr_t *address, uint16_t port);
int pl_tcp_send(struct pl_socket *s, const uint8_t *data, size_t len);
int pl_tcp_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek);

/* patience.c */
/** pl_patience_apply() - Let lwIP's pcb, where there is one, be as patient as the socket */
void pl_patience_apply(struct pl_socket *s);
int pl_patience_set(struct pl_socket *s, enum pl_option option, int value);
int pl_patience_get(struct pl_socket *s, enum pl_option option);

/* datagram.c */
int pl_datagram_open(struct pl_socket *s);
void pl_datagram_close(struct pl_socket *s);
/** pl_datagram_forget() - Drop what was received and not read */
void pl_datagram_forget(struct pl_socket *s);
int pl_datagram_bind(struct pl_socket *s, const ip_addr_t *address, uint16_t port);
int pl_datagram_connect(struct pl_socket *s, const ip_addr_t *address, uint16_t port);
/** pl_datagram_send() - Send to @to, or NULL: to whom it is connected */
int pl_datagram_send(struct pl_socket *s, const uint8_t *data, size_t len,
		     const struct pl_address *to);
int pl_datagram_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek,
			struct pl_address *from, size_t *whole);

#endif
