/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets in pieces, which are not put together here.
 *
 * The first piece has the ports and is judged; the others do as it did.  One that comes
 * before the first is not waited for.  The oldest is forgotten for a new one: who
 * begins many packets and ends none makes nobody else wait.
 */
#include <string.h>

#include "flow.h"

/* As long as Linux waits for the rest (net.ipv4.ipfrag_time). */
#define PIECE_NS 30000000000ull

#define EXT_FRAGMENT 44
#define EXT_AUTH 51

size_t dp_frame_find_ext(const struct dp_frame *frame, uint8_t type)
{
	const uint8_t *data = frame->data;
	size_t end = frame->has_l4 ? frame->l4_off : frame->l3_end;
	size_t at = DP_ETH_LEN + 40;
	uint8_t next = data[DP_ETH_LEN + 6];

	/* The parser has seen that every header up to @end is there and fits. */
	for (unsigned int i = 0; i <= DP_MAX_EXT_HEADERS && at + 8 <= end; i++) {
		if (next == type)
			return at;
		switch (next) {
		case 0: /* hop-by-hop, routing, destination options, mobility, HIP, shim6 */
		case 43:
		case 60:
		case 135:
		case 139:
		case 140:
			next = data[at];
			at += ((size_t)data[at + 1] + 1) * 8;
			break;
		case EXT_FRAGMENT:
			if (dp_get16(data + at + 2) >> 3)
				return 0;
			next = data[at];
			at += 8;
			break;
		case EXT_AUTH:
			next = data[at];
			at += ((size_t)data[at + 1] + 2) * 4;
			break;
		default:
			return 0;
		}
	}
	return 0;
}

static void describe(struct dp_piece *piece, const struct dp_frame *frame, uint8_t direction)
{
	const uint8_t *ip = frame->data + DP_ETH_LEN;
	size_t at;

	memset(piece, 0, sizeof(*piece));
	piece->direction = direction;
	if (frame->l3 == DP_L3_IPV4) {
		memcpy(piece->addr[0], ip + 12, 4);
		memcpy(piece->addr[1], ip + 16, 4);
		piece->id = dp_get16(ip + 4);
		piece->proto = frame->l4_proto;
		piece->family = 4;
		return;
	}
	memcpy(piece->addr, ip + 8, sizeof(piece->addr));
	at = dp_frame_find_ext(frame, EXT_FRAGMENT);
	piece->id = at ? dp_get32(frame->data + at + 4) : 0;
	piece->family = 6;
}

static bool is_same(const struct dp_piece *a, const struct dp_piece *b)
{
	return a->id == b->id && a->proto == b->proto && a->family == b->family &&
	       a->direction == b->direction && memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

void dp_flow_piece_add(struct dp_flows *flows, const struct dp_frame *frame, uint8_t direction,
		       bool passes, uint64_t now_ns)
{
	struct dp_piece piece, *to = &flows->pieces[0];

	describe(&piece, frame, direction);
	for (unsigned int i = 0; i < DP_MAX_PIECES; i++) {
		struct dp_piece *other = &flows->pieces[i];

		if (other->expires_ns && is_same(other, &piece)) {
			to = other;
			break;
		}
		if (other->expires_ns < to->expires_ns)
			to = other;
	}
	piece.passes = passes;
	piece.expires_ns = now_ns + PIECE_NS;
	*to = piece;
}

bool dp_flow_piece_passes(const struct dp_flows *flows, const struct dp_frame *frame,
			  uint8_t direction, uint64_t now_ns)
{
	struct dp_piece piece;

	describe(&piece, frame, direction);
	for (unsigned int i = 0; i < DP_MAX_PIECES; i++)
		if (flows->pieces[i].expires_ns > now_ns && is_same(&flows->pieces[i], &piece))
			return flows->pieces[i].passes;
	return false;
}
