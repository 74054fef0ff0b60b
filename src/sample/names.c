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

/* The k-th spelling of a row, folded: name, label, then the aliases; false when there is none. An
 * empty spelling is passed over by giving "". */
static bool spelling(char out[LIMN_NAME_MAX], const limn_name_row *row, int k) {
    out[0] = 0;
    if (k < 2) {
        const char *text = k == 0 ? row->name : row->label;
        if (text) limn_name_fold(out, text);
        return true;
    }
    const char *at = row->aliases;
    for (; at && *at && k > 2; k--) at += strcspn(at, "|") + (at[strcspn(at, "|")] == '|');
    if (!at || !*at) return false;
    char one[LIMN_NAME_MAX];
    size_t len = strcspn(at, "|");
    if (len >= sizeof one) len = sizeof one - 1;
    memcpy(one, at, len);
    one[len] = 0;
    limn_name_fold(out, one);
    return true;
}

int limn_name_find(const char *name, int count, limn_name_row_fn *row) {
    char want[LIMN_NAME_MAX], have[LIMN_NAME_MAX];
    if (!limn_name_fold(want, name)) return -1;
    for (int i = 0; i < count; i++) {
        limn_name_row r = row(i);
        for (int k = 0; spelling(have, &r, k); k++)
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

static int row_distance(const char *want, const limn_name_row *row) {
    char have[LIMN_NAME_MAX];
    int best = LIMN_NAME_MAX;
    for (int k = 0; spelling(have, row, k); k++) {
        int d = have[0] ? distance(want, have) : LIMN_NAME_MAX;
        if (d < best) best = d;
    }
    return best;
}

/* Keeps the NEAR rows of least distance, nearest first. */
enum { NEAR = 3 };
static int nearest(int at[NEAR], const char *want, int count, limn_name_row_fn *row) {
    int far[NEAR], n = 0;
    for (int i = 0; i < count; i++) {
        limn_name_row r = row(i);
        int d = row_distance(want, &r), k = n;
        if (n == NEAR && d >= far[NEAR - 1]) continue;
        if (n < NEAR)
            n++;
        else
            k = NEAR - 1;
        for (; k > 0 && far[k - 1] > d; k--) {
            at[k] = at[k - 1];
            far[k] = far[k - 1];
        }
        at[k] = i;
        far[k] = d;
    }
    return n;
}

limn_status limn_name_fail(limn_err *err, const char *what, const char *name, int count,
                           limn_name_row_fn *row) {
    char want[LIMN_NAME_MAX] = "", list[256] = "";
    int at[NEAR];
    size_t len = 0;
    if (!limn_name_fold(want, name)) want[0] = 0;
    int n = nearest(at, want, count, row);
    for (int k = 0; k < n; k++) {
        const char *join = k == 0 ? "" : k < n - 1 ? ", " : " or ";
        limn_name_row r = row(at[k]);
        const char *shown = r.label && r.label[0] ? r.label : r.name;
        int put = snprintf(list + len, sizeof list - len, "%s%s", join, shown);
        if (put < 0 || (size_t)put >= sizeof list - len) break;
        len += (size_t)put;
    }
    return limn_fail(err, LIMN_E_VALUE, "unknown %s \"%.*s\"; did you mean %s?", what,
                     LIMN_NAME_MAX, name ? name : "", list);
}
