/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.h - One vif's filter, and what it knows of the frames that went through
 *
 * A frame from the vif is judged by the link layer's list, then by the network layer's;
 * one to it the other way round.  Both must let it pass.
 *
 * Of most frames all that a list looks at stands in a few words at known places.  Those
 * words, without the bits that nothing looks at, and the state of the connection are all
 * that the verdict can depend on; so it is kept by them, and the list is walked for the
 * first frame of a kind only.  What is kept belongs to this gate: other rules make
 * another one.
 *
 * A later fragment has no ports.  Where connections are followed it does as the first
 * piece of its packet did, and is dropped where that was not seen before it; elsewhere it
 * is judged by what it has.  An IP header that is no good cannot be judged, so it is
 * dropped, wherever it comes from.
 */
#ifndef DP_GATE_H
#define DP_GATE_H

#include "filter.h"
#include "limit.h"

/* Verdicts that are kept for one vif. */
#define DP_GATE_KEPT 1024

#define DP_NO_LIST 0xff

enum dp_gate_direction { DP_GATE_OUT = 0, DP_GATE_IN = 1 };

struct dp_kept {
	uint64_t key[DP_KEY_WORDS];
	uint32_t tag; /* which list, class of frames and state of a connection; 0: unused */
	uint32_t origin;
	uint8_t action;
	uint8_t decided; /* list */
};

struct dp_gate {
	const struct dp_filter *filter;
	const struct dp_filter_list *lists; /* the filter's */
	struct dp_flows *flows;   /* NULL where the filter tracks none */
	uint8_t learns;           /* the filter's */
	struct dp_bucket rejects; /* answers a second */
	/* Of each list the verdict that it used last. */
	struct dp_kept *last[DP_N_FIXED_LISTS];
	uint8_t turn;                    /* of the two places that one may be kept in */
	struct dp_kept kept[DP_GATE_KEPT];
};

/* How a frame came through a gate. */
struct dp_passage {
	uint8_t action;     /* enum dp_filter_action: accept, drop or reject */
	uint8_t direction;  /* enum dp_gate_direction */
	uint8_t layer;      /* the last that was asked: 0 link, 1 network */
	bool tracked;       /* @track is set */
	uint8_t list[2];    /* of each layer, the one that decided; DP_NO_LIST: it was not asked */
	uint32_t origin[2]; /* of each layer, that of the rule that decided, or DP_NO_RULE */
	uint32_t steps;     /* rules that were looked at */
	struct dp_track track;
};

/** dp_gate_size() - Bytes of a gate */
size_t dp_gate_size(void);

/**
 * dp_gate_init() - Make a gate
 * @gate:	dp_gate_size() bytes, all zero
 * @filter:	Loaded; stays where it is
 * @flows:	What is known of connections; of a gate before, or new.  May be NULL where
 *		the filter tracks none
 */
void dp_gate_init(struct dp_gate *gate, const struct dp_filter *filter, struct dp_flows *flows);

/**
 * dp_gate_judge() - Let a vif's filter decide over a frame
 * @gate:	Gate
 * @frame:	Parsed
 * @direction:	From the vif or to it
 * @now_ns:	Monotonic clock
 * @peek:	Change nothing: the frame only might come
 * @passage:	Filled
 *
 * The connection of a frame that is accepted is not remembered before dp_gate_confirm().
 *
 * Return: the passage's action
 */
enum dp_filter_action dp_gate_judge(struct dp_gate *gate, const struct dp_frame *frame,
				    enum dp_gate_direction direction, uint64_t now_ns, bool peek,
				    struct dp_passage *passage);

/**
 * dp_gate_confirm() - Remember the connection of a frame that has passed everything
 * Return: whether it is known, or need not be; false where there are too many
 */
bool dp_gate_confirm(struct dp_gate *gate, uint64_t now_ns, struct dp_passage *passage);

#endif
