/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moderation.h - When to look for frames by the clock instead of being woken for each
 *
 * Whoever sends us a frame while we sleep pays for waking us, which may take longer
 * than the frame.  A NIC spares its host the same by interrupt moderation
 * (Documentation/networking/napi.rst, "Software IRQ coalescing"), and so do we: who
 * has sent many frames for a spell is looked at after naps, until few come again.
 * At such a rate a nap is a small part of what is queued; at any less nobody waits.
 */
#ifndef DP_IO_MODERATION_H
#define DP_IO_MODERATION_H

#include <stdbool.h>
#include <stdint.h>

/* How long a spell is at least, and how many frames in one are many: 160,000 in a second. */
#define DP_SPELL_NS 400000
#define DP_SPELL_FRAMES 64

struct dp_moderation {
	uint64_t began_ns; /* when the current spell began */
	uint32_t frames;   /* that came in it */
	bool on;           /* many came in the one before */
};

/**
 * dp_moderation_note() - Note the frames of a turn
 * @now_ns:	Never less than before
 *
 * Return: whether to take a nap before the next turn
 */
bool dp_moderation_note(struct dp_moderation *moderation, uint64_t now_ns, uint32_t frames);

#endif
