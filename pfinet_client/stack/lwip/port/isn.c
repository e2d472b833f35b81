/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isn.c - What others must not guess: sequence numbers, and numbers by chance
 */
#include "isn.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "siphash.h"

/* The clock of RFC 793, section 3.3. */
#define TICK_NS 4000

static uint8_t key[16];
static uint64_t drawn;

int pl_isn_begin(void)
{
	return getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key) ? 0 : -EAGAIN;
}

static void put_address(uint8_t to[17], const ip_addr_t *address)
{
	to[0] = IP_GET_TYPE(address);
	if (IP_IS_V4(address))
		memcpy(to + 1, &ip_2_ip4(address)->addr, 4);
	else
		memcpy(to + 1, ip_2_ip6(address)->addr, 16);
}

u32_t pl_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
	uint8_t connection[38] = {0};
	struct timespec now;

	put_address(connection, local);
	put_address(connection + 17, remote);
	memcpy(connection + 34, &local_port, 2);
	memcpy(connection + 36, &remote_port, 2);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u32_t)(pl_siphash(key, connection, sizeof(connection)) +
		       ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) / TICK_NS);
}

uint32_t pl_random(void)
{
	drawn++;
	return (uint32_t)pl_siphash(key, (const uint8_t *)&drawn, sizeof(drawn));
}
