/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pfinet_wire.h"
#include "pump.h"
#include "rings.h"
#include "step.h"

/*
 * epoll tells of each kick (EPOLLET), so they are left where they are until there are
 * some: of far more the stream has room.
 */
#define MAX_UNREAD 16

struct pump {
	int epoll;
	int tap;
	uint32_t wanted; /* events of the tap that epoll tells of */
	size_t vnet_len;
	struct pfinet_rings rings;
	int expected;	/* frames that the tap has when it has any, as far as is known */
	int unread;	/* kicks */
	bool was_read;	/* all that was expected, since epoll last told of anything */
	bool tap_full;	/* the next frame was not taken: EAGAIN */
	bool ring_full; /* there was no room for what the tap may have */
	bool ended;	/* the daemon has closed; what it wrote before is still there */
	struct pfinet_pump_report *report;
};

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
	note_length(pump->report, (size_t)got - pump->vnet_len);
	return 1;
}

/*
 * Passes on what the tap has, up to one batch.  That it has no more costs a call to be
 * told: so it is asked for as many as it had the last time, and epoll tells if that were
 * too few.
 */
static int read_tap(struct pump *pump)
{
	size_t bytes = 0;
	int more = 1, n = 0;

	if (pump->was_read && pump->expected < BATCH_FRAMES)
		pump->expected *= 2;
	pump->report->out_batches++;
	while (n < pump->expected && bytes < BATCH_BYTES && (more = read_frame(pump, &bytes)) == 1)
		n++;
	pump->was_read = more == 1;
	if (more == 0 && n)
		pump->expected = n;
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
		note_length(pump->report, len - pump->vnet_len);
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
	/* With room, and frames that were not read for the batch was full: epoll says so. */
	return true;
}

static int take_kicks(struct pump *pump, uint32_t events)
{
	pump->ring_full = false;
	pfinet_ring_wait_no_more(&pump->rings.up);
	if (++pump->unread >= MAX_UNREAD || events & ~(uint32_t)EPOLLIN) {
		int error = pfinet_rings_take_kicks(&pump->rings);

		pump->unread = 0;
		if (error && error != -ECONNRESET)
			return error;
	}
	pump->ended |= events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR);
	return GO_ON;
}

/* What the command has said last, its FINs, is in the tap. */
static int stop(struct pump *pump)
{
	pump->expected = BATCH_FRAMES;
	if (!pump->ring_full)
		read_tap(pump);
	return PFINET_PUMP_STOPPED;
}

/* What epoll tells of, beside. */
enum { STOP, TAP, KICKS };

static int watch(struct pump *pump, int op, int fd, uint32_t events, int what)
{
	struct epoll_event event = { .events = events, .data.u32 = (uint32_t)what };

	return epoll_ctl(pump->epoll, op, fd, &event) < 0 ? -errno : 0;
}

/* Lets epoll tell of what the tap is wanted for now. */
static int watch_tap(struct pump *pump)
{
	uint32_t wanted = (pump->ring_full ? 0 : EPOLLIN) | (pump->tap_full ? EPOLLOUT : 0);

	if (wanted == pump->wanted)
		return 0;
	pump->wanted = wanted;
	return watch(pump, EPOLL_CTL_MOD, pump->tap, wanted, TAP);
}

static int watch_all(struct pump *pump, int stop_fd)
{
	int error = watch(pump, EPOLL_CTL_ADD, stop_fd, EPOLLIN, STOP);

	pump->wanted = EPOLLIN;
	if (!error)
		error = watch(pump, EPOLL_CTL_ADD, pump->tap, EPOLLIN, TAP);
	if (!error)
		error = watch(pump, EPOLL_CTL_ADD, pump->rings.kicks,
			      EPOLLIN | EPOLLRDHUP | EPOLLET, KICKS);
	return error;
}

/* Sleeps if it may, and sets @events to what epoll has told of each. */
static int wait_events(struct pump *pump, uint32_t events[KICKS + 1])
{
	struct epoll_event told[KICKS + 1];
	int timeout_ms = may_sleep(pump) ? -1 : 0;
	int error = watch_tap(pump);
	int n;

	if (error)
		return error;
	n = epoll_wait(pump->epoll, told, KICKS + 1, timeout_ms);
	if (n < 0 && errno != EINTR)
		return -errno;
	pfinet_ring_wait_no_more(&pump->rings.down);
	for (int i = 0; i < n; i++)
		events[told[i].data.u32] = told[i].events;
	return GO_ON;
}

static int carry(struct pump *pump, int stop_fd)
{
	int result = watch_all(pump, stop_fd);

	if (!result)
		result = GO_ON;
	while (result == GO_ON) {
		uint32_t events[KICKS + 1] = { 0 };

		result = wait_events(pump, events);
		if (result != GO_ON)
			break;
		if (events[STOP])
			return stop(pump);
		if (events[TAP] & (EPOLLERR | EPOLLHUP))
			return PFINET_PUMP_TAP_GONE;
		if (events[KICKS])
			result = take_kicks(pump, events[KICKS]);
		if (result == GO_ON && (!pump->tap_full || events[TAP] & EPOLLOUT))
			result = write_tap(pump);
		if (result == GO_ON && events[TAP] & EPOLLIN)
			result = read_tap(pump);
		else
			pump->was_read = false;
		if (result == GO_ON && pump->ended && !pump->tap_full &&
		    pfinet_ring_left(&pump->rings.down) == 0)
			return PFINET_PUMP_STREAM_CLOSED;
	}
	return result;
}

int pfinet_pump_run_rings(int tap, int kicks, int memory, int stop_fd, size_t vnet_len,
			  struct pfinet_pump_report *report)
{
	struct pump pump = { .tap = tap, .vnet_len = vnet_len, .expected = 1, .report = report };
	int result = pfinet_rings_open(&pump.rings, memory, kicks, vnet_len);

	if (result)
		return result == -EPROTO ? PFINET_PUMP_BAD_RING : result;
	pump.epoll = epoll_create1(EPOLL_CLOEXEC);
	result = pump.epoll < 0 ? -errno : carry(&pump, stop_fd);
	if (pump.epoll >= 0)
		close(pump.epoll);
	pfinet_rings_close(&pump.rings);
	return result;
}
