/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <string.h>

enum dp_key_kind { KEY_NONE = 0, KEY_MAC, KEY_IPV4, KEY_IPV6 };

/* A quarter of the index stays empty, so that a miss ends soon. */
#define MAX_KEYS (DP_INDEX_SIZE - DP_INDEX_SIZE / 4)

_Static_assert((DP_INDEX_SIZE & (DP_INDEX_SIZE - 1)) == 0, "the index is masked");
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

/* ---- the index: open addressing, linear probing, no tombstones ---- */

static uint64_t mix(uint64_t x)
{
	/* The finaliser of MurmurHash3: every input bit reaches every output bit. */
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

static uint32_t slot_of(const struct dp_table *table, const struct dp_key *key)
{
	uint64_t low, high;

	memcpy(&low, key->addr, 8);
	memcpy(&high, key->addr + 8, 8);
	low = mix(low ^ table->seed);
	high = mix(high + low + ((uint64_t)key->network << 16 | (uint64_t)key->kind << 8 | key->len));
	return (uint32_t)high & (DP_INDEX_SIZE - 1);
}

static bool same_key(const struct dp_key *a, const struct dp_key *b)
{
	return a->kind == b->kind && a->len == b->len && a->network == b->network &&
	       memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

/* The slot that holds @key, or the empty one where it would stand. */
static uint32_t find_slot(const struct dp_table *table, const struct dp_key *key)
{
	uint32_t slot = slot_of(table, key);

	while (table->keys[slot].kind != KEY_NONE && !same_key(&table->keys[slot], key))
		slot = (slot + 1) & (DP_INDEX_SIZE - 1);
	return slot;
}

static uint32_t *length_count(struct dp_table *table, const struct dp_key *key)
{
	if (key->kind == KEY_IPV4)
		return &table->n_len4[key->len];
	if (key->kind == KEY_IPV6)
		return &table->n_len6[key->len];
	return NULL;
}

static void insert_key(struct dp_table *table, const struct dp_key *key)
{
	uint32_t *count = length_count(table, key);

	table->keys[find_slot(table, key)] = *key;
	table->n_keys++;
	if (count)
		(*count)++;
}

static void remove_key(struct dp_table *table, const struct dp_key *key)
{
	uint32_t *count = length_count(table, key);
	uint32_t hole = find_slot(table, key), slot = hole;

	if (table->keys[hole].kind == KEY_NONE || table->keys[hole].port != key->port)
		return;
	table->n_keys--;
	if (count)
		(*count)--;
	/* Close the gap: whatever follows and would be missed moves up. */
	for (;;) {
		uint32_t home;

		slot = (slot + 1) & (DP_INDEX_SIZE - 1);
		if (table->keys[slot].kind == KEY_NONE)
			break;
		home = slot_of(table, &table->keys[slot]);
		if (((slot - home) & (DP_INDEX_SIZE - 1)) >= ((slot - hole) & (DP_INDEX_SIZE - 1))) {
			table->keys[hole] = table->keys[slot];
			hole = slot;
		}
	}
	table->keys[hole].kind = KEY_NONE;
}

static uint16_t find_key(const struct dp_table *table, const struct dp_key *key)
{
	const struct dp_key *found = &table->keys[find_slot(table, key)];

	return found->kind == KEY_NONE ? DP_NO_PORT : found->port;
}

/* ---- prefixes ---- */

static void mask_addr(uint8_t *out, const uint8_t *addr, size_t bytes, unsigned int len)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned int bits = len > i * 8 ? len - (unsigned int)i * 8 : 0;

		out[i] = bits >= 8 ? addr[i] : (uint8_t)(addr[i] & (0xff00u >> bits));
	}
}

static bool prefix_covers(const struct dp_prefix *prefix, const uint8_t *addr, size_t bytes)
{
	uint8_t masked[16];

	if (prefix->len == bytes * 8)
		return memcmp(addr, prefix->addr, bytes) == 0;
	mask_addr(masked, addr, bytes, prefix->len);
	return memcmp(masked, prefix->addr, bytes) == 0;
}

bool dp_binding_has_ipv4(const struct dp_binding *bind, const uint8_t *addr)
{
	for (unsigned int i = 0; i < bind->n_ipv4; i++)
		if (prefix_covers(&bind->ipv4[i], addr, 4))
			return true;
	return false;
}

bool dp_binding_has_ipv6(const struct dp_binding *bind, const uint8_t *addr)
{
	for (unsigned int i = 0; i < bind->n_ipv6; i++)
		if (prefix_covers(&bind->ipv6[i], addr, 16))
			return true;
	return false;
}

/* ---- look-ups ---- */

uint16_t dp_table_find_mac(const struct dp_table *table, uint16_t network, const uint8_t *mac)
{
	struct dp_key key = { .kind = KEY_MAC, .network = network };

	memcpy(key.addr, mac, DP_MAC_LEN);
	return find_key(table, &key);
}

uint16_t dp_table_find_ipv4(const struct dp_table *table, uint16_t network, const uint8_t *addr)
{
	struct dp_key key = { .kind = KEY_IPV4, .network = network };

	for (unsigned int len = 33; len-- > 0;) {
		uint16_t port;

		if (!table->n_len4[len])
			continue;
		key.len = (uint8_t)len;
		mask_addr(key.addr, addr, 4, len);
		port = find_key(table, &key);
		if (port != DP_NO_PORT)
			return port;
	}
	return DP_NO_PORT;
}

uint16_t dp_table_find_ipv6(const struct dp_table *table, uint16_t network, const uint8_t *addr)
{
	struct dp_key key = { .kind = KEY_IPV6, .network = network };

	for (unsigned int len = 129; len-- > 0;) {
		uint16_t port;

		if (!table->n_len6[len])
			continue;
		key.len = (uint8_t)len;
		mask_addr(key.addr, addr, 16, len);
		port = find_key(table, &key);
		if (port != DP_NO_PORT)
			return port;
	}
	return DP_NO_PORT;
}

/* ---- rows ---- */

/* The @index-th key of a binding: its MAC, then its prefixes. */
static struct dp_key binding_key(const struct dp_binding *bind, uint16_t network, uint16_t port,
				 unsigned int index)
{
	struct dp_key key = { .kind = KEY_MAC, .network = network, .port = port };

	if (index == 0) {
		memcpy(key.addr, bind->mac, DP_MAC_LEN);
	} else if (index <= bind->n_ipv4) {
		key.kind = KEY_IPV4;
		key.len = bind->ipv4[index - 1].len;
		memcpy(key.addr, bind->ipv4[index - 1].addr, 4);
	} else {
		key.kind = KEY_IPV6;
		key.len = bind->ipv6[index - 1 - bind->n_ipv4].len;
		memcpy(key.addr, bind->ipv6[index - 1 - bind->n_ipv4].addr, 16);
	}
	return key;
}

static unsigned int n_binding_keys(const struct dp_binding *bind)
{
	return 1u + bind->n_ipv4 + bind->n_ipv6;
}

static void unindex(struct dp_table *table, uint16_t port)
{
	const struct dp_port *p = &table->ports[port];

	for (unsigned int i = 0; i < n_binding_keys(&p->bind); i++) {
		struct dp_key key = binding_key(&p->bind, p->network, port, i);

		remove_key(table, &key);
	}
}

static void index_binding(struct dp_table *table, uint16_t port)
{
	const struct dp_port *p = &table->ports[port];

	for (unsigned int i = 0; i < n_binding_keys(&p->bind); i++) {
		struct dp_key key = binding_key(&p->bind, p->network, port, i);

		insert_key(table, &key);
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
	mask_addr(masked, prefix->addr, bytes, prefix->len);
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
	if (bind->flags & ~(DP_VIF_ROUTER | DP_VIF_DHCP_SERVER | DP_VIF_ANY_ETHERTYPE) ||
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
	table->seed = seed;
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
	for (unsigned int i = 0; i < n_binding_keys(&bind); i++) {
		struct dp_key key = binding_key(&bind, id, port, i);
		uint16_t holder = find_key(table, &key);

		if (holder != DP_NO_PORT && holder != port)
			return -EEXIST;
	}
	/* What this vif itself holds now is about to go, but need not be counted on. */
	if (table->n_keys + n_binding_keys(&bind) > MAX_KEYS)
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
}
