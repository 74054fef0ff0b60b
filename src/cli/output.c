/* SPDX-License-Identifier: MIT */
/* Where pictures go: name patterns, checks before any work, saving; see cli.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

static const char default_pattern[] = "limn-%seed.png";

static const char *pattern_of(const cli *c) {
    const char *pattern = limn_params_text(c->app, "output");
    return *pattern ? pattern : default_pattern;
}

limn_file_options cli_file_options(const cli *c) {
    return (limn_file_options){
        .format = limn_params_text(c->gen, "format"),
        .quality = (int)limn_params_int(c->gen, "quality"),
        .lossless = limn_params_int(c->gen, "lossless") != 0,
        .compression = (int)limn_params_int(c->gen, "compression"),
        .keep_existing = limn_params_int(c->app, "overwrite") == 0,
    };
}

/* Adds formatted text at *at; false when it does not fit. */
static bool put(char *out, size_t *at, const char *text, size_t len) {
    if (len >= CLI_PATH_MAX - *at) return false;
    memcpy(out + *at, text, len);
    *at += len;
    out[*at] = 0;
    return true;
}

limn_status cli_output_name(char out[CLI_PATH_MAX], const cli *c, int index, int count,
                            int64_t seed, limn_err *err) {
    const char *pattern = pattern_of(c), *dot = strrchr(pattern, '.');
    bool numbered = strstr(pattern, "%n") || strstr(pattern, "%seed") || count == 1 ||
                    strcmp(pattern, "-") == 0;
    char number[32], seed_text[32];
    size_t at = 0;
    bool fits = true;
    out[0] = 0;
    if (!dot || strchr(dot, '/')) dot = pattern + strlen(pattern);
    snprintf(number, sizeof number, "%0*d", count > 999 ? 5 : count > 99 ? 3 : 2, index + 1);
    snprintf(seed_text, sizeof seed_text, "%lld", (long long)seed);
    for (const char *p = pattern; fits; p++) {
        /* several pictures and no number in the name: -01, -02 ... before the ending */
        if (p == dot && !numbered)
            fits = put(out, &at, "-", 1) && put(out, &at, number, strlen(number));
        if (!*p || !fits) break;
        if (strncmp(p, "%seed", 5) == 0) {
            fits = put(out, &at, seed_text, strlen(seed_text));
            p += 4;
        } else if (strncmp(p, "%n", 2) == 0) {
            fits = put(out, &at, number, strlen(number));
            p++;
        } else {
            p += strncmp(p, "%%", 2) == 0;
            fits = put(out, &at, p, 1);
        }
    }
    return fits ? LIMN_OK : cli_fail(err, LIMN_E_LIMIT, "the output name is too long");
}

/* Whether a file can be made in a folder that ends in a slash: its rights do not say it of every
 * file system, /proc for one. */
static bool takes_files(const char *folder) {
    char name[CLI_PATH_MAX + 16];
    snprintf(name, sizeof name, "%s.limn-XXXXXX", folder);
    int fd = mkstemp(name);
    if (fd < 0) return false;
    close(fd);
    unlink(name);
    return true;
}

limn_status cli_write_check(const cli *c, const char *path, limn_err *err) {
    struct stat sb;
    char folder[CLI_PATH_MAX] = "./";
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    if (stat(folder, &sb) != 0)
        return cli_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    bool exists = stat(path, &sb) == 0;
    if (exists && S_ISDIR(sb.st_mode)) return cli_fail(err, LIMN_E_IO, "%s: is a folder", path);
    if (exists && S_ISREG(sb.st_mode) && cli_file_options(c).keep_existing)
        return cli_fail(err, LIMN_E_IO, "%s: exists already; --overwrite replaces it", path);
    bool device = exists && !S_ISREG(sb.st_mode);
    if (device ? access(path, W_OK) != 0 : !takes_files(folder))
        return cli_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    return LIMN_OK;
}

limn_status cli_output_check(const cli *c, const char *path, limn_err *err) {
    const char *kind;
    limn_file_options o = cli_file_options(c);
    if (strcmp(path, "-") == 0) {
        if (!isatty(STDOUT_FILENO)) return LIMN_OK;
        return cli_fail(err, LIMN_E_USAGE, "a picture is not written to a terminal (-o -)");
    }
    limn_status st = limn_image_format_find(&kind, &o, path, err);
    return st == LIMN_OK ? cli_write_check(c, path, err) : st;
}

limn_status cli_output_save(const cli *c, const limn_image *image, const char *path,
                            const char *text, limn_err *err) {
    limn_file_options o = cli_file_options(c);
    void *data;
    size_t size;
    if (limn_params_int(c->gen, "metadata") == 0) text = NULL;
    if (strcmp(path, "-") != 0) return limn_image_save(image, path, &o, text, err);
    if (strcmp(o.format, "auto") == 0) o.format = "png";
    limn_status st = limn_image_encode(&data, &size, image, &o, text, err);
    if (st != LIMN_OK) return st;
    if (fwrite(data, 1, size, stdout) != size || fflush(stdout) != 0)
        st = cli_fail(err, LIMN_E_IO, "standard output: cannot be written: %s", strerror(errno));
    limn_bytes_free(&data);
    return st;
}
