/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "loop.h"

/* There are as many accounts as ports, so one is free where a port has none. */
static struct dp_account *find(struct dp_loop *loop, uint32_t number)
{
	struct dp_account *free = NULL;

	for (size_t i = 0; i < DP_MAX_PORTS; i++) {
		struct dp_account *account = &loop->accounts[i];

		if (account->n_ports && account->number == number)
			return account;
		if (!account->n_ports && !free)
			free = account;
	}
	return free;
}

int dp_account_open(struct dp_loop *loop, struct dp_io_port *port, uint32_t number, size_t most)
{
	struct dp_account *account = find(loop, number);

	if (port->reserved > (account->held < most ? most - account->held : 0))
		return -ENOBUFS;
	account->held += port->reserved;
	account->number = number;
	account->n_ports++;
	account->most = most;
	port->account = account;
	return 0;
}

void dp_account_close(struct dp_loop *loop, struct dp_io_port *port)
{
	dp_account_credit(loop, port);
	if (port->account) {
		port->account->held -= port->reserved;
		port->account->n_ports--;
	}
	port->account = NULL;
	port->reserved = 0;
}

size_t dp_account_room(const struct dp_io_port *port)
{
	const struct dp_account *account = port->account;

	if (!account)
		return SIZE_MAX;
	return account->held < account->most ? account->most - account->held : 0;
}

bool dp_account_charge(struct dp_loop *loop, struct dp_io_port *port, size_t bytes)
{
	if (dp_account_room(port) < bytes)
		return false;
	if (!port->held)
		loop->n_holding++;
	port->held += bytes;
	if (port->account)
		port->account->held += bytes;
	return true;
}

void dp_account_hold(struct dp_loop *loop, struct dp_io_port *port, size_t bytes)
{
	if (!port->held)
		loop->n_holding++;
	port->held += bytes;
	port->reserved -= bytes;
}

void dp_account_unhold(struct dp_loop *loop, struct dp_io_port *port)
{
	if (port->held)
		loop->n_holding--;
	port->reserved += port->held;
	port->held = 0;
}

void dp_account_credit(struct dp_loop *loop, struct dp_io_port *port)
{
	if (port->account)
		port->account->held -= port->held;
	if (port->held)
		loop->n_holding--;
	port->held = 0;
}
