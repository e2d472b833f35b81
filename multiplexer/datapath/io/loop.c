/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include "../core/claim.h"
#include "wary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 64
/* Of the ports that are served again, in one round. */
#define MAX_AGAIN 64
/* Among the bits of their events, which epoll leaves alone (EPOLLMSG means nothing). */
#define AGAIN 0x400u

/*
 * How long one who is sent many frames may be left alone, so that it is not woken for each.
 * With the kernel's timer slack it becomes up to twice that (prctl(2), PR_SET_TIMERSLACK).
 */
#define NAP_NS 50000

/* How long memory that is not needed is kept, at least; at most twice that. */
#define RELAX_MS 1000

/*
 * epoll's user data: a watched fd has its tag in the upper half and all ones below;
 * a port has its generation above and its number below.
 */
#define WATCHED 0xffffffffu

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* from the vdso: no system call */
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Zeroed memory that costs nothing before it is touched. */
static void *reserve(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct dp_loop *dp_loop_new(uint64_t seed)
{
	struct dp_loop *loop = reserve(sizeof(*loop));

	if (!loop)
		return NULL;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->table = reserve(dp_table_size());
	loop->buffer = reserve(DP_MAX_RECORD + DP_READ_LEN);
	loop->scratch = reserve(DP_MAX_RECORD);
	if (loop->epoll_fd < 0 || !loop->table || !loop->buffer || !loop->scratch) {
		dp_loop_free(loop);
		return NULL;
	}
	dp_table_init(loop->table, seed);
	loop->seed = seed;
	for (uint16_t i = 0; i < DP_MAX_PORTS; i++) {
		loop->ports[i].fd = -1;
		loop->ports[i].id = i;
	}
	return loop;
}

void dp_loop_set_up(struct dp_loop *loop, uint16_t id, bool up)
{
	const struct dp_port *row = &loop->table->ports[id % DP_MAX_PORTS];

	if (id < DP_MAX_PORTS && row->kind == DP_PORT_UPLINK && row->network != DP_NO_PORT && !up)
		dp_claim_wire_lost(loop->table, row->network, monotonic_ns());
	dp_table_set_up(loop->table, id, up);
}

/* Of @n_naps, a port that stands in the list is one for as long as it naps. */
static void set_naps(struct dp_loop *loop, struct dp_io_port *port, bool naps)
{
	if (port->again)
		loop->n_naps += (uint32_t)naps - (uint32_t)port->naps;
	port->naps = naps;
}

/* 0, or -EBADMSG where the client had sent a descriptor, and its socket stays open. */
static int end_port(struct dp_loop *loop, struct dp_io_port *port)
{
	int error = 0;

	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, port->fd, NULL);
	port->transport->close(loop, port);
	dp_account_close(loop, port);
	if (loop->wary && port->transport->hears != DP_HEARS_NO_CLIENT)
		error = dp_wary_close(port->fd, port->transport->hears, loop->scratch,
				      DP_MAX_RECORD);
	else
		close(port->fd);
	port->transport = NULL;
	port->state = NULL;
	port->fd = -1;
	port->want_write = false;
	set_naps(loop, port, false);
	dp_loop_set_up(loop, port->id, false);
	return error;
}

void dp_loop_free(struct dp_loop *loop)
{
	if (!loop)
		return;
	for (unsigned int i = 0; i < DP_MAX_PORTS; i++)
		if (loop->ports[i].transport)
			end_port(loop, &loop->ports[i]);
	for (uint16_t i = 0; loop->table && i < DP_MAX_PORTS; i++)
		dp_gates_drop(loop, i);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->table)
		munmap(loop->table, dp_table_size());
	if (loop->buffer)
		munmap(loop->buffer, DP_MAX_RECORD + DP_READ_LEN);
	if (loop->scratch)
		munmap(loop->scratch, DP_MAX_RECORD);
	munmap(loop, sizeof(*loop));
}

struct dp_table *dp_loop_table(struct dp_loop *loop)
{
	return loop->table;
}

int dp_loop_watch(struct dp_loop *loop, int fd, int tag)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (tag <= 0)
		return -EINVAL;
	event.data.u64 = (uint64_t)(uint32_t)tag << 32 | WATCHED;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int dp_loop_unwatch(struct dp_loop *loop, int fd)
{
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

static uint64_t event_key(const struct dp_io_port *port)
{
	return (uint64_t)port->generation << 32 | port->id;
}

static int control_port(struct dp_loop *loop, const struct dp_io_port *port, int op)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };

	if (port->want_write)
		event.events |= EPOLLOUT;
	if (port->transport->edge)
		event.events |= EPOLLET;
	event.data.u64 = event_key(port);
	return epoll_ctl(loop->epoll_fd, op, port->fd, &event) < 0 ? -errno : 0;
}

void dp_loop_want_write(struct dp_loop *loop, struct dp_io_port *port, bool want)
{
	if (port->want_write == want)
		return;
	port->want_write = want;
	if (!port->naps)
		control_port(loop, port, EPOLL_CTL_MOD);
}

static int attach(struct dp_loop *loop, uint16_t id, uint32_t generation,
		  const struct dp_transport *found, int fd, int memory, uint32_t offload, bool vnet)
{
	struct dp_io_port *port;
	int error;

	if (!found || id >= DP_MAX_PORTS || loop->table->ports[id].kind == DP_PORT_FREE ||
	    offload & ~(uint32_t)DP_OFFLOAD_ALL || (offload && !(offload & DP_OFFLOAD_CSUM)) ||
	    vnet != (offload != 0))
		return -EINVAL;
	port = &loop->ports[id];
	if (port->transport)
		return -EBUSY;
	port->fd = fd;
	port->memory = memory;
	port->generation = generation;
	port->events = 0;
	port->offload = offload;
	port->vnet = vnet;
	error = found->open(loop, port);
	if (error) {
		port->fd = -1;
		return error;
	}
	port->transport = found;
	error = control_port(loop, port, EPOLL_CTL_ADD);
	if (error) {
		found->close(loop, port);
		port->transport = NULL;
		port->state = NULL;
		port->fd = -1;
		port->reserved = 0;
		return error;
	}
	dp_loop_set_up(loop, id, true);
	return 0;
}

int dp_loop_attach(struct dp_loop *loop, uint16_t id, uint32_t generation, const char *transport,
		   int fd, uint32_t offload, bool vnet)
{
	return attach(loop, id, generation, dp_transport_find(transport), fd, -1, offload, vnet);
}

int dp_loop_attach_ring(struct dp_loop *loop, uint16_t id, uint32_t generation, int kick,
			int memory, uint32_t offload, bool vnet)
{
	return attach(loop, id, generation, &dp_transport_ring, kick, memory, offload, vnet);
}

int dp_loop_detach(struct dp_loop *loop, uint16_t id, uint32_t generation)
{
	struct dp_io_port *port;

	if (id >= DP_MAX_PORTS)
		return -ENOENT;
	port = &loop->ports[id];
	if (!port->transport || port->generation != generation)
		return -ENOENT;
	return end_port(loop, port);
}

int dp_loop_charge(struct dp_loop *loop, uint16_t id, uint32_t number, size_t most)
{
	struct dp_io_port *port;

	if (id >= DP_MAX_PORTS)
		return -EINVAL;
	port = &loop->ports[id];
	if (!port->transport || port->account)
		return -EINVAL;
	return dp_account_open(loop, port, number, most);
}

void dp_loop_again(struct dp_loop *loop, struct dp_io_port *port)
{
	if (port->again)
		return;
	port->again = true;
	loop->n_naps += port->naps;
	loop->again[(loop->at_again + loop->n_again++) % DP_MAX_PORTS] = port->id;
}

void dp_loop_nap(struct dp_loop *loop, struct dp_io_port *port, bool naps)
{
	if (port->naps != naps) {
		set_naps(loop, port, naps);
		control_port(loop, port, naps ? EPOLL_CTL_DEL : EPOLL_CTL_ADD);
	}
	if (naps && port->want_write)
		port->events |= EPOLLOUT;
	if (naps)
		dp_loop_again(loop, port);
}

/* Adds to @n events those of up to @most ports that are to be served again. */
static int add_again(struct dp_loop *loop, struct epoll_event *events, int n, int most)
{
	int ready = n;

	for (int i = 0; i < most && loop->n_again; i++) {
		struct dp_io_port *port = &loop->ports[loop->again[loop->at_again]];
		int same = 0;

		loop->at_again = (loop->at_again + 1) % DP_MAX_PORTS;
		loop->n_again--;
		loop->n_naps -= port->naps;
		port->again = false;
		while (same < ready && events[same].data.u64 != event_key(port))
			same++;
		if (same == ready) {
			events[n].events = 0;
			events[n++].data.u64 = event_key(port);
		}
		events[same == ready ? n - 1 : same].events |= AGAIN | port->events;
		port->events = 0;
	}
	return n;
}

/* Whoever sent what it may not is left alone for a while. */
static void mind_refused(struct dp_loop *loop, struct dp_io_port *port)
{
	if (loop->table->ports[port->id].kind == DP_PORT_VIF)
		dp_loop_nap(loop, port, loop->refused >= DP_MANY_REFUSED);
}

/* Ends an attachment that failed by itself, and remembers to tell. */
static void lose_port(struct dp_loop *loop, struct dp_io_port *port, int error)
{
	struct dp_ended *ended;

	if (end_port(loop, port) < 0)
		error = -EBADMSG;
	/* A port is told once and stays unattached until Python has heard: there is room. */
	ended = &loop->ended[loop->n_ended++];
	ended->port = port->id;
	ended->generation = port->generation;
	ended->error = error == -ECONNRESET || error == -EPIPE ? 0 : -error;
}

bool dp_loop_next_ended(struct dp_loop *loop, struct dp_ended *ended)
{
	if (!loop->n_ended)
		return false;
	*ended = loop->ended[--loop->n_ended];
	return true;
}

bool dp_loop_next_sighting(struct dp_loop *loop, struct dp_sighted *sighted)
{
	loop->sightings.told = false;
	return dp_sightings_next(&loop->sightings, sighted);
}

void dp_loop_tell_sightings(struct dp_loop *loop)
{
	loop->sightings.told = false;
}

static void flush_dirty(struct dp_loop *loop)
{
	for (uint32_t i = 0; i < loop->n_dirty; i++) {
		struct dp_io_port *port = &loop->ports[loop->dirty[i]];
		int error;

		port->dirty = false;
		if (!port->transport)
			continue;
		error = port->transport->flush(loop, port);
		if (error)
			lose_port(loop, port, error);
	}
	loop->n_dirty = 0;
}

int dp_loop_inject(struct dp_loop *loop, uint16_t id, const uint8_t *frame, size_t len,
		   bool to_wire)
{
	struct dp_rx rx = { .data = loop->buffer, .len = len };

	if (id >= DP_MAX_PORTS || loop->table->ports[id].kind != DP_PORT_VIF || len > DP_MAX_FRAME)
		return -EINVAL;
	memcpy(loop->buffer, frame, len);
	loop->now_ns = monotonic_ns();
	loop->heavy = false;
	if (to_wire)
		dp_deliver_to_wire(loop, &loop->ports[id], &rx);
	else
		dp_deliver(loop, &loop->ports[id], &rx);
	flush_dirty(loop);
	return 0;
}

static bool is_watched(const struct epoll_event *event)
{
	return (uint32_t)event->data.u64 == WATCHED;
}

/* The port that an event is of, or NULL where its attachment ended earlier in this round. */
static struct dp_io_port *port_of(struct dp_loop *loop, const struct epoll_event *event)
{
	struct dp_io_port *port = &loop->ports[event->data.u64 & (DP_MAX_PORTS - 1)];

	return port->transport && port->generation == (uint32_t)(event->data.u64 >> 32) ? port :
											  NULL;
}

static void serve_port(struct dp_loop *loop, struct dp_io_port *port, uint32_t events)
{
	int error = 0;

	loop->spent = DP_COST_TURN;
	loop->heavy = port->turn.heavy;
	loop->refused = 0;
	if (events & EPOLLOUT)
		error = port->transport->flush(loop, port);
	if (!error && events & ~(uint32_t)EPOLLOUT)
		error = port->transport->receive(loop, port, events);
	if (error)
		lose_port(loop, port, error);
	else if (events & ~(uint32_t)EPOLLOUT)
		mind_refused(loop, port);
	/* What was queued may stand in the shared buffer, which the next port reuses. */
	flush_dirty(loop);
	dp_turn_pay(&port->turn, loop->spent, loop->now_ns);
}

/*
 * Serves whose turn it is.  Return: 0, or, where every one of them is in debt, how many
 * rounds from now the first is not.
 */
static uint64_t serve_round(struct dp_loop *loop, const struct epoll_event *events, int n)
{
	uint64_t soonest = UINT64_MAX;
	unsigned int n_ready = 0;
	int64_t quantum;

	for (int i = 0; i < n; i++)
		n_ready += !is_watched(&events[i]);
	quantum = dp_turn_quantum(n_ready);
	for (int i = 0; i < n; i++) {
		struct dp_io_port *port = is_watched(&events[i]) ? NULL : port_of(loop, &events[i]);
		uint64_t rounds;

		if (!port)
			continue;
		rounds = dp_turn_credit(&port->turn, loop->round,
					loop->table->ports[port->id].kind == DP_PORT_UPLINK ?
						quantum * DP_UPLINK_WEIGHT :
						quantum);
		if (rounds < soonest)
			soonest = rounds;
		/* Who owes still gets what others have sent. */
		if (!rounds)
			serve_port(loop, port, events[i].events);
		else if (events[i].events & EPOLLOUT)
			serve_port(loop, port, EPOLLOUT);
		/* Nobody tells of it a second time. */
		if (rounds && (port->transport->edge || events[i].events & AGAIN)) {
			port->events |= events[i].events & ~(uint32_t)(EPOLLOUT | AGAIN);
			dp_loop_again(loop, port);
		}
	}
	return soonest == UINT64_MAX ? 0 : soonest;
}

_Static_assert((DP_MAX_PORTS & (DP_MAX_PORTS - 1)) == 0, "port_of() masks with it");

static void relax_ports(struct dp_loop *loop)
{
	if (loop->now_ns < loop->relax_ns)
		return;
	for (unsigned int i = 0; i < DP_MAX_PORTS; i++) {
		struct dp_io_port *port = &loop->ports[i];

		if (port->held && port->transport->relax)
			port->transport->relax(loop, port);
	}
	loop->relax_ns = loop->now_ns + RELAX_MS * 1000000ull;
}

static int wait_for_events(struct dp_loop *loop, struct epoll_event *events)
{
	static const struct timespec none, nap = { .tv_nsec = NAP_NS }, relax = { .tv_sec = 1 };
	const struct timespec *most = loop->n_again > loop->n_naps ? &none :
				      loop->n_naps	       ? &nap :
				      loop->n_holding	       ? &relax :
								 NULL;

	return epoll_pwait2(loop->epoll_fd, events, MAX_EVENTS, most, NULL);
}

int dp_loop_run(struct dp_loop *loop)
{
	struct epoll_event events[MAX_EVENTS + MAX_AGAIN];

	for (;;) {
		uint64_t rounds;
		int tag = 0;
		int n;

		if (loop->n_ended)
			return DP_RUN_DETACHED;
		if (loop->sightings.n && !loop->sightings.told) {
			loop->sightings.told = true;
			return DP_RUN_SIGHTED;
		}
		n = wait_for_events(loop, events);
		if (n < 0)
			return errno == EINTR ? DP_RUN_SIGNAL : DP_RUN_FAILED;
		n = add_again(loop, events, n, MAX_AGAIN);
		loop->now_ns = monotonic_ns();
		loop->round++;
		while ((rounds = serve_round(loop, events, n)))
			loop->round += rounds;
		for (int i = 0; i < n; i++)
			if (is_watched(&events[i]))
				tag = (int)(events[i].data.u64 >> 32);
		if (loop->n_holding)
			relax_ports(loop);
		if (tag)
			return tag;
	}
}
