/* SPDX-License-Identifier: Apache-2.0 */
#include "moderation.h"

bool dp_moderation_note(struct dp_moderation *moderation, uint64_t now_ns, uint32_t frames)
{
	uint64_t spell_ns = now_ns - moderation->began_ns;

	moderation->frames += frames;
	if (spell_ns >= DP_SPELL_NS) {
		/* Of a long one with pauses nobody knows when they came. */
		moderation->on = moderation->frames >= DP_SPELL_FRAMES &&
				 spell_ns < 2 * DP_SPELL_NS;
		moderation->frames = 0;
		moderation->began_ns = now_ns;
	}
	return moderation->on;
}
