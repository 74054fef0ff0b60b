/* SPDX-License-Identifier: MIT */
/* Licences of models; see license.h. */
#include "formats/license.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096, HEAD_BYTES = 16384 };

/* One line of printable text without quotes around it; anything else is no name. */
static void take(limn_license *out, const char *p, size_t n, const char *from) {
    while (n && (*p == ' ' || *p == '\t' || *p == '"' || *p == '\'')) {
        p++;
        n--;
    }
    while (n && strchr(" \t\r\n\"'", p[n - 1])) n--;
    if (n == 0 || n > LIMN_LICENSE_MAX) return;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] >= 0x7f) return;
    memcpy(out->name, p, n);
    out->name[n] = 0;
    out->from = from;
}

static size_t line_of(const char *p, size_t n) {
    const char *end = memchr(p, '\n', n);
    return end ? (size_t)(end - p) : n;
}

void limn_license_of_card(limn_license *out, const char *text, size_t len) {
    static const char *const keys[] = {"license:", "license_name:"};
    limn_license found[2] = {{.from = ""}, {.from = ""}};
    *out = (limn_license){.from = ""};
    size_t n = line_of(text, len);
    if (n < 3 || strncmp(text, "---", 3) != 0) return;
    while (n < len) {
        text += n + 1;
        len -= n + 1;
        n = line_of(text, len);
        if (n >= 3 && strncmp(text, "---", 3) == 0) break;
        for (int i = 0; i < 2; i++) {
            size_t k = strlen(keys[i]);
            if (n > k && strncmp(text, keys[i], k) == 0)
                take(&found[i], text + k, n - k, "model card");
        }
    }
    *out = strcmp(found[0].name, "other") == 0 && found[1].name[0] ? found[1] : found[0];
}

/* The beginning of a file of the folder; 0: there is none. */
static size_t read_head(char *out, size_t size, const char *folder, const char *name) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "rbe") : NULL;
    size_t got = f ? fread(out, 1, size, f) : 0;
    if (f) fclose(f);
    return got;
}

static void look_beside(limn_license *out, const char *folder) {
    static const char *const files[] = {"LICENSE", "LICENSE.txt", "LICENSE.md"};
    char text[HEAD_BYTES];
    struct stat sb;
    if (stat(folder, &sb) != 0 || !S_ISDIR(sb.st_mode)) return;
    limn_license_of_card(out, text, read_head(text, sizeof text, folder, "README.md"));
    for (int i = 0; i < 3 && !out->name[0]; i++) {
        size_t n = read_head(text, sizeof text, folder, files[i]), at = 0;
        while (at < n && strchr(" \t\r\n#", text[at])) at++;
        take(out, text + at, line_of(text + at, n - at), "license file");
    }
}

void limn_license_find(limn_license *out, const limn_weights *w) {
    static const char *const keys[] = {"modelspec.license", "general.license.name",
                                       "general.license", "license"};
    *out = (limn_license){.from = ""};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && !out->name[0]; i++) {
        const char *text = limn_weights_meta_str(w, keys[i]);
        if (text) take(out, text, strlen(text), "metadata");
    }
    if (!out->name[0]) look_beside(out, limn_weights_path(w));
}
