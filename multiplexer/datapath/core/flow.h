/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h - The connections of one vif, as its filter's states need them
 *
 * Each vif has a table of its own, of fixed size: what one opens costs no other.  Both
 * ends of a flow see the same frames, so their tables agree on it.
 *
 * The meaning is that of Linux (nf_conntrack): a flow is NEW until an answer was seen,
 * and it is remembered only after its first frame has passed everything.  TCP that is
 * met in midstream is taken up; flags that no TCP sends are INVALID; sequence numbers
 * are not followed.  An ICMP error is RELATED to the flow whose packet it holds.
 *
 * Flows of one timeout stand in one queue, the least recently used at its head, so what
 * has expired is found at the heads.  Where the table is full the oldest flow without
 * an answer goes, then one that is closing; an established one never does, and a new one
 * is refused instead.
 *
 * To find changes nothing.  Time comes in as an argument.
 */
#ifndef DP_FLOW_H
#define DP_FLOW_H

#include "frame.h"

#define DP_MAX_FLOWS 16384
#define DP_FLOW_BUCKETS (2 * DP_MAX_FLOWS)
/* Flows are numbered from 1 on, so that untouched memory is an empty table. */
#define DP_NO_FLOW 0
/* Rules of one filter that count connections: one bit each in struct dp_flow. */
#define DP_MAX_COUNTS 32
#define DP_COUNT_SLOTS (4 * DP_MAX_FLOWS)
/* Packets in pieces of which the first was seen, at one time. */
#define DP_MAX_PIECES 64

/* What a frame is to the flow that it belongs to. */
enum dp_flow_state {
	DP_FLOW_NEW = 0,
	DP_FLOW_ESTABLISHED,
	DP_FLOW_RELATED,
	DP_FLOW_INVALID,
	DP_FLOW_UNTRACKED, /* neighbour discovery and group membership: in no state at all */
	DP_N_FLOW_STATES,
};

/* The queues, by timeout.  Up to the last of the first kind nobody has answered, or not for good. */
enum dp_flow_queue {
	DP_QUEUE_ICMP_NEW = 0,
	DP_QUEUE_UDP_NEW,
	DP_QUEUE_TCP_SYN,
	DP_QUEUE_TCP_SYN_RECV,
	DP_QUEUE_TCP_PICKED_UP,
	DP_QUEUE_OTHER_NEW,
	DP_QUEUE_TCP_RESET,
	DP_QUEUE_TCP_CLOSING,
	DP_QUEUE_ICMP,
	DP_QUEUE_UDP,
	DP_QUEUE_TCP,
	DP_QUEUE_OTHER,
	DP_N_QUEUES,
};

/* Both ends of a flow, in an order that does not depend on who sends. */
struct dp_flow_key {
	uint8_t addr[2][16]; /* IPv4: the first four bytes, the others are zero */
	uint16_t port[2];    /* of ICMP: its identifier, twice */
	uint8_t proto;
	uint8_t family; /* 4 or 6 */
	uint8_t query;  /* ICMP: the type that asks */
	uint8_t asker;  /* ICMP: which end asks */
};

struct dp_flow {
	struct dp_flow_key key;
	uint64_t expires_ns;
	uint32_t next;         /* in its bucket */
	uint32_t older, newer; /* in its queue */
	uint8_t queue;         /* enum dp_flow_queue */
	uint8_t origin;        /* which end began it */
	bool replied;
	uint8_t tcp;         /* what TCP has come to: flow.c */
	uint32_t counted[2]; /* the rules that count it, by which end was the frame's source */
};

/* How many flows of a source one rule counts. */
struct dp_count {
	uint8_t addr[16];
	uint32_t n; /* 0: the slot is empty */
	uint8_t rule;
	uint8_t family;
};

/* A packet in pieces: what became of the first goes for the others. */
struct dp_piece {
	uint8_t addr[2][16];
	uint64_t expires_ns; /* 0: unused */
	uint32_t id;
	uint8_t proto;
	uint8_t family;
	uint8_t direction;
	bool passes;
};

struct dp_flow_queue_ends {
	uint32_t oldest, newest;
};

struct dp_flows {
	uint64_t seed;
	uint32_t n_used;  /* flows, from the first one on, that were ever used */
	uint32_t n_flows; /* that are in use now */
	uint32_t n_counts;
	uint32_t last; /* that was found, or DP_NO_FLOW */
	uint32_t free; /* those that are in use no more, by their next */
	struct dp_flow_queue_ends queues[DP_N_QUEUES];
	uint32_t buckets[DP_FLOW_BUCKETS];
	struct dp_flow flows[DP_MAX_FLOWS + 1];
	struct dp_count counts[DP_COUNT_SLOTS];
	struct dp_piece pieces[DP_MAX_PIECES];
};

/* What was found out about one frame. */
struct dp_track {
	struct dp_flow_key key;
	uint32_t flow;      /* that it belongs to, or DP_NO_FLOW */
	uint32_t counted;   /* rules that are to count it, beside those that do */
	uint8_t state;      /* enum dp_flow_state */
	bool reply;         /* against the direction in which the flow began */
	uint8_t side;       /* which end of the key is the frame's source */
	uint8_t tcp_flags;
	bool begins;        /* the flow begins anew with it */
	bool expired;       /* @flow is over, and stands there still */
};

/** dp_flows_size() - Bytes that a table takes */
size_t dp_flows_size(void);

/**
 * dp_flows_init() - Make an empty table
 * @flows:	dp_flows_size() bytes, all zero
 * @seed:	Of the hash; random
 */
void dp_flows_init(struct dp_flows *flows, uint64_t seed);

/**
 * dp_flow_find() - Find what a frame is to the connections that there are
 * @flows:	Table
 * @frame:	Parsed; IPv4 or IPv6 without fault, and no later fragment
 * @now_ns:	Monotonic clock
 * @track:	Filled
 */
void dp_flow_find(const struct dp_flows *flows, const struct dp_frame *frame, uint64_t now_ns,
		  struct dp_track *track);

/** dp_flow_note() - Let the flow that was found know of its frame; what has expired goes */
void dp_flow_note(struct dp_flows *flows, uint64_t now_ns, struct dp_track *track);

/**
 * dp_flow_confirm() - Remember the flow of a frame that has passed everything
 * Return: whether it is known now, or need not be; false where the table is full
 */
bool dp_flow_confirm(struct dp_flows *flows, uint64_t now_ns, struct dp_track *track);

/**
 * dp_flow_count() - How many connections a source has with a frame's
 * @rule:	Below DP_MAX_COUNTS; confirming lets it count this one
 *
 * Return: the number, of those that the rule counts and this one, or UINT32_MAX where
 * no more can be counted
 */
uint32_t dp_flow_count(const struct dp_flows *flows, struct dp_track *track, unsigned int rule);

/** dp_flows_recount() - Forget what rules have counted, since the rules are others now */
void dp_flows_recount(struct dp_flows *flows);

/**
 * dp_flow_piece_add() - Remember what became of a packet's first piece
 * @frame:	A first fragment
 * @direction:	In which it was judged
 */
void dp_flow_piece_add(struct dp_flows *flows, const struct dp_frame *frame, uint8_t direction,
		       bool passes, uint64_t now_ns);

/**
 * dp_flow_piece_passes() - Whether the first piece of a packet was seen, and passed
 * @frame:	A later fragment
 */
bool dp_flow_piece_passes(const struct dp_flows *flows, const struct dp_frame *frame,
			  uint8_t direction, uint64_t now_ns);

/**
 * dp_frame_find_ext() - Where an extension header of IPv6 stands
 * @frame:	Parsed IPv6 without fault
 * @type:	Of the header
 *
 * Return: its offset in the frame, or 0 where there is none
 */
size_t dp_frame_find_ext(const struct dp_frame *frame, uint8_t type);

#endif
