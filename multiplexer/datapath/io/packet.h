/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet.h - The receive ring that the broker sets up and the engine maps
 *
 * multiplexer/uplinks/nic.py has the same numbers.  A slot takes the largest
 * frame that a local peer can send unsegmented; 35 MiB was the best of the sizes
 * measured, since more slots cost cache misses and fewer cost frames.
 */
#ifndef DP_IO_PACKET_H
#define DP_IO_PACKET_H

#define DP_RING_SLOT_LEN 66048u
#define DP_RING_BLOCK_LEN (1024u * 1024u)
#define DP_RING_BLOCKS 35u
#define DP_RING_SLOTS_PER_BLOCK (DP_RING_BLOCK_LEN / DP_RING_SLOT_LEN)
#define DP_RING_SLOTS (DP_RING_BLOCKS * DP_RING_SLOTS_PER_BLOCK)

#endif
