/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frame to its flow: the key, the direction and the state.
 */
#include "track.h"

#include <stddef.h>
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

/*
 * A key as it is made, compared and hashed, all at once: what was stored by halves could
 * not be loaded again as one before it has come to the cache.
 */
struct words {
	uint64_t word[5];
};

static inline struct words words_of(const struct dp_flow_key *key)
{
	struct words words;

	memcpy(&words, key, sizeof(words));
	return words;
}

static inline void put_words(struct dp_flow_key *key, const struct words *words)
{
	uint8_t *to = (uint8_t *)key;

	/* Word by word, so that they need not stand in memory before. */
	for (unsigned int i = 0; i < 5; i++)
		memcpy(to + i * sizeof(uint64_t), &words->word[i], sizeof(uint64_t));
}

__extension__ typedef unsigned __int128 product;

/* Both halves of a product: each bit of it depends on most bits of both numbers. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
	product both = (product)a * b;

	return (uint64_t)both ^ (uint64_t)(both >> 64);
}

/*
 * Whoever chooses addresses and ports must not know what makes a factor zero, so the seed
 * is in each of them; the numbers are the fractions of the square roots of 2, 3, 5, 7, 11.
 */
static inline uint32_t bucket_of(const struct dp_flows *flows, const struct words *words)
{
	const uint64_t *word = words->word;
	uint64_t seed = flows->seed, turned = seed << 32 | seed >> 32;
	uint64_t low = fold(word[0] ^ seed ^ 0x6a09e667f3bcc908ull,
			    word[2] ^ turned ^ 0xbb67ae8584caa73bull);
	uint64_t high = fold(word[1] ^ turned ^ 0x3c6ef372fe94f82bull,
			     word[3] ^ seed ^ 0xa54ff53a5f1d36f1ull);

	return (uint32_t)fold(low ^ word[4] ^ 0x510e527fade682d1ull, high ^ seed) &
	       (DP_FLOW_BUCKETS - 1);
}

_Static_assert((DP_FLOW_BUCKETS & (DP_FLOW_BUCKETS - 1)) == 0, "a bucket is masked");

uint32_t dp_track_bucket(const struct dp_flows *flows, const struct dp_flow_key *key)
{
	struct words words = words_of(key);

	return bucket_of(flows, &words);
}

static inline bool is_key(const struct dp_flow_key *key, const struct words *words)
{
	struct words other = words_of(key);
	uint64_t differs = 0;

	for (unsigned int i = 0; i < 5; i++)
		differs |= other.word[i] ^ words->word[i];
	return !differs;
}

static inline uint32_t find(const struct dp_flows *flows, const struct words *words)
{
	uint32_t id = flows->buckets[bucket_of(flows, words)];

	for (uint32_t i = 0; i < DP_MAX_FLOWS && id; i++) {
		if (is_key(&flows->flows[id].key, words))
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
static enum kind kind_of(const struct packet *packet, uint8_t *query, uint16_t *from,
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
	kind = icmp_kind(packet, query);
	if (kind == KIND_QUESTION || kind == KIND_ANSWER)
		*from = *to = dp_get16(packet->l4 + 4);
	return kind;
}

_Static_assert(offsetof(struct dp_flow_key, port) == 32, "the fifth word");
_Static_assert(offsetof(struct dp_flow_key, asker) == 39, "its last byte");

/* A number whose byte @n, in memory, is that bits 8 * n to 8 * n + 7 of @value. */
static inline uint64_t in_memory(uint64_t value)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return value;
#else
	return __builtin_bswap64(value);
#endif
}

/* An address of IPv4 as the first of two words of a key; the other is zero. */
static inline uint64_t ipv4_word(const uint8_t *addr)
{
	return in_memory((uint64_t)addr[0] | (uint64_t)addr[1] << 8 | (uint64_t)addr[2] << 16 |
			 (uint64_t)addr[3] << 24);
}

static inline uint64_t load64(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

/*
 * Makes the key, and tells which end is the source; their order is any, and the same both
 * ways.
 */
static inline enum kind key_of(const struct packet *packet, struct words *words, uint8_t *side)
{
	uint16_t from = 0, to = 0;
	uint8_t query = 0, asker;
	const uint8_t *first, *second;
	uint64_t ports;
	enum kind kind = kind_of(packet, &query, &from, &to);
	/* Who asks itself has an answer nevertheless. */
	bool later = from > to || kind == KIND_ANSWER;

	if (packet->family == 4) {
		uint32_t src = dp_get32(packet->src), dst = dp_get32(packet->dst);

		*side = src > dst || (src == dst && later);
	} else {
		int order = memcmp(packet->src, packet->dst, 16);

		*side = order > 0 || (order == 0 && later);
	}
	first = *side ? packet->dst : packet->src;
	second = *side ? packet->src : packet->dst;
	if (packet->family == 4) {
		words->word[0] = ipv4_word(first);
		words->word[1] = 0;
		words->word[2] = ipv4_word(second);
		words->word[3] = 0;
	} else {
		words->word[0] = load64(first);
		words->word[1] = load64(first + 8);
		words->word[2] = load64(second);
		words->word[3] = load64(second + 8);
	}
	ports = *side ? (uint32_t)to | (uint32_t)from << 16 : (uint32_t)from | (uint32_t)to << 16;
	asker = kind == KIND_ANSWER ? !*side : kind == KIND_QUESTION ? *side : 0;
	/* As the members of the key stand; ports are only compared, in whatever order of bytes. */
	words->word[4] = in_memory(ports | (uint64_t)packet->proto << 32 | (uint64_t)packet->family << 40 |
				   (uint64_t)query << 48 | (uint64_t)asker << 56);
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
	struct words words;
	enum kind kind;
	uint8_t side;
	uint32_t id;

	track->state = DP_FLOW_INVALID;
	if (!quoted_packet(error, &quoted))
		return;
	kind = key_of(&quoted, &words, &side);
	if (kind != KIND_FLOW && kind != KIND_QUESTION && kind != KIND_ANSWER)
		return;
	id = find(flows, &words);
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
	struct words words;
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
	kind = key_of(&packet, &words, &track->side);
	put_words(&track->key, &words);
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
	/* The flow of the frame before is mostly that of this one, too. */
	if (is_key(&flows->flows[flows->last].key, &words))
		track->flow = flows->last;
	else
		track->flow = find(flows, &words);
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
