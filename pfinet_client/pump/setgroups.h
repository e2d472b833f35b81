/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setgroups.h - A setgroups(2) that succeeds where the kernel must refuse it
 *
 * In a user namespace of one uid the kernel denies setgroups, for dropping a
 * group could give access (user_namespaces(7)).  Programs that make sure that
 * they are root and nobody else, `tcpdump -Z root` among them, call it and give
 * up.  A system call filter answers it with success and does nothing: the
 * process keeps the groups of its user, who could not have lost them.  Nobody
 * is deceived about being another user, for there is none to become.
 */
#ifndef PFINET_SETGROUPS_H
#define PFINET_SETGROUPS_H

/**
 * pfinet_pretend_setgroups() - Have setgroups do nothing, successfully
 *
 * Holds for the calling thread, over execve and for all its children, for ever.
 * Needs CAP_SYS_ADMIN in the caller's user namespace.  All other system calls,
 * and those of foreign architectures, stay as they are.
 *
 * Return: 0, or -1 with errno; ENOSYS on an architecture that it does not know
 */
int pfinet_pretend_setgroups(void);

#endif
