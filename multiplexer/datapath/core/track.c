/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frame to its flow: the key, the direction and the state.
 */
#include "track.h"

#include <string.h>

#define IPV4_HEADER 20
#define IPV6_HEADER 40
/* Of the packet in an ICMP error that much is there behind its IP header (RFC 792). */
#define QUOTED 8

/* ICMP (RFC 792, 950) and ICMPv6 (RFC 4443, 4620): questions, and what answers them. */
enum {
	ICMP_ECHO_REPLY = 0,
	ICMP_ECHO = 8,
	ICMP_TIMESTAMP = 13,
	ICMP_TIMESTAMP_REPLY = 14,
	ICMP_INFO = 15,
	ICMP_INFO_REPLY = 16,
	ICMP_ADDRESS = 17,
	ICMP_ADDRESS_REPLY = 18,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_NODE_QUERY = 139,
	ICMPV6_NODE_REPLY = 140,
};

_Static_assert(sizeof(struct dp_flow_key) == 40, "five words, and no padding");

/* Of a packet, whole or quoted, all that its flow is known by. */
struct packet {
	const uint8_t *src, *dst;
	const uint8_t *l4;
	size_t room; /* bytes at @l4 */
	uint8_t family;
	uint8_t proto;
};

enum kind { KIND_FLOW, KIND_QUESTION, KIND_ANSWER, KIND_ERROR, KIND_UNTRACKED, KIND_INVALID };

static uint64_t mix(uint64_t x)
{
	/* The finaliser of MurmurHash3: every input bit reaches every output bit. */
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

uint32_t dp_track_bucket(const struct dp_flows *flows, const struct dp_flow_key *key)
{
	uint64_t word[5];

	memcpy(word, key, sizeof(word));
	word[0] = mix(word[0] ^ flows->seed) + word[2];
	word[0] ^= mix(word[1] ^ word[4]) + word[3];
	return (uint32_t)(mix(word[0]) & (DP_FLOW_BUCKETS - 1));
}

_Static_assert((DP_FLOW_BUCKETS & (DP_FLOW_BUCKETS - 1)) == 0, "a bucket is masked");

static uint32_t find(const struct dp_flows *flows, const struct dp_flow_key *key, uint32_t bucket)
{
	uint32_t id = flows->buckets[bucket];

	for (uint32_t i = 0; i < DP_MAX_FLOWS && id; i++) {
		if (memcmp(&flows->flows[id].key, key, sizeof(*key)) == 0)
			return id;
		id = flows->flows[id].next;
	}
	return DP_NO_FLOW;
}

/* ---- packets ---- */

static enum kind icmp_kind(const struct packet *packet, uint8_t *query)
{
	uint8_t type = packet->l4[0];

	if (packet->family == 4) {
		switch (type) {
		case ICMP_ECHO:
		case ICMP_TIMESTAMP:
		case ICMP_INFO:
		case ICMP_ADDRESS:
			*query = type;
			return KIND_QUESTION;
		case ICMP_ECHO_REPLY:
			*query = ICMP_ECHO;
			return KIND_ANSWER;
		case ICMP_TIMESTAMP_REPLY:
		case ICMP_INFO_REPLY:
		case ICMP_ADDRESS_REPLY:
			*query = (uint8_t)(type - 1);
			return KIND_ANSWER;
		case 3: /* unreachable, source quench, redirect, time exceeded, parameter problem */
		case 4:
		case 5:
		case 11:
		case 12:
			return KIND_ERROR;
		default:
			return KIND_INVALID;
		}
	}
	switch (type) {
	case ICMPV6_ECHO:
	case ICMPV6_NODE_QUERY:
		*query = type;
		return KIND_QUESTION;
	case ICMPV6_ECHO_REPLY:
	case ICMPV6_NODE_REPLY:
		*query = (uint8_t)(type - 1);
		return KIND_ANSWER;
	case 130: /* MLD (RFC 2710, RFC 3810) */
	case 131:
	case 132:
	case 133: /* router and neighbour discovery (RFC 4861), but no redirect */
	case 134:
	case 135:
	case 136:
	case 143:
		return KIND_UNTRACKED;
	default:
		return type < 128 ? KIND_ERROR : KIND_INVALID;
	}
}

static bool is_icmp(const struct packet *packet)
{
	return packet->proto == (packet->family == 4 ? DP_IPPROTO_ICMP : DP_IPPROTO_ICMPV6);
}

/* What a packet is, and its ports, or what stands for them. */
static enum kind kind_of(const struct packet *packet, struct dp_flow_key *key, uint16_t *from,
			 uint16_t *to)
{
	enum kind kind;

	switch (packet->proto) {
	case DP_IPPROTO_TCP:
	case DP_IPPROTO_UDP:
	case DP_IPPROTO_UDPLITE:
	case DP_IPPROTO_SCTP:
	case DP_IPPROTO_DCCP:
		if (packet->room < QUOTED)
			return KIND_INVALID;
		*from = dp_get16(packet->l4);
		*to = dp_get16(packet->l4 + 2);
		return KIND_FLOW;
	default:
		break;
	}
	if (!is_icmp(packet))
		return KIND_FLOW;
	if (packet->room < QUOTED)
		return KIND_INVALID;
	kind = icmp_kind(packet, &key->query);
	if (kind == KIND_QUESTION || kind == KIND_ANSWER)
		*from = *to = dp_get16(packet->l4 + 4);
	return kind;
}

/* Fills the key, and tells which end is the source. */
static enum kind key_of(const struct packet *packet, struct dp_flow_key *key, uint8_t *side)
{
	size_t len = packet->family == 4 ? 4 : 16;
	uint16_t from = 0, to = 0;
	enum kind kind;
	int order;

	memset(key, 0, sizeof(*key));
	key->family = packet->family;
	key->proto = packet->proto;
	kind = kind_of(packet, key, &from, &to);
	order = memcmp(packet->src, packet->dst, len);
	*side = order > 0 || (order == 0 && from > to);
	memcpy(key->addr[*side], packet->src, len);
	memcpy(key->addr[!*side], packet->dst, len);
	key->port[*side] = from;
	key->port[!*side] = to;
	key->asker = kind == KIND_ANSWER ? !*side : kind == KIND_QUESTION ? *side : 0;
	return kind;
}

static void packet_of(const struct dp_frame *frame, struct packet *packet)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;
	bool ipv4 = frame->l3 == DP_L3_IPV4;

	packet->family = ipv4 ? 4 : 6;
	packet->src = ip + (ipv4 ? 12 : 8);
	packet->dst = ip + (ipv4 ? 16 : 24);
	packet->proto = frame->l4_proto;
	packet->l4 = frame->has_l4 ? frame->data + frame->l4_off : NULL;
	packet->room = frame->has_l4 ? frame->l3_end - frame->l4_off : 0;
}

/* The packet that an ICMP error quotes, if its flow can be told. */
static bool quoted_packet(const struct packet *error, struct packet *packet)
{
	const uint8_t *ip = error->l4 + 8;
	size_t room = error->room - 8, header;

	packet->family = error->family;
	if (packet->family == 4) {
		if (room < IPV4_HEADER || ip[0] >> 4 != 4 || dp_get16(ip + 6) & 0x1fff)
			return false;
		header = (size_t)(ip[0] & 0x0f) * 4;
		packet->proto = ip[9];
		if (header < IPV4_HEADER)
			return false;
	} else {
		if (room < IPV6_HEADER || ip[0] >> 4 != 6)
			return false;
		header = IPV6_HEADER;
		packet->proto = ip[6];
	}
	if (room < header + QUOTED)
		return false;
	packet->src = ip + (packet->family == 4 ? 12 : 8);
	packet->dst = ip + (packet->family == 4 ? 16 : 24);
	packet->l4 = ip + header;
	packet->room = QUOTED;
	return true;
}

/* ---- TCP ---- */

/* Whether some TCP would send these flags (nf_conntrack_proto_tcp.c, tcp_valid_flags). */
static bool tcp_flags_valid(uint8_t flags)
{
	switch (flags & (DP_TCP_FIN | DP_TCP_SYN | DP_TCP_RST | DP_TCP_ACK | DP_TCP_URG)) {
	case DP_TCP_SYN:
	case DP_TCP_SYN | DP_TCP_URG:
	case DP_TCP_SYN | DP_TCP_ACK:
	case DP_TCP_RST:
	case DP_TCP_RST | DP_TCP_ACK:
	case DP_TCP_FIN | DP_TCP_ACK:
	case DP_TCP_FIN | DP_TCP_ACK | DP_TCP_URG:
	case DP_TCP_ACK:
	case DP_TCP_ACK | DP_TCP_URG:
		return true;
	default:
		return false;
	}
}

/* A connection begins with a SYN; one that is under way is taken up with an ACK. */
static bool tcp_may_begin(uint8_t flags)
{
	uint8_t kind = flags & (DP_TCP_FIN | DP_TCP_SYN | DP_TCP_RST | DP_TCP_ACK);

	return kind == DP_TCP_SYN || kind == DP_TCP_ACK;
}

bool dp_track_tcp_reopens(uint8_t tcp, uint8_t flags)
{
	return tcp >= DP_TCP_CLOSING && (flags & (DP_TCP_SYN | DP_TCP_ACK)) == DP_TCP_SYN;
}

uint8_t dp_track_tcp_next(uint8_t tcp, uint8_t flags, bool reply)
{
	if (flags & DP_TCP_RST)
		return DP_TCP_RESET;
	if (tcp == DP_TCP_NONE)
		return flags & DP_TCP_SYN ? DP_TCP_SYN_SENT : DP_TCP_OPEN;
	if (tcp == DP_TCP_SYN_SENT && reply && flags & DP_TCP_SYN)
		return DP_TCP_SYN_RECV;
	if (flags & DP_TCP_FIN && tcp >= DP_TCP_SYN_RECV && tcp != DP_TCP_RESET)
		return DP_TCP_CLOSING;
	if (tcp == DP_TCP_SYN_RECV && !reply && flags & DP_TCP_ACK)
		return DP_TCP_OPEN;
	return tcp;
}

/* ---- the frame ---- */

static void find_related(const struct dp_flows *flows, const struct packet *error, uint64_t now_ns,
			 struct dp_track *track)
{
	struct packet quoted;
	const struct dp_flow *flow;
	struct dp_flow_key key;
	enum kind kind;
	uint8_t side;
	uint32_t id;

	track->state = DP_FLOW_INVALID;
	if (!quoted_packet(error, &quoted))
		return;
	kind = key_of(&quoted, &key, &side);
	if (kind != KIND_FLOW && kind != KIND_QUESTION && kind != KIND_ANSWER)
		return;
	id = find(flows, &key, dp_track_bucket(flows, &key));
	flow = &flows->flows[id];
	if (!id || flow->expires_ns <= now_ns)
		return;
	track->state = DP_FLOW_RELATED;
	track->flow = id;
	/* What tells of a packet goes the other way. */
	track->reply = side == flow->origin;
}

static bool may_begin(const struct dp_track *track, enum kind kind)
{
	if (kind == KIND_ANSWER)
		return false;
	return track->key.proto != DP_IPPROTO_TCP || tcp_may_begin(track->tcp_flags);
}

void dp_flow_find(const struct dp_flows *flows, const struct dp_frame *frame, uint64_t now_ns,
		  struct dp_track *track)
{
	const struct dp_flow *flow;
	struct packet packet;
	enum kind kind;

	packet_of(frame, &packet);
	track->flow = DP_NO_FLOW;
	track->counted = 0;
	track->state = DP_FLOW_INVALID;
	track->reply = false;
	track->side = 0;
	track->tcp_flags = 0;
	track->begins = false;
	track->expired = false;
	track->bucket = 0;
	kind = key_of(&packet, &track->key, &track->side);
	if (kind == KIND_ERROR) {
		find_related(flows, &packet, now_ns, track);
		return;
	}
	if (kind == KIND_UNTRACKED)
		track->state = DP_FLOW_UNTRACKED;
	if (kind == KIND_UNTRACKED || kind == KIND_INVALID)
		return;
	if (packet.proto == DP_IPPROTO_TCP) {
		if (packet.room < 20 || !tcp_flags_valid(packet.l4[13]))
			return;
		track->tcp_flags = packet.l4[13];
	}
	track->bucket = dp_track_bucket(flows, &track->key);
	track->flow = find(flows, &track->key, track->bucket);
	flow = &flows->flows[track->flow];
	track->expired = track->flow && flow->expires_ns <= now_ns;
	if (track->flow && !track->expired) {
		track->begins = flow->key.proto == DP_IPPROTO_TCP &&
				dp_track_tcp_reopens(flow->tcp, track->tcp_flags);
		track->reply = !track->begins && track->side != flow->origin;
		track->state = track->reply || (flow->replied && !track->begins) ?
				       DP_FLOW_ESTABLISHED :
				       DP_FLOW_NEW;
	} else if (may_begin(track, kind)) {
		track->begins = true;
		track->state = DP_FLOW_NEW;
	}
}
