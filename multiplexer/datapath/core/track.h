/* SPDX-License-Identifier: Apache-2.0 */
/*
 * track.h - What flow.c, track.c and count.c have between them, and nobody else needs
 */
#ifndef DP_TRACK_H
#define DP_TRACK_H

#include "flow.h"

#define DP_IPPROTO_DCCP 33
#define DP_IPPROTO_SCTP 132
#define DP_IPPROTO_UDPLITE 136

#define DP_TCP_FIN 0x01
#define DP_TCP_SYN 0x02
#define DP_TCP_RST 0x04
#define DP_TCP_PSH 0x08
#define DP_TCP_ACK 0x10
#define DP_TCP_URG 0x20

/* What a TCP connection has come to, as far as its timeout depends on it. */
enum dp_track_tcp {
	DP_TCP_NONE = 0,
	DP_TCP_SYN_SENT,
	DP_TCP_SYN_RECV,
	DP_TCP_OPEN,
	DP_TCP_CLOSING,
	DP_TCP_RESET,
};

/** dp_track_bucket() - The bucket that a key belongs to */
uint32_t dp_track_bucket(const struct dp_flows *flows, const struct dp_flow_key *key);

/** dp_track_tcp_next() - What a connection comes to by a segment; enum dp_track_tcp */
uint8_t dp_track_tcp_next(uint8_t tcp, uint8_t flags, bool reply);

/** dp_track_tcp_reopens() - Whether a segment begins a connection where one has just ended */
bool dp_track_tcp_reopens(uint8_t tcp, uint8_t flags);

/** dp_count_add() - Let a flow be counted by the rules that want to, and do not yet */
void dp_count_add(struct dp_flows *flows, struct dp_flow *flow, const struct dp_track *track);

/** dp_count_forget() - Let a flow be counted by no rule any more */
void dp_count_forget(struct dp_flows *flows, struct dp_flow *flow);

#endif
