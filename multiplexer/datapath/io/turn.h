/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn.h - Who may go next, and for how long: deficit round robin
 *
 * The engine is one thread, so what it does for one port the others wait for.  In
 * each round every ready port earns the same quantum, and one that has credit is
 * served and pays for what it caused (M. Shreedhar, G. Varghese: Efficient Fair
 * Queuing Using Deficit Round-Robin, SIGCOMM 1995).  What a read holds is known only
 * afterwards, so a port may fall into debt; then it stands back until it has earned
 * that.  Nothing is kept for later: who was away comes back with one quantum at most.
 *
 * A round is one return of epoll.  If all who are ready are in debt nobody has to
 * wait for somebody else, and the rounds are skipped in which nothing would happen.
 *
 * What is paid is work, not frames: each frame read and each copy written costs its
 * bytes and a fixed part, for which short frames are dear.  A frame that a vif may
 * not send costs far more than the checking, and who sends many of them in a turn is
 * left alone for a nap (loop.h): nobody keeps the engine's processor busy with those.
 *
 * The rounds are short where many are ready: a frame that has just come waits for
 * one, so a crowd of flooding neighbours may not make it long.
 */
#ifndef DP_IO_TURN_H
#define DP_IO_TURN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * In units of about a tenth of a nanosecond, what one byte takes to be read or to be
 * written: what a frame takes beside its bytes on either side; a rule; a system call; a
 * turn beside its frames.  Measured, and rough: only the ratios of ports to each other
 * follow from it.
 */
#define DP_COST_FRAME 192
#define DP_COST_RULE 40 /* of a filter, for the first frame of a kind */
#define DP_COST_CALL 8192
#define DP_COST_TURN (2 * DP_COST_CALL)
#define DP_COST_REFUSED (2 * DP_COST_CALL)

/* So many refused frames in one turn are many. */
#define DP_MANY_REFUSED 8

/* What all ports that are ready may cause in one round, and each of them at least. */
#define DP_ROUND_COST (2 * 1024 * 1024)
#define DP_MIN_QUANTUM (192 * 1024)

/* How long it takes to see who sends much, though each turn finds little. */
#define DP_SPELL_OF_TURNS_NS 1000000

/* Behind an uplink stand many; it earns as much as so many vifs. */
#define DP_UPLINK_WEIGHT 4

/* A port's account with the rounds.  It outlives an attachment: nobody sheds a debt by coming anew. */
struct dp_turn {
	int64_t credit;
	uint64_t round; /* until which it has earned */
	uint64_t since_ns; /* of what it has paid: */
	int64_t paid;
	bool busy;      /* in the spell before, it had the engine for a quarter of the time */
	bool heavy;     /* that, or its last turn took most of what it might */
};

/**
 * dp_turn_quantum() - What each of @n_ready ports earns in a round, at least DP_MIN_QUANTUM
 */
int64_t dp_turn_quantum(unsigned int n_ready);

/**
 * dp_turn_credit() - Give a ready port what it has earned up to a round
 * @round:	Of now; each port that is ready is given its credit in every round
 * @quantum:	Of this round
 *
 * Return: how many more rounds it has to stand back; 0: it may go
 */
uint64_t dp_turn_credit(struct dp_turn *turn, uint64_t round, int64_t quantum);

/**
 * dp_turn_pay() - Charge a port for its turn
 * @cost:	Of all that was read and written
 * @now_ns:	Never less than before
 */
void dp_turn_pay(struct dp_turn *turn, int64_t cost, uint64_t now_ns);

#endif
