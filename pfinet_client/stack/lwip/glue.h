/* SPDX-License-Identifier: Apache-2.0 */
/*
 * glue.h - lwIP for one event loop: sockets that never block, frames in and out
 *
 * lwIP's raw API calls back from whichever thread has a frame or a timer: the
 * caller of pl_input(), and of pl_work() or lwIP's own thread.  Here every callback only changes
 * the state of a socket, marks it, and signals one eventfd; the loop then asks
 * which sockets changed, and tries again what could not be done before.  All
 * functions take lwIP's core lock, so none may be called from a callback.
 *
 * What waits is bounded: frames by PL_MAX_FRAMES, datagrams by PL_MAX_DATAGRAMS
 * of each socket, received bytes by the window that is opened only as they are
 * read, in at most PL_MAX_RECEIVED segments, connections by the backlog, and before they
 * are in it by crowd.c.
 *
 * Functions return 0 or a number of bytes, or a negative errno: EAGAIN where a
 * later try may succeed, once the socket was marked.
 *
 * There are two builds.  With lwIP's source, what differs is in port/ and loop.c,
 * and what is built is under the licences of both, Apache 2.0 and BSD.  With Debian's
 * liblwip-dev it is in thread.c; its lwipopts.h is under the GPL (version 2 or later),
 * so what is built is under the GPL, version 3.
 */
#ifndef PFINET_LWIP_GLUE_H
#define PFINET_LWIP_GLUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_MAX_FRAMES 4096
#define PL_MAX_DATAGRAMS 256
#define PL_MAX_RECEIVED 4096
#define PL_MAX_BACKLOG 4096
#define PL_MAX_FRAME_BYTES 9014
#define PL_MAX_IPV6 4

/** An address: @bytes has 4 or 16 of them, as @family is 4 or 6. */
struct pl_address {
	uint8_t family;
	uint8_t bytes[16];
	uint16_t port;
};

enum pl_kind { PL_TCP, PL_UDP, PL_ICMP };
enum pl_option {
	PL_REUSEADDR, PL_KEEPALIVE, PL_NODELAY, PL_V6ONLY, PL_BROADCAST,
	PL_KEEPIDLE, PL_KEEPINTVL, PL_KEEPCNT, PL_USER_TIMEOUT
};

struct pl_socket;

/** pl_start() - Start lwIP, once in a process; return the eventfd */
int pl_start(void);

/** pl_up() - Give it its interface; EBUSY if it has one */
int pl_up(const uint8_t mac[6], uint16_t mtu);
/** pl_down() - Take the interface away */
void pl_down(void);
void pl_set_mtu(uint16_t mtu);
/** pl_set_ipv4() - Let this be the IPv4 address; all zero is none */
int pl_set_ipv4(const uint8_t address[4], const uint8_t mask[4], const uint8_t gateway[4]);
/** pl_set_ipv6() - Let these, @n of 16 bytes, at most PL_MAX_IPV6, be the addresses beside the link-local one */
int pl_set_ipv6(const uint8_t *addresses, size_t n, bool autoconf);
/** pl_set_router6() - Let this, of 16 bytes, be the IPv6 router beside advertised ones; NULL is none */
int pl_set_router6(const uint8_t *address);

/**
 * pl_attend() - Say that the calling thread asks by itself, after all that it does here,
 * for what changed: the eventfd is for what happens in others
 */
void pl_attend(void);
/** pl_wake() - Signal the eventfd, whichever thread this is */
void pl_wake(void);

/** pl_input() - Take in @n frames of the vif, one behind the other; one that is no use is dropped */
void pl_input(const uint8_t *from, const uint32_t *lens, int n);
/** pl_output() - Take frames out: return how many, with @lens, into @to one behind the other */
int pl_output(uint8_t *to, size_t room, uint32_t *lens, int n);
/** pl_clock() - Return what can be read when it is time for pl_work(); -1 if that is never */
int pl_clock(void);
/** pl_work() - Do what is due by now */
void pl_work(void);
/** pl_changed() - Tell the ids of sockets that were marked; return how many */
int pl_changed(uint64_t *ids, int n);

/** pl_open() - Return a new socket, known by @id; NULL if there is no memory */
struct pl_socket *pl_open(enum pl_kind kind, int family, uint64_t id);
/** pl_close() - Let it go: what TCP has to send is sent, or with @abort a reset */
void pl_close(struct pl_socket *s, bool abort);
int pl_bind(struct pl_socket *s, const struct pl_address *to);
int pl_listen(struct pl_socket *s, int backlog);
/** pl_accept() - Return a connection of @peer, known by @id from now on; NULL if there is none yet */
struct pl_socket *pl_accept(struct pl_socket *s, uint64_t id, struct pl_address *peer);
/** pl_connect() - Begin to connect; EINPROGRESS until pl_connected() tells */
int pl_connect(struct pl_socket *s, const struct pl_address *to);
int pl_connected(struct pl_socket *s);
int pl_send(struct pl_socket *s, const uint8_t *data, size_t len);
int pl_send_to(struct pl_socket *s, const uint8_t *data, size_t len, const struct pl_address *to);
/** pl_receive() - Return the bytes taken, 0 at the end; of a datagram also @from and its length */
int pl_receive(struct pl_socket *s, uint8_t *to, size_t room, bool peek, struct pl_address *from,
	       size_t *whole);
bool pl_can_receive(struct pl_socket *s);
bool pl_can_send(struct pl_socket *s);
/** pl_shut() - Send no more, or receive no more */
int pl_shut(struct pl_socket *s, bool receive, bool send);
int pl_name(struct pl_socket *s, bool peer, struct pl_address *name);
int pl_set(struct pl_socket *s, enum pl_option option, int value);
int pl_get(struct pl_socket *s, enum pl_option option);
/** pl_take_error() - Return the errno of what happened to it, and forget it (SO_ERROR) */
int pl_take_error(struct pl_socket *s);

#endif
