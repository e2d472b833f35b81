/* SPDX-License-Identifier: Apache-2.0 */
#include "turn.h"

/* Enough to pay any debt; times the longest quantum, far below 63 bits. */
#define MAX_ROUNDS (1u << 20)

int64_t dp_turn_quantum(unsigned int n_ready)
{
	int64_t quantum = DP_ROUND_COST / (n_ready ? n_ready : 1);

	return quantum > DP_MIN_QUANTUM ? quantum : DP_MIN_QUANTUM;
}

uint64_t dp_turn_credit(struct dp_turn *turn, uint64_t round, int64_t quantum)
{
	uint64_t rounds = round - turn->round;

	turn->round = round;
	turn->credit += (int64_t)(rounds < MAX_ROUNDS ? rounds : MAX_ROUNDS) * quantum;
	if (turn->credit > quantum)
		turn->credit = quantum;
	return turn->credit > 0 ? 0 : (uint64_t)(-turn->credit / quantum + 1);
}

void dp_turn_pay(struct dp_turn *turn, int64_t cost, uint64_t now_ns)
{
	uint64_t spell_ns = now_ns - turn->since_ns;

	turn->paid += cost;
	if (spell_ns >= DP_SPELL_OF_TURNS_NS) {
		/* Ten units are a nanosecond. */
		turn->busy = (uint64_t)turn->paid / 10 > spell_ns / 4;
		turn->paid = 0;
		turn->since_ns = now_ns;
	}
	turn->heavy = turn->busy || 2 * cost > turn->credit;
	turn->credit -= cost;
}
