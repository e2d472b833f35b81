/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account.h - What the clients of one owner make the engine keep in memory
 *
 * A client that does not read makes its queue grow.  One queue is bounded by
 * itself, but one owner may have many.  So whatever memory a port takes beyond
 * what it needs at rest is charged to an account, which all ports of one owner
 * share, and an account that is full gets no more.
 *
 * What is charged is what was touched: pages that were written once stay with us
 * until they are given back, which is done when a queue has been empty for a
 * while (dp_transport.relax), not for each frame.
 */
#ifndef DP_IO_ACCOUNT_H
#define DP_IO_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_loop;
struct dp_io_port;

struct dp_account {
	uint32_t number;  /* whatever the owner is known by */
	uint32_t n_ports; /* 0: this account is free */
	size_t held;      /* bytes charged, by all its ports */
	size_t most;
};

/**
 * dp_account_open() - Let a port be charged to an account from here on
 * @port:	Attached, and charged to none yet; a port without an account has no bound
 * @number:	Of the account; the ports that name the same share it
 * @most:	Bytes for all of them together; the last that is said counts
 *
 * What the port has reserved is charged.
 *
 * Return: 0, or -ENOBUFS where the account has not that much
 */
int dp_account_open(struct dp_loop *loop, struct dp_io_port *port, uint32_t number, size_t most);

/** dp_account_close() - Give back all that a port holds, and take it off its account */
void dp_account_close(struct dp_loop *loop, struct dp_io_port *port);

/**
 * dp_account_charge() - Take @bytes more for a port
 * Return: whether its account has them
 */
bool dp_account_charge(struct dp_loop *loop, struct dp_io_port *port, size_t bytes);

/** dp_account_room() - How many bytes a port could be charged */
size_t dp_account_room(const struct dp_io_port *port);

/** dp_account_hold() - Let @bytes of what a port has reserved be held, to be given back */
void dp_account_hold(struct dp_loop *loop, struct dp_io_port *port, size_t bytes);

/** dp_account_unhold() - Let all that a port holds be reserved again: it was given back */
void dp_account_unhold(struct dp_loop *loop, struct dp_io_port *port);

/** dp_account_credit() - Give back all that a port was charged */
void dp_account_credit(struct dp_loop *loop, struct dp_io_port *port);

#endif
