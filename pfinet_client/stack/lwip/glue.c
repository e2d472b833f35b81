/* SPDX-License-Identifier: Apache-2.0 */
#include "glue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

#include <lwip/ethip6.h>
#include <lwip/etharp.h>
#include <lwip/netif.h>
#include <netif/ethernet.h>

struct frame {
	struct frame *next;
	uint32_t len;
	uint8_t bytes[];
};

static int event = -1;
static struct netif interface;
static bool is_up;
static struct frame *first, **last = &first;
static size_t frames;
static struct pl_socket *marked;

static _Thread_local bool attends;

void pl_attend(void)
{
	attends = true;
}

void pl_signal(void)
{
	if (!attends)
		pl_wake();
}

void pl_wake(void)
{
	uint64_t one = 1;
	/* Fails only if it is signalled already. */
	ssize_t written = write(event, &one, sizeof(one));

	(void)written;
}

void pl_mark(struct pl_socket *s)
{
	if (s->is_marked)
		return;
	s->is_marked = true;
	s->next_marked = marked;
	marked = s;
	pl_signal();
}

void pl_unmark(struct pl_socket *s)
{
	for (struct pl_socket **at = &marked; *at; at = &(*at)->next_marked) {
		if (*at == s) {
			*at = s->next_marked;
			break;
		}
	}
	s->is_marked = false;
}

struct netif *pl_interface(void)
{
	return is_up ? &interface : NULL;
}

int pl_changed(uint64_t *ids, int n)
{
	int got = 0;

	pl_lock();
	while (marked && got < n) {
		ids[got++] = marked->id;
		marked->is_marked = false;
		marked = marked->next_marked;
	}
	pl_unlock();
	return got;
}

int pl_start(void)
{
	int made, result;

	if (event >= 0)
		return event;
	made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (made < 0)
		return -errno;
	result = pl_init();
	if (result < 0) {
		close(made);
		return result;
	}
	event = made;
	return event;
}

/* The core lock is held: lwIP calls it. */
static err_t send_frame(struct netif *netif, struct pbuf *p)
{
	struct frame *frame;

	if (frames >= PL_MAX_FRAMES)
		return ERR_MEM;
	frame = malloc(sizeof(*frame) + p->tot_len);
	if (!frame)
		return ERR_MEM;
	frame->next = NULL;
	frame->len = p->tot_len;
	pbuf_copy_partial(p, frame->bytes, p->tot_len, 0);
	if (!pl_may_send(netif, frame->bytes, frame->len)) {
		free(frame);
		return ERR_RTE;
	}
	*last = frame;
	last = &frame->next;
	frames++;
	pl_signal();
	return ERR_OK;
}

static err_t set_up(struct netif *netif)
{
	netif->name[0] = 'p';
	netif->name[1] = 'f';
	netif->output = etharp_output;
	netif->output_ip6 = ethip6_output;
	netif->linkoutput = send_frame;
	netif->hwaddr_len = 6;
	netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET |
		       NETIF_FLAG_LINK_UP | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
	return ERR_OK;
}

int pl_up(const uint8_t mac[6], uint16_t mtu)
{
	int result = 0;

	pl_lock();
	if (is_up) {
		result = -EBUSY;
	} else {
		memset(&interface, 0, sizeof(interface));
		memcpy(interface.hwaddr, mac, 6);
		interface.mtu = mtu;
		netif_add(&interface, NULL, NULL, NULL, NULL, set_up, ethernet_input);
		memcpy(interface.hwaddr, mac, 6);
		interface.mtu = mtu;
		interface.mtu6 = mtu;
		netif_set_default(&interface);
		pl_slots_begin(&interface);
		netif_set_up(&interface);
		is_up = true;
	}
	pl_unlock();
	return result;
}

void pl_down(void)
{
	pl_lock();
	if (is_up) {
		is_up = false;
		pl_router_forget();
		netif_remove(&interface);
	}
	while (first) {
		struct frame *frame = first;

		first = frame->next;
		free(frame);
	}
	last = &first;
	frames = 0;
	pl_unlock();
}

void pl_set_mtu(uint16_t mtu)
{
	pl_lock();
	interface.mtu = mtu;
	interface.mtu6 = mtu;
	if (is_up)
		pl_path_heed();
	pl_unlock();
}

int pl_set_ipv4(const uint8_t address[4], const uint8_t mask[4], const uint8_t gateway[4])
{
	ip4_addr_t ip, net, gw;

	memcpy(&ip.addr, address, 4);
	memcpy(&net.addr, mask, 4);
	memcpy(&gw.addr, gateway, 4);
	pl_lock();
	netif_set_addr(&interface, &ip, &net, &gw);
	pl_unlock();
	return 0;
}

static void take_in(const uint8_t *frame, size_t len)
{
	struct pbuf *p;

	if (len < 14 || len > PL_MAX_FRAME_BYTES || !pl_may_see(frame, len))
		return;
	p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_RAM);
	if (!p)
		return;
	pbuf_take(p, frame, (u16_t)len);
	if (ethernet_input(p, &interface) != ERR_OK)
		pbuf_free(p);
	if (frame[12] == 0x86 && frame[13] == 0xdd) {
		pl_neighbors_heed();
		/* What tells of a path is ICMP, perhaps behind other headers. */
		if (len > 20 && frame[20] != IP_PROTO_TCP && frame[20] != IP_PROTO_UDP)
			pl_path_heed();
	}
	pl_crowd_heed();
}

void pl_input(const uint8_t *from, const uint32_t *lens, int n)
{
	pl_lock();
	if (is_up)
		pl_slots_face(&interface, true);
	for (int at = 0; is_up && at < n; at++) {
		take_in(from, lens[at]);
		from += lens[at];
	}
	if (is_up)
		pl_slots_face(&interface, false);
	pl_unlock();
}

int pl_output(uint8_t *to, size_t room, uint32_t *lens, int n)
{
	int got = 0;

	pl_lock();
	while (first && got < n && first->len <= room) {
		struct frame *frame = first;

		memcpy(to, frame->bytes, frame->len);
		to += frame->len;
		room -= frame->len;
		lens[got++] = frame->len;
		first = frame->next;
		if (!first)
			last = &first;
		frames--;
		free(frame);
	}
	pl_unlock();
	return got;
}
