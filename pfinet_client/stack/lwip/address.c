/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - Addresses and errors, lwIP's and everybody's
 *
 * A socket of IPv6 that is not v6only speaks IPv4 as well, by mapped addresses
 * (RFC 4291, section 2.5.5.2).
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

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
	} else if (!memcmp(from->bytes, mapped, 12)) {
		if (s->v6only)
			return -ENETUNREACH;
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
	return pl_slots_own(netif, ip_2_ip6(address));
}

static bool is_of_link(const ip6_addr_t *to)
{
	if (ip6_addr_ismulticast(to))
		return ip6_addr_multicast_scope(to) <= IP6_MULTICAST_SCOPE_LINK_LOCAL;
	return ip6_addr_islinklocal(to);
}

const ip_addr_t *pl_source6(const ip_addr_t *to)
{
	struct netif *netif = pl_interface();
	const ip_addr_t *first = NULL;

	if (!netif || !IP_IS_V6(to) || ip_addr_isloopback(to) || is_of_link(ip_2_ip6(to)))
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
	return first ? first : netif_ip_addr6(netif, 0);
}
