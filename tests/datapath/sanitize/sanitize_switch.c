/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize_switch.c - Hostile frames and rows through table, ingress and forwarding
 *
 * Frames begin as what a vif, or the wire, may well send, and are then changed,
 * truncated, tagged and given metadata.  What passes is judged again by a few
 * plain rules that stand here on their own: no source that is not the sender's,
 * and no way back to the sender.
 */
#include "claim.h"
#include "verdicts.h"

#define N_FRAMES 5000000
#define N_ROWS 400000

/* A frame that is segmented has this much payload at most. */
#define MAX_PAYLOAD 3000
#define MAX_LEN (300 + MAX_PAYLOAD)

static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};
static unsigned long passed[2], tried[2], n_segments, n_rows, n_claims, n_yields;

/* ---- frames that are as they should be ---- */

struct draft {
	uint8_t bytes[MAX_LEN];
	size_t len;
	size_t l4;
	uint8_t proto;
	bool ipv6;
	size_t from; /* station */
};

static void begin(struct draft *draft, size_t to, uint16_t ethertype)
{
	if (below(4) == 0)
		memset(draft->bytes, 0xff, DP_MAC_LEN);
	else
		put_mac(draft->bytes, to);
	put_mac(draft->bytes + DP_MAC_LEN, draft->from);
	dp_put16(draft->bytes + 12, ethertype);
	draft->len = DP_ETH_LEN;
}

static uint8_t *append(struct draft *draft, size_t len)
{
	uint8_t *p = draft->bytes + draft->len;

	REQUIRE(draft->len + len <= sizeof(draft->bytes));
	memset(p, 0, len);
	draft->len += len;
	return p;
}

static void draft_arp(struct draft *draft, size_t to)
{
	uint8_t *arp;

	begin(draft, to, DP_ETHERTYPE_ARP);
	arp = append(draft, 28);
	dp_put16(arp, 1);
	dp_put16(arp + 2, DP_ETHERTYPE_IPV4);
	arp[4] = DP_MAC_LEN;
	arp[5] = 4;
	dp_put16(arp + 6, (uint16_t)(1 + below(2)));
	put_mac(arp + 8, draft->from);
	if (below(4))
		put_ipv4(arp + 14, draft->from);
	put_ipv4(arp + 24, to);
}

static void draft_udp(struct draft *draft)
{
	static const uint16_t pairs[][2] = {
		{40000, 53}, {68, 67}, {67, 68}, {67, 67}, {40000, 67}, {546, 547}, {547, 546},
	};
	const uint16_t *pair = pairs[below(sizeof(pairs) / sizeof(pairs[0]))];
	uint8_t *udp = append(draft, 8), *dhcp;

	dp_put16(udp, pair[0]);
	dp_put16(udp + 2, pair[1]);
	dhcp = append(draft, 240 + below(60));
	dhcp[0] = 1;
	dhcp[1] = 1;
	dhcp[2] = DP_MAC_LEN;
	put_mac(dhcp + 28, draft->from);
	dp_put16(udp + 4, (uint16_t)(draft->bytes + draft->len - udp));
}

static void draft_tcp(struct draft *draft)
{
	size_t words = 5 + below(4);
	uint8_t *tcp = append(draft, words * 4);

	tcp[12] = (uint8_t)(words << 4);
	tcp[13] = (uint8_t)next_random();
	append(draft, below(below(2) ? MAX_PAYLOAD : 40));
}

static void draft_icmp(struct draft *draft)
{
	static const uint8_t types[] = {0, 3, 4, 5, 8, 9, 11, 12};
	uint8_t *icmp = append(draft, 8), *inner;

	icmp[0] = types[below(sizeof(types))];
	inner = append(draft, 28);
	inner[0] = 0x45;
	put_ipv4(inner + 12, below(N_VIFS + 2));
	put_ipv4(inner + 16, draft->from);
}

static void draft_icmpv6(struct draft *draft)
{
	static const uint8_t types[] = {1, 2, 3, 4, 128, 129, 131, 133, 134, 135, 136, 137, 143};
	uint8_t *icmp = append(draft, 8);

	icmp[0] = types[below(sizeof(types))];
	if (icmp[0] < 128) {
		uint8_t *inner = append(draft, 48);

		inner[0] = 0x60;
		put_ipv6(inner + 24, draft->from);
		return;
	}
	if (icmp[0] >= 135 && icmp[0] <= 137)
		put_ipv6(append(draft, 16), draft->from);
	for (size_t n = below(3); n > 0; n--) {
		uint8_t *option = append(draft, 8);

		option[0] = (uint8_t)(1 + below(2));
		option[1] = 1;
		put_mac(option + 2, draft->from);
	}
}

static void draft_transport(struct draft *draft)
{
	draft->l4 = draft->len;
	switch (draft->proto) {
	case DP_IPPROTO_UDP:
		draft_udp(draft);
		break;
	case DP_IPPROTO_TCP:
		draft_tcp(draft);
		break;
	case DP_IPPROTO_ICMP:
		draft_icmp(draft);
		break;
	default:
		draft_icmpv6(draft);
		break;
	}
	/* Cut short, with a network header that knows it. */
	if (below(16) == 0)
		draft->len = draft->l4 + below(draft->len - draft->l4 + 1);
}

static void draft_ipv4(struct draft *draft, size_t to)
{
	static const uint8_t protos[] = {DP_IPPROTO_ICMP, DP_IPPROTO_TCP, DP_IPPROTO_UDP};
	size_t options = below(4) ? 0 : 4 * below(11);
	uint8_t *ip;

	begin(draft, to, DP_ETHERTYPE_IPV4);
	ip = append(draft, 20 + options);
	draft->proto = protos[below(sizeof(protos))];
	ip[0] = (uint8_t)(0x45 + options / 4);
	ip[9] = draft->proto;
	memset(ip + 20, 1, options);
	if (below(8) == 0)
		dp_put16(ip + 6, below(2) ? 0x2000 : 0x0010);
	if (below(8))
		put_ipv4(ip + 12, draft->from);
	if (memcmp(draft->bytes, "\xff\xff\xff\xff\xff\xff", DP_MAC_LEN) == 0)
		memset(ip + 16, 0xff, 4);
	else
		put_ipv4(ip + 16, to);
	draft_transport(draft);
	dp_put16(ip + 2, (uint16_t)(draft->len - DP_ETH_LEN));
}

static void draft_ipv6(struct draft *draft, size_t to)
{
	static const uint8_t protos[] = {DP_IPPROTO_ICMPV6, DP_IPPROTO_ICMPV6, DP_IPPROTO_TCP,
					 DP_IPPROTO_UDP};
	static const uint8_t chain[] = {43, 44, 51, 60, 60, 135};
	uint8_t *ip, *next;

	draft->ipv6 = true;
	begin(draft, to, DP_ETHERTYPE_IPV6);
	ip = append(draft, 40);
	draft->proto = protos[below(sizeof(protos))];
	ip[0] = 0x60;
	ip[7] = 255;
	if (below(8))
		put_ipv6(ip + 8, draft->from);
	if (below(16) == 0)
		put_stable(ip + 8, below(8));
	if (below(4))
		put_ipv6(ip + 24, to);
	else
		memcpy(ip + 24, all_nodes, sizeof(all_nodes));
	next = ip + 6;
	if (below(4) == 0) {
		*next = 0;
		next = append(draft, 8);
	}
	for (size_t n = below(3) ? 0 : below(8); n > 0; n--) {
		*next = chain[below(sizeof(chain))];
		next = append(draft, 16);
		/* 16 bytes: in units of 8 behind the first, in AH of 4 behind the second. */
		next[1] = (uint8_t)(1 + below(2));
		if (below(2))
			memset(next + 2, 0, 14);
	}
	*next = draft->proto;
	draft_transport(draft);
	dp_put16(ip + 4, (uint16_t)(draft->len - DP_ETH_LEN - 40));
}

/* A neighbour solicitation by which the sender claims an address, as everybody hears it. */
static void draft_claim(struct draft *draft)
{
	uint32_t sum = 24 + DP_IPPROTO_ICMPV6;
	uint8_t *ip, *ns;

	begin(draft, 0, DP_ETHERTYPE_IPV6);
	ip = append(draft, 40);
	ns = append(draft, 24);
	draft->l4 = DP_ETH_LEN + 40;
	draft->proto = DP_IPPROTO_ICMPV6;
	draft->ipv6 = true;
	put_stable(ns + 8, below(8));
	ip[0] = 0x60;
	ip[5] = 24;
	ip[6] = DP_IPPROTO_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 24, all_nodes, sizeof(all_nodes));
	ip[24 + 11] = 1;
	ip[24 + 12] = 0xff;
	memcpy(ip + 24 + 13, ns + 8 + 13, 3);
	memcpy(draft->bytes, "\x33\x33", 2);
	memcpy(draft->bytes + 2, ip + 24 + 12, 4);
	ns[0] = DP_ICMPV6_NS;
	/* The pseudo-header: from nobody, to the group. */
	for (size_t i = 0; i < 16; i += 2)
		sum += dp_get16(ip + 24 + i);
	dp_put16(ns + 2, (uint16_t)(sum % 0xffff));
	dp_offload_complete(draft->bytes, draft->len, draft->l4, 2, false);
}

static void draft_frame(struct draft *draft, size_t from)
{
	size_t to = below(N_VIFS + 2);

	draft->from = from;
	draft->l4 = 0;
	draft->proto = 0;
	draft->ipv6 = false;
	switch (below(9)) {
	case 0:
		draft_arp(draft, to);
		break;
	case 8:
		draft_claim(draft);
		break;
	case 1:
	case 2:
	case 3:
		draft_ipv4(draft, to);
		break;
	case 4:
		begin(draft, to, (uint16_t)(below(2) ? 0x88b5 : below(0x600)));
		append(draft, 46);
		break;
	default:
		draft_ipv6(draft, to);
		break;
	}
	if (below(40) == 0 && draft->len + 4 <= sizeof(draft->bytes)) {
		memmove(draft->bytes + 16, draft->bytes + 12, draft->len - 12);
		dp_put16(draft->bytes + 12, below(2) ? 0x8100 : 0x88a8);
		draft->len += 4;
	}
}

/* Metadata that mostly fits the draft. */
static void draft_meta(const struct draft *draft, struct dp_meta *meta)
{
	bool tcp = draft->proto == DP_IPPROTO_TCP;

	memset(meta, 0, sizeof(*meta));
	meta->vlan = below(50) == 0;
	if (!tcp && draft->proto != DP_IPPROTO_UDP)
		return;
	meta->csum = (uint8_t)below(3);
	if (meta->csum == DP_CSUM_NEEDED) {
		meta->csum_start = (uint16_t)draft->l4;
		meta->csum_offset = tcp ? 16 : 6;
		if (below(2)) {
			meta->gso = !tcp         ? DP_GSO_UDP :
				    draft->ipv6 ? DP_GSO_TCPV6 :
						  DP_GSO_TCPV4;
			meta->ecn = tcp && below(2);
			meta->gso_size = (uint16_t)(1 + below(1460));
		}
	}
	if (below(16) == 0)
		meta->csum_start = (uint16_t)next_random();
	if (below(16) == 0)
		meta->gso = (uint8_t)below(6);
}

/* ---- what passes ---- */

static void try_frame(struct dp_table *table, const struct draft *draft, bool from_wire)
{
	uint16_t port = from_wire ? UPLINK : (uint16_t)(FIRST_VIF + draft->from);
	uint8_t *data = copy_of(draft->bytes, draft->len);
	struct dp_decision decision;
	struct dp_frame frame;
	static uint64_t now_ns = 1;
	uint32_t n_keys = table->index.n_keys;

	/* What the core leaves unset must not be read: no bool has this value. */
	memset(&frame, 0xa5, sizeof(frame));
	memset(&decision, 0xa5, sizeof(decision));
	draft_meta(draft, &frame.meta);
	now_ns += below(100000);
	if (from_wire)
		dp_forward_from_uplink(table, port, &frame, data, draft->len, &decision);
	else
		dp_forward_from_vif(table, port, &frame, data, draft->len, now_ns, &decision);

	n_claims += table->index.n_keys > n_keys;
	n_yields += table->index.n_keys < n_keys;
	tried[from_wire]++;
	check_decision(table, &frame, data, draft->len, &decision, draft->from, port);
	if (decision.verdict == DP_PASS) {
		passed[from_wire]++;
		if (dp_offload_fits(&frame) && dp_frame_fits_mtu(&frame, MTU))
			n_segments += dp_offload_segments(&frame);
		if (decision.claims && below(20) == 0) {
			dp_table_set_up(table, port, false);
			dp_table_set_up(table, port, true);
		}
		if (decision.claims && below(20) == 0)
			dp_claim_wire_lost(table, table->ports[port].network, now_ns);
	}
	free(data);
}

static void try_frames(struct dp_table *table)
{
	static struct draft draft;

	for (unsigned long i = 0; i < N_FRAMES; i++) {
		bool from_wire = below(4) == 0;

		draft_frame(&draft, from_wire && below(4) ? N_VIFS + below(2) : below(N_VIFS));
		if (below(3))
			mutate(draft.bytes, draft.len, 1 + below(4));
		if (below(8) == 0)
			draft.len = below(draft.len + 1);
		try_frame(table, &draft, from_wire);
	}
}

/* ---- rows ---- */

/* A vif's row with a few bytes changed, or nothing but random bytes. */
static void try_row(struct dp_table *table)
{
	size_t n = below(N_VIFS);
	size_t len = below(20) ? DP_VIF_ROW_LEN : below(2 * DP_VIF_ROW_LEN);
	uint16_t port = (uint16_t)(below(8) ? FIRST_VIF + n + N_VIFS * below(2) : next_random());
	uint8_t *row = allocate(len);
	struct dp_binding before;
	uint32_t n_keys = table->index.n_keys;

	for (size_t i = 0; i < len; i++)
		row[i] = (uint8_t)next_random();
	if (len == DP_VIF_ROW_LEN && below(4)) {
		vif_row(row, n);
		put_mac(row + 8, below(4) ? n : below(250));
		mutate(row, 52, below(3));
		mutate(row + 48, len - 48, below(3));
	}
	if (port < DP_MAX_PORTS)
		before = table->ports[port].bind;
	if (dp_table_set_vif(table, port, row, len) == 0) {
		const struct dp_port *p = &table->ports[port];

		n_rows++;
		REQUIRE(dp_table_find_mac(table, p->network, p->bind.mac) == port);
		for (size_t i = 0; i < p->bind.n_ipv4; i++)
			REQUIRE(dp_table_find_ipv4(table, p->network, p->bind.ipv4[i].addr) !=
				DP_NO_PORT);
		for (size_t i = 0; i < p->bind.n_ipv6; i++)
			REQUIRE(dp_table_find_ipv6(table, p->network, p->bind.ipv6[i].addr) !=
				DP_NO_PORT);
	} else {
		REQUIRE(table->index.n_keys == n_keys);
		if (port < DP_MAX_PORTS)
			REQUIRE(memcmp(&before, &table->ports[port].bind, sizeof(before)) == 0);
	}
	if (below(10) == 0)
		dp_table_clear(table, (uint16_t)(below(4) ? FIRST_VIF + below(2 * N_VIFS)
							  : next_random()));
	if (below(50) == 0)
		dp_table_clear_network(table, (uint16_t)(below(4) ? below(3) : next_random()));
	if (below(50) == 0 && dp_table_clear_uplink(table, UPLINK) == 0)
		REQUIRE(dp_table_set_uplink(table, UPLINK) == 0);
	if (below(10) == 0)
		dp_table_set_up(table, (uint16_t)(below(4) ? FIRST_VIF + n : next_random()),
				below(2));
	free(row);
}

static void try_network_row(struct dp_table *table)
{
	size_t len = below(10) ? DP_NETWORK_ROW_LEN : below(2 * DP_NETWORK_ROW_LEN);
	uint8_t *row = allocate(len);

	for (size_t i = 0; i < len; i++)
		row[i] = (uint8_t)next_random();
	/* Mostly good ones: a network whose MTU has changed takes no vif row of ours. */
	if (len == DP_NETWORK_ROW_LEN && below(20)) {
		network_row(row, (uint16_t)below(3), (uint8_t)below(3), below(2));
		mutate(row, len, below(4) ? 0 : below(3));
	}
	dp_table_set_network(table, row, len);
	free(row);
}

/* Clear all: when every vif is gone, so is every key, member and count of one. */
static void clear_table(struct dp_table *table)
{
	for (uint16_t id = 0; id < DP_MAX_NETWORKS; id++)
		REQUIRE(dp_table_clear_network(table, id) == 0 || !table->networks[id].used ||
			table->networks[id].first != DP_NO_PORT);
	for (uint16_t port = 0; port < DP_MAX_PORTS; port++)
		if (dp_table_clear(table, port) != 0)
			dp_table_clear_uplink(table, port);
	REQUIRE(table->index.n_keys == 0);
	for (size_t i = 0; i < DP_INDEX_SIZE; i++)
		REQUIRE(table->index.keys[i].kind == 0);
	for (size_t i = 0; i <= 32; i++)
		REQUIRE(table->index.n_len4[i] == 0);
	for (size_t i = 0; i <= 128; i++)
		REQUIRE(table->index.n_len6[i] == 0);
	for (size_t i = 0; i < DP_MAX_NETWORKS; i++)
		REQUIRE(table->networks[i].first == DP_NO_PORT && table->networks[i].n_up == 0);
	for (uint16_t id = 0; id < DP_MAX_NETWORKS; id++) {
		dp_table_clear_network(table, id);
		REQUIRE(!table->networks[id].used && table->networks[id].uplink == DP_NO_PORT);
	}
	for (size_t i = 0; i < DP_MAX_PORTS; i++)
		REQUIRE(table->ports[i].kind == DP_PORT_FREE &&
			table->ports[i].network == DP_NO_PORT);
}

int main(void)
{
	struct dp_table *table = make_table();
	static struct draft draft;

	try_frames(table);
	/* Runs that hardly ever got past the checks would prove nothing. */
	REQUIRE(passed[0] > tried[0] / 20 && passed[1] > tried[1] / 20);
	REQUIRE(n_segments > N_FRAMES / 20);
	REQUIRE(n_claims > 100 && n_yields > 100);

	/* From here on anything may be bound, so only the sanitizers judge a frame. */
	for (unsigned long i = 0; i < N_ROWS; i++) {
		struct dp_frame frame = {0};
		struct dp_decision decision;
		uint8_t *data;

		if (i % 500 == 0) {
			clear_table(table);
			make_networks(table);
		}
		try_row(table);
		if (below(20) == 0)
			try_network_row(table);
		draft_frame(&draft, below(N_VIFS));
		data = copy_of(draft.bytes, draft.len);
		dp_forward_from_vif(table, (uint16_t)(FIRST_VIF + draft.from), &frame, data,
				    draft.len, i * 10000000, &decision);
		dp_forward_from_uplink(table, UPLINK, &frame, data, draft.len, &decision);
		free(data);
	}
	REQUIRE(n_rows > N_ROWS / 20);
	clear_table(table);
	printf("%lu of %lu passed from vifs, %lu of %lu from the wire, %lu segments, %lu rows\n",
	       passed[0], tried[0], passed[1], tried[1], n_segments, n_rows);
	free(table);
	return 0;
}
