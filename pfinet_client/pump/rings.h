/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rings.h - A client's side of the rings of a vif
 *
 * Frames are copied into memory that the daemon reads, and out of memory that it
 * writes (pfinet_ring.h); a system call is made only to kick a daemon that sleeps,
 * and to sleep.  Whoever uses it does one thing after the other:
 *
 *	put ... put, publish		take, take, ... until there is nothing
 *	room is gone: wait_room		nothing is there: wait_frames
 *
 * and after a wait that may sleep: sleep until the kicks can be read, take_kicks.
 *
 * What must stay true: the daemon is not trusted with this process's memory.  What
 * has no meaning is -EPROTO, after which nothing else is asked.
 */
#ifndef PFINET_RINGS_H
#define PFINET_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pfinet_ring.h"

struct pfinet_rings {
	uint8_t *memory;
	size_t memory_len;
	struct pfinet_ring up, down;
	int kicks;
	uint32_t max_payload;
};

/**
 * pfinet_rings_open() - Map the memory of an attachment
 * @memory:	Its descriptor, which stays the caller's, as @kicks does
 * @kicks:	The stream that came with it
 * @vnet_len:	Bytes of virtio_net_hdr before each frame: 0 or PFINET_VNET_LEN
 *
 * Return: 0 or a negative errno, -EPROTO if it is no sealed memory of rings
 */
int pfinet_rings_open(struct pfinet_rings *rings, int memory, int kicks, size_t vnet_len);

/** pfinet_rings_close() - Unmap it; more than once is allowed */
void pfinet_rings_close(struct pfinet_rings *rings);

/**
 * pfinet_rings_put() - Copy a frame, with its virtio_net_hdr, into the ring up
 * @len:	1 to the longest of a record
 *
 * Return: 1, 0 if there is no room, or -EPROTO
 */
int pfinet_rings_put(struct pfinet_rings *rings, const uint8_t *frame, uint32_t len);

/**
 * pfinet_rings_put_all() - Copy frames into the ring up, as pfinet_rings_put() does one
 * @frames:	One behind the other
 * @lens:	Their lengths, @n of them
 *
 * Return: how many there was room for, or -EPROTO
 */
int pfinet_rings_put_all(struct pfinet_rings *rings, const uint8_t *frames, const uint32_t *lens,
			 int n);

/** pfinet_rings_publish() - Let the daemon have what was put, and wake it if it sleeps */
void pfinet_rings_publish(struct pfinet_rings *rings);

/**
 * pfinet_rings_pass() - Let the daemon have what was put, and leave it asleep for now
 *
 * It is woken once half of the ring waits for it.  Whoever sleeps, or has no more to
 * put, must publish before.
 */
void pfinet_rings_pass(struct pfinet_rings *rings);

/**
 * pfinet_rings_take() - Copy frames out of the ring down
 * @to:		They are written here, one behind the other
 * @room:	Bytes at @to, at least those of the longest record
 * @lens:	Set to their lengths
 * @n:		At most so many
 *
 * Return: how many there were, or -EPROTO
 */
int pfinet_rings_take(struct pfinet_rings *rings, uint8_t *to, size_t room, uint32_t *lens, int n);

/**
 * pfinet_rings_wait_frames() - Ask to be kicked when there are frames
 * Return: whether there are none yet, so that the caller may sleep
 */
bool pfinet_rings_wait_frames(struct pfinet_rings *rings);

/**
 * pfinet_rings_wait_room() - Ask to be kicked when there is room
 * Return: whether nothing has been taken since it was last looked at
 */
bool pfinet_rings_wait_room(struct pfinet_rings *rings);

/**
 * pfinet_rings_take_kicks() - Read the kicks that have come, without waiting
 *
 * Nothing is waited for afterwards.
 *
 * Return: 0, -ECONNRESET if the daemon has closed, or another negative errno
 */
int pfinet_rings_take_kicks(struct pfinet_rings *rings);

#endif
