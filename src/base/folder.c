/* SPDX-License-Identifier: MIT */
/* See folder.h. */
#include "base/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

limn_status limn_folder_make(const char *folder, limn_err *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s", folder) >= (int)sizeof path)
        return limn_fail(err, LIMN_E_VALUE, "%s: the name of the folder is too long", folder);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return LIMN_OK;
    return limn_fail(err, LIMN_E_IO, "%s: cannot be made: %s", folder, strerror(errno));
}

int64_t limn_proc_bytes(const char *path, const char *name) {
    char line[256];
    size_t n = strlen(name);
    long long kb = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, name, n) == 0 && line[n] == ':') {
            kb = strtoll(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return (int64_t)kb * 1024;
}
