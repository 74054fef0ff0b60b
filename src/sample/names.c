/* SPDX-License-Identifier: MIT */
/* Folded comparison and nearest names; see names.h. */
#include "sample/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

bool limn_name_fold(char out[LIMN_NAME_MAX], const char *name) {
    size_t n = 0;
    if (!name) return false;
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (c == '+') c = 'p';
        if (c >= 128 || !isalnum(c)) continue;
        if (n + 1 >= LIMN_NAME_MAX) return false;
        out[n++] = (char)tolower(c);
    }
    out[n] = 0;
    return n > 0;
}

/* The next alias of a '|' list, folded into `out`; false at the end. */
static bool alias_next(char out[LIMN_NAME_MAX], const char **list) {
    while (*list && **list) {
        char one[LIMN_NAME_MAX];
        size_t len = strcspn(*list, "|");
        size_t copy = len < sizeof one ? len : sizeof one - 1;
        memcpy(one, *list, copy);
        one[copy] = 0;
        *list += len + ((*list)[len] == '|');
        if (limn_name_fold(out, one)) return true;
    }
    return false;
}

int limn_name_find(const char *name, int count, limn_name_row_fn *row) {
    char want[LIMN_NAME_MAX], have[LIMN_NAME_MAX];
    if (!limn_name_fold(want, name)) return -1;
    for (int i = 0; i < count; i++) {
        const char *aliases = NULL;
        if (limn_name_fold(have, row(i, &aliases)) && strcmp(want, have) == 0) return i;
        while (alias_next(have, &aliases))
            if (strcmp(want, have) == 0) return i;
    }
    return -1;
}

/* Levenshtein distance of two folded names. */
static int distance(const char *a, const char *b) {
    int row[LIMN_NAME_MAX];
    int nb = (int)strlen(b);
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < nb; j++) {
            int change = diagonal + (a[i] != b[j]);
            int less = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < less ? change : less;
        }
    }
    return row[nb];
}

static int row_distance(const char *want, int i, limn_name_row_fn *row) {
    char have[LIMN_NAME_MAX];
    const char *aliases = NULL;
    int best = LIMN_NAME_MAX;
    if (limn_name_fold(have, row(i, &aliases))) best = distance(want, have);
    while (alias_next(have, &aliases)) {
        int d = distance(want, have);
        if (d < best) best = d;
    }
    return best;
}

limn_status limn_name_fail(limn_err *err, const char *what, const char *name, int count,
                           limn_name_row_fn *row) {
    enum { NEAR = 3 };
    char want[LIMN_NAME_MAX] = "";
    int at[NEAR], far[NEAR], near = 0;
    limn_name_fold(want, name);
    want[LIMN_NAME_MAX - 1] = 0;
    for (int i = 0; i < count; i++) {
        int d = row_distance(want, i, row);
        int k = near < NEAR ? near++ : NEAR - 1;
        if (k == NEAR - 1 && near == NEAR && i >= NEAR && d >= far[k]) continue;
        while (k > 0 && far[k - 1] > d) {
            at[k] = at[k - 1];
            far[k] = far[k - 1];
            k--;
        }
        at[k] = i;
        far[k] = d;
    }
    char list[256] = "";
    size_t len = 0;
    for (int k = 0; k < near; k++) {
        const char *aliases;
        int n = snprintf(list + len, sizeof list - len, "%s%s",
                         k == 0         ? ""
                         : k < near - 1 ? ", "
                                        : " or ",
                         row(at[k], &aliases));
        if (n < 0 || (size_t)n >= sizeof list - len) break;
        len += (size_t)n;
    }
    return limn_fail(err, LIMN_E_VALUE, "unknown %s \"%.*s\"; did you mean %s?", what,
                     LIMN_NAME_MAX, name ? name : "", list);
}
