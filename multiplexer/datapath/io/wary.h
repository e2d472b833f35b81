/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wary.h - Sockets on which a client can send descriptors
 *
 * Before Linux 6.16 nothing keeps a client from sending descriptors with its bytes
 * (SCM_RIGHTS, unix(7)).  To close one can take as long as its maker likes: a TCP
 * socket lingers, a file of a file system in user space waits for its server.
 * They must not become ours, then, and must not be discarded by us:
 *
 * - A plain recv() discards them.  So the bytes are looked at first, by MSG_PEEK
 *   without room for control data: MSG_CTRUNC says that descriptors stand among
 *   them, and none is installed.  Only bytes that were seen without any are then
 *   received; nobody else reads the socket, so they are the same.
 * - An urgent byte that is not read inline is skipped, with the descriptor that it
 *   carries.  So whoever gives us a stream has set SO_OOBINLINE.
 * - An empty message looks like the end, and more may follow.  So whoever gives us
 *   a socket of messages has set SO_PASSCRED: then each has its sender's
 *   credentials with it, and the end has none.
 * - The last close of a socket discards what is in its queue.  So it is shut down,
 *   which lets nothing more in, and emptied as above.  Where a descriptor turns up
 *   the socket is not closed, ever: that costs a descriptor of ours, once for each
 *   attachment of a client who is not let in again.
 *
 * Where the kernel refuses descriptors, none of this is done.
 */
#ifndef DP_IO_WARY_H
#define DP_IO_WARY_H

#include <sys/types.h>

#include "port.h"

/**
 * dp_wary_recv() - recv(2) without waiting, that takes no descriptor
 * @fd:		A Unix socket that nobody else reads
 * @kind:	What of
 *
 * Return: as recv(2), of a message its whole length; -1 with EBADMSG where a descriptor comes next
 */
ssize_t dp_wary_recv(int fd, enum dp_hears kind, uint8_t *to, size_t len);

/**
 * dp_wary_close() - Close a socket, unless descriptors wait in it
 * @buffer:	Scratch, of @len bytes
 *
 * Return: 0, or -EBADMSG where it stays open, shut down, for good
 */
int dp_wary_close(int fd, enum dp_hears kind, uint8_t *buffer, size_t len);

#endif
