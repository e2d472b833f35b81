/* SPDX-License-Identifier: Apache-2.0 */
#include "pump.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pfinet_wire.h"
#include "step.h"

#define MAX_RECORD (PFINET_LENGTH_LEN + PFINET_VNET_LEN + PFINET_MAX_FRAME)
#define BUFFER_LEN (1024 * 1024 + MAX_RECORD)

static_assert(BATCH_BYTES + MAX_RECORD <= BUFFER_LEN, "a batch and one frame more must fit");

/* Bytes from start to end are waiting; before and after is free. */
struct buffer {
	uint8_t *data;
	size_t start;
	size_t end;
};

struct pump {
	int tap;
	int stream;
	size_t vnet_len;
	struct buffer out;	/* tap to stream: whole records, the first perhaps half sent */
	struct buffer in;	/* stream to tap: the last record perhaps half received */
	bool tap_full;		/* the record at in.start was not taken: EAGAIN */
	struct pfinet_pump_report *report;
};

static int send_out(struct pump *pump)
{
	struct buffer *out = &pump->out;
	ssize_t sent;

	while (out->start < out->end) {
		sent = send(pump->stream, out->data + out->start, out->end - out->start,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EINTR)
				continue;
			if (would_block(errno))
				return GO_ON;
			if (errno == EPIPE || errno == ECONNRESET)
				return PFINET_PUMP_STREAM_CLOSED;
			return -errno;
		}
		out->start += (size_t)sent;
	}
	out->start = 0;
	out->end = 0;
	return GO_ON;
}

/* Fill the empty out buffer with what the tap has, up to one batch, and send it. */
static int read_tap(struct pump *pump)
{
	struct buffer *out = &pump->out;
	int frames = 0;
	ssize_t got;

	pump->report->out_batches++;
	while (frames < BATCH_FRAMES && out->end < BATCH_BYTES) {
		uint8_t *record = out->data + out->end;

		got = read(pump->tap, record + PFINET_LENGTH_LEN, MAX_RECORD - PFINET_LENGTH_LEN);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			if (would_block(errno))
				break;
			return errno == EBADFD ? PFINET_PUMP_TAP_GONE : -errno;
		}
		frames++;
		if ((size_t)got < pump->vnet_len + ETHERNET_LEN)
			continue;
		pfinet_put32(record, (uint32_t)got);
		out->end += PFINET_LENGTH_LEN + (size_t)got;
		pump->report->out_frames++;
		pump->report->out_bytes += (size_t)got - pump->vnet_len;
		note_length(pump->report, (size_t)got - pump->vnet_len);
	}
	return send_out(pump);
}

/* Write the whole records of the in buffer, one each, until the tap is full. */
static int write_tap(struct pump *pump)
{
	struct buffer *in = &pump->in;
	size_t offset, len;
	ssize_t put;
	int whole;

	pump->tap_full = false;
	while ((whole = pfinet_stream_next(in->data + in->start, in->end - in->start,
					   pump->vnet_len + PFINET_MAX_FRAME, &offset, &len))) {
		if (whole < 0 || len < pump->vnet_len + ETHERNET_LEN) {
			pump->report->bad_length = pfinet_get32(in->data + in->start);
			return PFINET_PUMP_BAD_LENGTH;
		}
		put = write(pump->tap, in->data + in->start + offset, len);
		if (put < 0) {
			if (errno == EINTR)
				continue;
			if (would_block(errno)) {
				pump->tap_full = true;
				return GO_ON;
			}
			if (errno == EBADFD)
				return PFINET_PUMP_TAP_GONE;
			pump->report->in_refused++;
		} else {
			pump->report->in_frames++;
			pump->report->in_bytes += len - pump->vnet_len;
			note_length(pump->report, len - pump->vnet_len);
		}
		in->start += offset + len;
	}
	/* At most one part of a record is left: from the front there is room for the rest. */
	memmove(in->data, in->data + in->start, in->end - in->start);
	in->end -= in->start;
	in->start = 0;
	return GO_ON;
}

static int receive_in(struct pump *pump)
{
	struct buffer *in = &pump->in;
	ssize_t got;

	got = recv(pump->stream, in->data + in->end, BUFFER_LEN - in->end, MSG_DONTWAIT);
	if (got == 0 || (got < 0 && errno == ECONNRESET))
		return PFINET_PUMP_STREAM_CLOSED;
	if (got < 0)
		return would_block(errno) || errno == EINTR ? GO_ON : -errno;
	in->end += (size_t)got;
	pump->report->in_batches++;
	return write_tap(pump);
}

static int step(struct pump *pump, short tap_events, short stream_events)
{
	const short ended = POLLERR | POLLHUP | POLLNVAL;
	int result = GO_ON;

	if (tap_events & ended)
		return PFINET_PUMP_TAP_GONE;
	if (pump->tap_full && (tap_events & POLLOUT))
		result = write_tap(pump);
	else if (!pump->tap_full && (stream_events & (POLLIN | ended)))
		result = receive_in(pump);
	if (result != GO_ON)
		return result;
	if (pump->out.end)
		return stream_events & (POLLOUT | ended) ? send_out(pump) : GO_ON;
	return tap_events & POLLIN ? read_tap(pump) : GO_ON;
}

static int carry(struct pump *pump, int stop)
{
	int result;

	do {
		short tap = (short)((pump->out.end ? 0 : POLLIN) | (pump->tap_full ? POLLOUT : 0));
		short stream = (short)((pump->tap_full ? 0 : POLLIN) | (pump->out.end ? POLLOUT : 0));
		/* A negative descriptor is passed over; one without wishes would still
		 * report POLLHUP, again and again, while nothing can be done about it. */
		struct pollfd fds[] = {
			{ .fd = stop, .events = POLLIN },
			{ .fd = tap ? pump->tap : -1, .events = tap },
			{ .fd = stream ? pump->stream : -1, .events = stream },
		};

		if (poll(fds, 3, -1) < 0) {
			if (errno == EINTR) {
				result = GO_ON;
				continue;
			}
			return -errno;
		}
		if (fds[0].revents) {
			/* The last words of a command that just ended, its FINs, are in the tap. */
			result = pump->out.end ? send_out(pump) : GO_ON;
			if (result == GO_ON && !pump->out.end)
				read_tap(pump);
			return PFINET_PUMP_STOPPED;
		}
		result = step(pump, fds[1].revents, fds[2].revents);
	} while (result == GO_ON);
	return result;
}

int pfinet_pump_run(int tap, int stream, int stop, size_t vnet_len,
		    struct pfinet_pump_report *report)
{
	struct pump pump = {
		.tap = tap,
		.stream = stream,
		.vnet_len = vnet_len,
		.out.data = malloc(BUFFER_LEN),
		.in.data = malloc(BUFFER_LEN),
		.report = report,
	};
	int result = -ENOMEM;

	if (vnet_len > PFINET_VNET_LEN)
		result = -EINVAL;
	else if (pump.out.data && pump.in.data)
		result = carry(&pump, stop);
	free(pump.out.data);
	free(pump.in.data);
	return result;
}
