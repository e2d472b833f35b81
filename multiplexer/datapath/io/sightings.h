/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sightings.h - Sightings on their way to who decides (core/learn.h)
 *
 * They wait in one queue until they are asked for, so nothing that a client sends
 * decides how often that is.  Of each vif a few wait at most, and the queue has room
 * for all of them: no vif can take another's place.  What does not change anything is
 * not said twice: a source is new where it is not the last one, since the vif's filter
 * is what it is.  And a vif has so many a second, whatever it sends.
 */
#ifndef DP_IO_SIGHTINGS_H
#define DP_IO_SIGHTINGS_H

#include "../core/gate.h"
#include "../core/learn.h"
#include "../core/table.h"

/* Of one vif: waiting at one time, and in a second. */
#define DP_SIGHTINGS_WAITING 4
#define DP_SIGHTINGS_PER_S 10

struct dp_loop;
struct dp_rx;

struct dp_sighted {
	uint16_t port;
	struct dp_sighting what;
};

struct dp_sightings {
	bool told;      /* that there are some, since they were last asked for */
	uint32_t at, n; /* of the queue, in a circle */
	uint8_t waiting[DP_MAX_PORTS];
	uint8_t source[DP_MAX_PORTS][4]; /* the last one of each vif; zero: there was none */
	struct dp_bucket buckets[DP_MAX_PORTS];
	struct dp_sighted queue[DP_MAX_PORTS * DP_SIGHTINGS_WAITING];
};

/**
 * dp_sightings_note() - Read a frame that a vif's gate, which learns, has let pass
 * @port:	The vif
 * @direction:	From it or to it
 * @frame:	Parsed
 * @rx:		Where the rest of it is; gathered, if it must be read
 */
void dp_sightings_note(struct dp_loop *loop, uint16_t port, enum dp_gate_direction direction,
		       const struct dp_frame *frame, struct dp_rx *rx);

/** dp_sightings_renew() - A vif's filter is another one: what was said may be news again */
void dp_sightings_renew(struct dp_sightings *sightings, uint16_t port);

/** dp_sightings_forget() - Forget all of a vif */
void dp_sightings_forget(struct dp_sightings *sightings, uint16_t port);

/** dp_sightings_next() - Take the one that has waited longest; whether there was one */
bool dp_sightings_next(struct dp_sightings *sightings, struct dp_sighted *sighted);

#endif
