/* SPDX-License-Identifier: MIT */
/*
 * What a process gives up before it looks at strangers' files: memory and time beyond a limit,
 * writing files, capabilities, and every system call that decoding does not need. Linux: rlimits,
 * no_new_privs, Landlock (Documentation/userspace-api/landlock.rst) and a seccomp filter.
 *
 * A call that is not on the list kills the process. Files may be opened for reading in the folders
 * of fonts only (a PDF names fonts that it does not bring); without Landlock, nowhere.
 * There is no way back; threads that are made later are held too. Internal to media/.
 */
#ifndef LIMN_MEDIA_JAIL_H
#define LIMN_MEDIA_JAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Under a sanitizer the room of the address space means nothing: its shadow is larger. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMN_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMN_SANITIZED 1
#endif
#endif
#ifndef LIMN_SANITIZED
#define LIMN_SANITIZED 0
#endif

typedef struct limn_jail limn_jail;

typedef struct limn_jail_options {
    int64_t memory;           /* bytes of address space; 0: as many as there are */
    int cpu_seconds;          /* of all threads together */
    const char *const *paths; /* folders that may be read, up to NULL; missing ones are left out */
} limn_jail_options;

/* All that can be made beforehand, for many processes. E_UNSUPPORTED when the machine has no
 * filters of system calls. */
limn_status limn_jail_build(limn_jail **out, const limn_jail_options *options, limn_err *err);
void limn_jail_free(limn_jail **j); /* NULL-safe */
/* Files below `paths` can be opened inside. */
bool limn_jail_reads(const limn_jail *j);

/* The calling process must have one thread. E_UNSUPPORTED when the kernel refuses: the process is
 * then not held, or not wholly, and must not decode. */
limn_status limn_jail_enter(const limn_jail *j, limn_err *err);

#endif
