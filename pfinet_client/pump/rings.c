/* SPDX-License-Identifier: Apache-2.0 */
#include "rings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "pfinet_wire.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int pfinet_rings_open(struct pfinet_rings *rings, int memory, int kicks, size_t vnet_len)
{
	struct stat status;
	uint32_t len;

	memset(rings, 0, sizeof(*rings));
	if (vnet_len != 0 && vnet_len != PFINET_VNET_LEN)
		return -EINVAL;
	if (fstat(memory, &status) < 0)
		return -errno;
	len = pfinet_ring_len_of((uint64_t)status.st_size);
	if (!S_ISREG(status.st_mode) || !len || (fcntl(memory, F_GET_SEALS) & SEALS) != SEALS)
		return -EPROTO;
	rings->memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			     memory, 0);
	if (rings->memory == MAP_FAILED) {
		rings->memory = NULL;
		return -errno;
	}
	rings->memory_len = (size_t)status.st_size;
	rings->kicks = kicks;
	rings->max_payload = (uint32_t)(vnet_len + PFINET_MAX_FRAME);
	pfinet_ring_open(&rings->up, rings->memory, len, PFINET_RING_UP, true);
	pfinet_ring_open(&rings->down, rings->memory, len, PFINET_RING_DOWN, false);
	return 0;
}

void pfinet_rings_close(struct pfinet_rings *rings)
{
	if (rings->memory)
		munmap(rings->memory, rings->memory_len);
	rings->memory = NULL;
}

/* That it has no room is no error, for then there are others to be read. */
static void kick(const struct pfinet_rings *rings)
{
	(void)!send(rings->kicks, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int pfinet_rings_put(struct pfinet_rings *rings, const uint8_t *frame, uint32_t len)
{
	int found;

	if (len == 0 || len > rings->max_payload)
		return -EINVAL;
	found = pfinet_ring_room(&rings->up, 1, len, 0);
	if (found < 0)
		return -EPROTO;
	if (found == 0)
		return 0;
	memcpy(pfinet_ring_begin(&rings->up, len), frame, len);
	pfinet_ring_end(&rings->up, len);
	return 1;
}

int pfinet_rings_put_all(struct pfinet_rings *rings, const uint8_t *frames, const uint32_t *lens,
			 int n)
{
	int put = 0, found = 1;

	while (put < n && (found = pfinet_rings_put(rings, frames, lens[put])) == 1)
		frames += lens[put++];
	return found < 0 ? found : put;
}

void pfinet_rings_publish(struct pfinet_rings *rings)
{
	pfinet_ring_publish(&rings->up);
	if (pfinet_ring_wakes(&rings->up))
		kick(rings);
}

void pfinet_rings_pass(struct pfinet_rings *rings)
{
	if (pfinet_ring_used(&rings->up) > rings->up.len / 2)
		pfinet_rings_publish(rings);
	else
		pfinet_ring_publish(&rings->up);
}

int pfinet_rings_take(struct pfinet_rings *rings, uint8_t *to, size_t room, uint32_t *lens, int n)
{
	const uint8_t *payload;
	int taken = 0, found = 0;
	uint32_t len;

	if (pfinet_ring_look_written(&rings->down) < 0)
		return -EPROTO;
	while (taken < n && (found = pfinet_ring_next(&rings->down, rings->max_payload, &payload,
						      &len)) == 1 && len <= room) {
		memcpy(to, payload, len);
		to += len;
		room -= len;
		lens[taken++] = len;
		pfinet_ring_take(&rings->down, len);
	}
	if (found < 0 && !taken)
		return -EPROTO;
	pfinet_ring_publish(&rings->down);
	if (pfinet_ring_wakes(&rings->down))
		kick(rings);
	return taken;
}

bool pfinet_rings_wait_frames(struct pfinet_rings *rings)
{
	if (pfinet_ring_wait(&rings->down))
		return true;
	pfinet_ring_wait_no_more(&rings->down);
	return false;
}

bool pfinet_rings_wait_room(struct pfinet_rings *rings)
{
	if (pfinet_ring_wait(&rings->up))
		return true;
	pfinet_ring_wait_no_more(&rings->up);
	return false;
}

int pfinet_rings_take_kicks(struct pfinet_rings *rings)
{
	char bytes[64];
	ssize_t got = recv(rings->kicks, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (got == 0)
		return -ECONNRESET;
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	pfinet_ring_wait_no_more(&rings->up);
	pfinet_ring_wait_no_more(&rings->down);
	return 0;
}
