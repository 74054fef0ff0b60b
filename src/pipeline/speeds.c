/* SPDX-License-Identifier: MIT */
/* See speeds.h. A line is "<hash of the key> <load> <per_work> <per_pixel>". */
#include "pipeline/speeds.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/mem.h"

enum { LINES = 64 };

typedef struct row {
    uint64_t key;
    limn_speed speed;
} row;

static uint64_t hash_of(const char *key) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (const unsigned char *p = (const unsigned char *)key; *p; p++)
        h = (h ^ *p) * 1099511628211u;
    return h;
}

static bool is_time(double v) {
    return isfinite(v) && v >= 0;
}

static int read_rows(row rows[LINES], const char *path) {
    char line[256];
    int n = 0;
    FILE *f = fopen(path, "r");
    while (f && n < LINES && fgets(line, sizeof line, f)) {
        row *r = &rows[n];
        limn_speed *s = &r->speed;
        n += sscanf(line, "%16" SCNx64 " %lf %lf %lf", &r->key, &s->load, &s->per_work,
                    &s->per_pixel) == 4 &&
             is_time(s->load) && is_time(s->per_work) && is_time(s->per_pixel);
    }
    if (f) fclose(f);
    return n;
}

bool limn_speeds_find(limn_speed *out, const char *path, const char *key) {
    row rows[LINES];
    uint64_t hash = hash_of(key);
    int n = read_rows(rows, path);
    for (int i = 0; i < n; i++)
        if (rows[i].key == hash) {
            *out = rows[i].speed;
            return true;
        }
    return false;
}

static void put_row(FILE *f, const row *r) {
    fprintf(f, "%016" PRIx64 " %.6g %.6g %.6g\n", r->key, r->speed.load, r->speed.per_work,
            r->speed.per_pixel);
}

limn_status limn_speeds_note(const char *path, const char *key, const limn_speed *speed,
                             limn_err *err) {
    row rows[LINES], newest = {.key = hash_of(key), .speed = *speed};
    char temp[4200];
    const char *slash = strrchr(path, '/');
    limn_status st = LIMN_OK;
    if (slash) {
        char *folder = limn_mem_strndup(path, (size_t)(slash - path));
        st = folder ? limn_folder_make(folder, err) : limn_fail(err, LIMN_E_NOMEM, "no memory");
        limn_mem_free(folder);
    }
    if (st != LIMN_OK) return st;
    if (snprintf(temp, sizeof temp, "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof temp)
        return limn_fail(err, LIMN_E_VALUE, "%s: the name is too long", path);
    int n = read_rows(rows, path), kept = 1;
    FILE *f = fopen(temp, "w");
    if (!f) return limn_fail(err, LIMN_E_IO, "%s: cannot be made: %s", temp, strerror(errno));
    put_row(f, &newest);
    for (int i = 0; i < n && kept < LINES; i++)
        if (rows[i].key != newest.key) {
            put_row(f, &rows[i]);
            kept++;
        }
    bool written = !ferror(f);
    written = fclose(f) == 0 && written;
    if (written && rename(temp, path) == 0) return LIMN_OK;
    st = limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    unlink(temp);
    return st;
}
