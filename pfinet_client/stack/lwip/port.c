/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port.c - Ports that nobody has named, drawn by chance (RFC 6056, section 3.3.1)
 *
 * lwIP draws the first one and then takes the next, so who sees one knows the others: of
 * the question to a name server, above all, whose answer could then be forged.
 */
#include "internal.h"

#include <sys/random.h>

/* RFC 6335, section 6; lwIP's own are the same. */
#define FIRST 0xc000
#define PORTS 0x4000
/* Where that many are taken lwIP looks for the next free one. */
#define TRIES 16

static uint16_t draw(void)
{
	uint16_t number;

	/* Debian's LWIP_RAND() is rand(): who sees a few of its numbers can tell the next. */
	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t)sizeof(number))
		number = (uint16_t)LWIP_RAND();
	return (uint16_t)(FIRST + number % PORTS);
}

int pl_port_tcp(struct tcp_pcb *pcb, const ip_addr_t *address, uint16_t port)
{
	u8_t options = pcb->so_options;
	err_t error = ERR_USE;

	/* A port that is drawn is nobody else's, even if both would share one. */
	ip_reset_option(pcb, SOF_REUSEADDR);
	for (int n = 0; !port && error == ERR_USE && n < TRIES; n++)
		error = tcp_bind(pcb, address, draw());
	pcb->so_options = options;
	return pl_errno(error == ERR_USE ? tcp_bind(pcb, address, port) : error);
}

int pl_port_udp(struct udp_pcb *pcb, const ip_addr_t *address, uint16_t port)
{
	u8_t options = pcb->so_options;
	err_t error = ERR_USE;

	ip_reset_option(pcb, SOF_REUSEADDR);
	for (int n = 0; !port && error == ERR_USE && n < TRIES; n++)
		error = udp_bind(pcb, address, draw());
	pcb->so_options = options;
	return pl_errno(error == ERR_USE ? udp_bind(pcb, address, port) : error);
}
