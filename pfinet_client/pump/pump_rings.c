/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "pfinet_wire.h"
#include "pump.h"
#include "rings.h"

#define ETHERNET_LEN 14
/* Frames between two looks at the other side: enough to make a look cheap, few
 * enough that nothing there waits for long. */
#define BATCH_FRAMES 128
/* Bytes likewise: a batch of 64 KiB frames is passed on while it is still in the cache. */
#define BATCH_BYTES (256 * 1024)

struct pump {
	int tap;
	size_t vnet_len;
	struct pfinet_rings rings;
	bool tap_full;	/* the next frame was not taken: EAGAIN */
	bool ring_full; /* there was no room for what the tap may have */
	bool ended;	/* the daemon has closed; what it wrote before is still there */
	struct pfinet_pump_report *report;
};

/* What a step returns beside an enum pfinet_pump_end or a negative errno. */
#define GO_ON 1000

static bool would_block(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK;
}

static void note_length(struct pump *pump, size_t frame_len)
{
	if (frame_len > pump->report->longest_bytes)
		pump->report->longest_bytes = frame_len;
}

/* Reads one frame to where the daemon will find it; 1, 0 if there is none, or how it ends. */
static int read_frame(struct pump *pump, size_t *bytes)
{
	struct pfinet_ring *up = &pump->rings.up;
	uint32_t most = pump->rings.max_payload;
	ssize_t got;

	switch (pfinet_ring_room(up, 1, most, 0)) {
	case 1:
		break;
	case 0:
		pump->ring_full = true;
		return 0;
	default:
		return PFINET_PUMP_BAD_RING;
	}
	got = read(pump->tap, pfinet_ring_begin(up, most), most);
	if (got < 0) {
		if (errno == EINTR)
			return 1;
		if (would_block(errno))
			return 0;
		return errno == EBADFD ? PFINET_PUMP_TAP_GONE : -errno;
	}
	if ((size_t)got < pump->vnet_len + ETHERNET_LEN)
		return 1;
	pfinet_ring_end(up, (uint32_t)got);
	*bytes += (size_t)got;
	pump->report->out_frames++;
	pump->report->out_bytes += (size_t)got - pump->vnet_len;
	note_length(pump, (size_t)got - pump->vnet_len);
	return 1;
}

/* Passes on what the tap has, up to one batch. */
static int read_tap(struct pump *pump)
{
	size_t bytes = 0;
	int more = 1;

	pump->report->out_batches++;
	for (int i = 0; more == 1 && i < BATCH_FRAMES && bytes < BATCH_BYTES; i++)
		more = read_frame(pump, &bytes);
	if (bytes)
		pfinet_rings_publish(&pump->rings);
	return more == 0 || more == 1 ? GO_ON : more;
}

/* Writes one frame from where the daemon has put it; false if the tap is full. */
static bool write_frame(struct pump *pump, const uint8_t *payload, uint32_t len, int *result)
{
	ssize_t put;

	do
		put = write(pump->tap, payload, len);
	while (put < 0 && errno == EINTR);
	if (put >= 0) {
		pump->report->in_frames++;
		pump->report->in_bytes += len - pump->vnet_len;
		note_length(pump, len - pump->vnet_len);
		return true;
	}
	if (would_block(errno)) {
		pump->tap_full = true;
		return false;
	}
	if (errno == EBADFD)
		*result = PFINET_PUMP_TAP_GONE;
	else
		pump->report->in_refused++;
	return *result == GO_ON;
}

/* Gives the tap what the daemon has written, up to one batch. */
static int write_tap(struct pump *pump)
{
	struct pfinet_ring *down = &pump->rings.down;
	int result = GO_ON;

	pump->tap_full = false;
	if (pfinet_ring_look_written(down) < 0)
		return PFINET_PUMP_BAD_RING;
	if (pfinet_ring_left(down) == 0)
		return GO_ON;
	pump->report->in_batches++;
	for (int i = 0; i < BATCH_FRAMES; i++) {
		const uint8_t *payload;
		uint32_t len;
		int found = pfinet_ring_next(down, pump->rings.max_payload, &payload, &len);

		if (found < 0)
			return PFINET_PUMP_BAD_RING;
		if (found == 0)
			break;
		if (len < pump->vnet_len + ETHERNET_LEN) {
			pump->report->bad_length = len;
			return PFINET_PUMP_BAD_LENGTH;
		}
		if (!write_frame(pump, payload, len, &result))
			break;
		pfinet_ring_take(down, len);
	}
	pfinet_ring_publish(down);
	return result;
}

/* Whether it may sleep: it then has asked to be woken by the daemon for whatever it lacks. */
static bool may_sleep(struct pump *pump)
{
	if (pump->tap_full)
		return true;
	if (pfinet_ring_left(&pump->rings.down) || !pfinet_rings_wait_frames(&pump->rings))
		return false;
	if (pump->ring_full && !pfinet_rings_wait_room(&pump->rings)) {
		pump->ring_full = false;
		return false;
	}
	/* With room, and frames that were not read for the batch was full: poll() says so. */
	return true;
}

static int take_kicks(struct pump *pump)
{
	int error = pfinet_rings_take_kicks(&pump->rings);

	pump->ring_full = false;
	if (error == -ECONNRESET)
		pump->ended = true;
	else if (error)
		return error;
	return GO_ON;
}

/* What the command has said last, its FINs, is in the tap. */
static int stop(struct pump *pump)
{
	if (!pump->ring_full)
		read_tap(pump);
	return PFINET_PUMP_STOPPED;
}

static int carry(struct pump *pump, int stop_fd)
{
	const short ended = POLLERR | POLLHUP | POLLNVAL;
	int result = GO_ON;

	while (result == GO_ON) {
		int timeout_ms = may_sleep(pump) ? -1 : 0;
		short tap = (short)((pump->ring_full ? 0 : POLLIN) | (pump->tap_full ? POLLOUT : 0));
		/* A negative descriptor is passed over: one without wishes would still report
		 * its end, again and again, while nothing can be done about it. */
		struct pollfd fds[] = {
			{ .fd = stop_fd, .events = POLLIN },
			{ .fd = tap ? pump->tap : -1, .events = tap },
			{ .fd = pump->tap_full ? -1 : pump->rings.kicks, .events = POLLIN },
		};

		if (poll(fds, 3, timeout_ms) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[0].revents)
			return stop(pump);
		if (fds[1].revents & ended)
			return PFINET_PUMP_TAP_GONE;
		if (fds[2].revents)
			result = take_kicks(pump);
		else
			pfinet_ring_wait_no_more(&pump->rings.down);
		if (result == GO_ON && (!pump->tap_full || fds[1].revents & POLLOUT))
			result = write_tap(pump);
		if (result == GO_ON && fds[1].revents & POLLIN)
			result = read_tap(pump);
		if (result == GO_ON && pump->ended && !pump->tap_full &&
		    pfinet_ring_left(&pump->rings.down) == 0)
			return PFINET_PUMP_STREAM_CLOSED;
	}
	return result;
}

int pfinet_pump_run_rings(int tap, int kicks, int memory, int stop_fd, size_t vnet_len,
			  struct pfinet_pump_report *report)
{
	struct pump pump = { .tap = tap, .vnet_len = vnet_len, .report = report };
	int result = pfinet_rings_open(&pump.rings, memory, kicks, vnet_len);

	if (result)
		return result == -EPROTO ? PFINET_PUMP_BAD_RING : result;
	result = carry(&pump, stop_fd);
	pfinet_rings_close(&pump.rings);
	return result;
}
