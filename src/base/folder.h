/* SPDX-License-Identifier: MIT */
/* Folders and what the system says about itself. Any thread. */
#ifndef LIMN_BASE_FOLDER_H
#define LIMN_BASE_FOLDER_H

#include <stdint.h>

#include "base/status.h"

/* Makes the folder and those above it; one that is there is fine. E_VALUE: the name is too long,
 * E_IO: it cannot be made. */
limn_status limn_folder_make(const char *path, limn_err *err);

/* The number of a line "<name>: <n> kB" of a file such as /proc/meminfo, in bytes; 0: there is no
 * such line. */
int64_t limn_proc_bytes(const char *path, const char *name);

#endif
