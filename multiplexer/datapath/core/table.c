/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <string.h>

#include "claim.h"

_Static_assert(DP_MAX_PORTS < DP_NO_PORT, "a port number is never DP_NO_PORT");

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (p[1] << 8));
}

static uint64_t le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (unsigned int i = 8; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

/* ---- prefixes ---- */

static bool prefix_covers(const struct dp_prefix *prefix, const uint8_t *addr, size_t bytes)
{
	uint8_t masked[16];

	if (prefix->len == bytes * 8)
		return memcmp(addr, prefix->addr, bytes) == 0;
	dp_mask_addr(masked, addr, bytes, prefix->len);
	return memcmp(masked, prefix->addr, bytes) == 0;
}

const struct dp_prefix *dp_binding_find_ipv4(const struct dp_binding *bind, const uint8_t *addr)
{
	for (unsigned int i = 0; i < bind->n_ipv4; i++)
		if (prefix_covers(&bind->ipv4[i], addr, 4))
			return &bind->ipv4[i];
	return NULL;
}

const struct dp_prefix *dp_binding_find_ipv6(const struct dp_binding *bind, const uint8_t *addr)
{
	for (unsigned int i = 0; i < bind->n_ipv6; i++)
		if (prefix_covers(&bind->ipv6[i], addr, 16))
			return &bind->ipv6[i];
	for (unsigned int i = 0; i < bind->n_firm; i++)
		if (prefix_covers(&bind->claims[i].prefix, addr, 16))
			return &bind->claims[i].prefix;
	return NULL;
}

bool dp_binding_has_ipv4(const struct dp_binding *bind, const uint8_t *addr)
{
	return dp_binding_find_ipv4(bind, addr) != NULL;
}

bool dp_binding_has_ipv6(const struct dp_binding *bind, const uint8_t *addr)
{
	return dp_binding_find_ipv6(bind, addr) != NULL;
}

/* ---- look-ups ---- */

uint16_t dp_table_find_mac(const struct dp_table *table, uint16_t network, const uint8_t *mac)
{
	struct dp_key key = { .kind = DP_KEY_MAC, .network = network };

	memcpy(key.addr, mac, DP_MAC_LEN);
	return dp_index_find(&table->index, &key);
}

uint16_t dp_table_find_mac_for(const struct dp_table *table, struct dp_port *port,
			       const uint8_t *mac)
{
	struct dp_hint *hint = &port->hint;

	if (hint->changes != table->index.changes || memcmp(hint->mac, mac, DP_MAC_LEN) != 0) {
		hint->holder = dp_table_find_mac(table, port->network, mac);
		hint->changes = table->index.changes;
		memcpy(hint->mac, mac, DP_MAC_LEN);
	}
	return hint->holder;
}

uint16_t dp_table_find_ipv4(const struct dp_table *table, uint16_t network, const uint8_t *addr)
{
	return dp_index_find_longest(&table->index, DP_KEY_IPV4, network, addr);
}

uint16_t dp_table_find_ipv6(const struct dp_table *table, uint16_t network, const uint8_t *addr)
{
	return dp_index_find_longest(&table->index, DP_KEY_IPV6, network, addr);
}

/* ---- rows ---- */

/* The @index-th key of a binding: its MAC, then its prefixes, then its claims. */
static struct dp_key binding_key(const struct dp_binding *bind, uint16_t network, uint16_t port,
				 unsigned int index)
{
	struct dp_key key = { .kind = DP_KEY_MAC, .network = network, .port = port };

	if (index == 0) {
		memcpy(key.addr, bind->mac, DP_MAC_LEN);
	} else if (index <= bind->n_ipv4) {
		key.kind = DP_KEY_IPV4;
		key.len = bind->ipv4[index - 1].len;
		memcpy(key.addr, bind->ipv4[index - 1].addr, 4);
	} else {
		const struct dp_prefix *prefix;

		index -= 1u + bind->n_ipv4;
		prefix = index < bind->n_ipv6 ? &bind->ipv6[index]
					      : &bind->claims[index - bind->n_ipv6].prefix;
		key.kind = DP_KEY_IPV6;
		key.len = prefix->len;
		memcpy(key.addr, prefix->addr, 16);
	}
	return key;
}

static unsigned int n_binding_keys(const struct dp_binding *bind)
{
	return 1u + bind->n_ipv4 + bind->n_ipv6 + bind->n_claims;
}

static void unindex(struct dp_table *table, uint16_t port)
{
	const struct dp_port *p = &table->ports[port];

	for (unsigned int i = 0; i < n_binding_keys(&p->bind); i++) {
		struct dp_key key = binding_key(&p->bind, p->network, port, i);

		dp_index_remove(&table->index, &key);
	}
}

static void index_binding(struct dp_table *table, uint16_t port)
{
	const struct dp_port *p = &table->ports[port];

	for (unsigned int i = 0; i < n_binding_keys(&p->bind); i++) {
		struct dp_key key = binding_key(&p->bind, p->network, port, i);

		dp_index_insert(&table->index, &key);
	}
}

static bool parse_prefix(struct dp_prefix *prefix, const uint8_t *row, size_t bytes)
{
	uint8_t masked[16];

	memset(prefix, 0, sizeof(*prefix));
	memcpy(prefix->addr, row, bytes);
	prefix->len = row[bytes];
	if (prefix->len > bytes * 8)
		return false;
	dp_mask_addr(masked, prefix->addr, bytes, prefix->len);
	return memcmp(masked, prefix->addr, bytes) == 0;
}

/* Whether no two prefixes of one family are the same: each is a key of its own. */
static bool all_different(const struct dp_prefix *prefixes, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int j = 0; j < i; j++)
			if (prefixes[i].len == prefixes[j].len &&
			    memcmp(prefixes[i].addr, prefixes[j].addr, 16) == 0)
				return false;
	return true;
}

static bool parse_binding(struct dp_binding *bind, const uint8_t *row)
{
	const uint8_t *ipv4 = row + 48;
	const uint8_t *ipv6 = ipv4 + DP_MAX_IPV4 * 5;
	const uint8_t *ethertypes = ipv6 + DP_MAX_IPV6 * 17;

	memset(bind, 0, sizeof(*bind));
	bind->flags = row[4];
	bind->n_ipv4 = row[5];
	bind->n_ipv6 = row[6];
	bind->n_ethertypes = row[7];
	memcpy(bind->mac, row + 8, DP_MAC_LEN);
	if (bind->flags & ~(DP_VIF_ROUTER | DP_VIF_DHCP_SERVER | DP_VIF_ANY_ETHERTYPE |
			    DP_VIF_HOST | DP_VIF_FIRST_COME) ||
	    bind->n_ipv4 > DP_MAX_IPV4 || bind->n_ipv6 > DP_MAX_IPV6 ||
	    bind->n_ethertypes > DP_MAX_ETHERTYPES || dp_is_group(bind->mac))
		return false;
	for (unsigned int i = 0; i < bind->n_ipv4; i++)
		if (!parse_prefix(&bind->ipv4[i], ipv4 + i * 5, 4))
			return false;
	for (unsigned int i = 0; i < bind->n_ipv6; i++)
		if (!parse_prefix(&bind->ipv6[i], ipv6 + i * 17, 16))
			return false;
	for (unsigned int i = 0; i < bind->n_ethertypes; i++)
		bind->ethertypes[i] = le16(ethertypes + i * 2);
	return all_different(bind->ipv4, bind->n_ipv4) && all_different(bind->ipv6, bind->n_ipv6);
}

/* Takes over the claims of @old that @bind does not cover anyhow; they keep their order. */
static void keep_claims(struct dp_binding *bind, const struct dp_binding *old)
{
	for (unsigned int i = 0; i < old->n_claims; i++) {
		if (dp_binding_has_ipv6(bind, old->claims[i].prefix.addr))
			continue;
		bind->claims[bind->n_claims++] = old->claims[i];
		if (i < old->n_firm)
			bind->n_firm++;
	}
}

static void join(struct dp_table *table, uint16_t port)
{
	struct dp_port *p = &table->ports[port];
	struct dp_network *network = &table->networks[p->network];

	p->next = network->first;
	network->first = port;
	network->n_up += p->up;
}

static void leave(struct dp_table *table, uint16_t port)
{
	struct dp_port *p = &table->ports[port];
	struct dp_network *network = &table->networks[p->network];
	uint16_t *link = &network->first;

	while (*link != DP_NO_PORT && *link != port)
		link = &table->ports[*link].next;
	if (*link == port)
		*link = p->next;
	network->n_up -= p->up;
}

size_t dp_table_size(void)
{
	return sizeof(struct dp_table);
}

void dp_table_init(struct dp_table *table, uint64_t seed)
{
	table->index.seed = seed;
	for (unsigned int i = 0; i < DP_MAX_NETWORKS; i++) {
		table->networks[i].uplink = DP_NO_PORT;
		table->networks[i].first = DP_NO_PORT;
	}
	for (unsigned int i = 0; i < DP_MAX_PORTS; i++) {
		table->ports[i].network = DP_NO_PORT;
		table->ports[i].next = DP_NO_PORT;
	}
}

int dp_table_set_network(struct dp_table *table, const uint8_t *row, size_t len)
{
	struct dp_network *network;
	uint16_t id, uplink, mtu;

	if (len != DP_NETWORK_ROW_LEN)
		return -EINVAL;
	id = le16(row);
	uplink = le16(row + 4);
	mtu = le16(row + 6);
	if (id >= DP_MAX_NETWORKS || row[2] >= DP_N_MODES || mtu < 68)
		return -EINVAL;
	network = &table->networks[id];
	if (!(row[3] & 1))
		uplink = DP_NO_PORT;
	else if (uplink >= DP_MAX_PORTS || table->ports[uplink].kind != DP_PORT_UPLINK)
		return -EINVAL;
	else if (table->ports[uplink].network != DP_NO_PORT && table->ports[uplink].network != id)
		return -EEXIST;
	if (network->uplink != DP_NO_PORT)
		table->ports[network->uplink].network = DP_NO_PORT;
	network->used = true;
	network->mode = row[2];
	network->uplink = uplink;
	network->mtu = mtu;
	if (uplink != DP_NO_PORT)
		table->ports[uplink].network = id;
	return 0;
}

int dp_table_clear_network(struct dp_table *table, uint16_t id)
{
	struct dp_network *network;

	if (id >= DP_MAX_NETWORKS || !table->networks[id].used)
		return -EINVAL;
	network = &table->networks[id];
	if (network->first != DP_NO_PORT)
		return -EBUSY;
	if (network->uplink != DP_NO_PORT)
		table->ports[network->uplink].network = DP_NO_PORT;
	memset(network, 0, sizeof(*network));
	network->uplink = DP_NO_PORT;
	network->first = DP_NO_PORT;
	return 0;
}

/* Whether a stranger's claim that was noted is about what @p is bound to now. */
static bool conflict_stands(const struct dp_port *p)
{
	const struct dp_conflict *conflict = &p->conflict;

	return conflict->family == 4 ? dp_binding_has_ipv4(&p->bind, conflict->addr)
				     : dp_binding_has_ipv6(&p->bind, conflict->addr);
}

int dp_table_set_vif(struct dp_table *table, uint16_t port, const uint8_t *row, size_t len)
{
	struct dp_binding bind;
	struct dp_port *p;
	uint16_t id;

	if (len != DP_VIF_ROW_LEN || port >= DP_MAX_PORTS)
		return -EINVAL;
	p = &table->ports[port];
	id = le16(row);
	if (id >= DP_MAX_NETWORKS || !table->networks[id].used || p->kind == DP_PORT_UPLINK ||
	    le16(row + 2) != table->networks[id].mtu || !parse_binding(&bind, row))
		return -EINVAL;
	for (unsigned int i = 0; i < 4; i++)
		if (le64(row + 16 + i * 8) > DP_MAX_RATE)
			return -EINVAL;
	if (p->kind == DP_PORT_VIF && p->network == id && bind.flags & DP_VIF_FIRST_COME)
		keep_claims(&bind, &p->bind);
	for (unsigned int i = 0; i < n_binding_keys(&bind); i++) {
		struct dp_key key = binding_key(&bind, id, port, i);
		uint16_t holder = dp_index_find(&table->index, &key);

		if (holder != DP_NO_PORT && holder != port)
			return -EEXIST;
	}
	/* What this vif itself holds now is about to go, but need not be counted on. */
	if (!dp_index_has_room(&table->index, n_binding_keys(&bind)))
		return -ENOSPC;

	if (p->kind == DP_PORT_VIF) {
		unindex(table, port);
		leave(table, port);
	}
	p->kind = DP_PORT_VIF;
	p->network = id;
	p->bind = bind;
	index_binding(table, port);
	join(table, port);
	if (!conflict_stands(p))
		memset(&p->conflict, 0, sizeof(p->conflict));
	dp_bucket_set(&p->frames, le64(row + 16));
	dp_bucket_set(&p->bytes, le64(row + 24));
	dp_bucket_set(&p->broadcasts, le64(row + 32));
	dp_bucket_set(&p->copies, le64(row + 40));
	return 0;
}

int dp_table_set_uplink(struct dp_table *table, uint16_t port)
{
	if (port >= DP_MAX_PORTS || table->ports[port].kind == DP_PORT_VIF)
		return -EINVAL;
	table->ports[port].kind = DP_PORT_UPLINK;
	return 0;
}

int dp_table_clear_uplink(struct dp_table *table, uint16_t port)
{
	struct dp_port *p;

	if (port >= DP_MAX_PORTS || table->ports[port].kind != DP_PORT_UPLINK)
		return -EINVAL;
	p = &table->ports[port];
	if (p->network != DP_NO_PORT)
		table->networks[p->network].uplink = DP_NO_PORT;
	memset(p, 0, sizeof(*p));
	p->network = DP_NO_PORT;
	p->next = DP_NO_PORT;
	return 0;
}

int dp_table_clear(struct dp_table *table, uint16_t port)
{
	struct dp_port *p;

	if (port >= DP_MAX_PORTS || table->ports[port].kind != DP_PORT_VIF)
		return -EINVAL;
	p = &table->ports[port];
	unindex(table, port);
	leave(table, port);
	memset(p, 0, sizeof(*p));
	p->network = DP_NO_PORT;
	p->next = DP_NO_PORT;
	return 0;
}

void dp_table_set_up(struct dp_table *table, uint16_t port, bool up)
{
	struct dp_port *p;

	if (port >= DP_MAX_PORTS)
		return;
	p = &table->ports[port];
	if (p->kind == DP_PORT_VIF && p->up != up) {
		struct dp_network *network = &table->networks[p->network];

		network->n_up = up ? network->n_up + 1 : network->n_up - 1;
	}
	p->up = up;
	if (p->kind == DP_PORT_VIF && !up)
		dp_claim_end_all(table, port);
}
