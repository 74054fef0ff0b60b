/* SPDX-License-Identifier: MIT */
/* Brackets, numbers, words of the prompt syntax; see prompt_impl.h. */
#include "text/prompt_impl.h"

#include <stdlib.h>
#include <string.h>

uint32_t *limn_prompt_match(const char *s, size_t n, const char *kinds) {
    static const char openers[] = "([{", closers[] = ")]}";
    uint32_t *match = limn_mem_alloc((n + 1) * sizeof *match);
    uint32_t *stack = limn_mem_alloc((n + 1) * sizeof *stack);
    size_t depth = 0, open[3] = {0};
    if (!match || !stack) {
        limn_mem_free(match);
        limn_mem_free(stack);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        match[i] = LIMN_NO_MATCH;
        const char *o = s[i] ? strchr(openers, s[i]) : NULL,
                   *c = s[i] ? strchr(closers, s[i]) : NULL;
        if (s[i] == '\\' && i + 1 < n) {
            match[++i] = LIMN_NO_MATCH;
        } else if (o && strchr(kinds, *o)) {
            stack[depth++] = (uint32_t)i;
            open[o - openers]++;
        } else if (c && open[c - closers] > 0) {
            char want = openers[c - closers];
            while (s[stack[depth - 1]] != want) /* strays inside */
                open[strchr(openers, s[stack[--depth]]) - openers]--;
            depth--;
            open[c - closers]--;
            match[stack[depth]] = (uint32_t)i;
            match[i] = stack[depth];
        }
    }
    limn_mem_free(stack);
    return match;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool limn_prompt_number(const char *s, size_t n, double *out) {
    char tmp[40];
    while (n && is_space(s[0])) s++, n--;
    while (n && is_space(s[n - 1])) n--;
    if (n == 0 || n >= sizeof tmp) return false;
    size_t digits = 0, points = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] >= '0' && s[i] <= '9')
            digits++;
        else if (s[i] == '.')
            points++;
        else if (!(i == 0 && (s[i] == '+' || s[i] == '-')))
            return false;
    }
    if (digits == 0 || points > 1) return false;
    memcpy(tmp, s, n);
    tmp[n] = 0;
    *out = strtod(tmp, NULL);
    return true;
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

bool limn_prompt_word_at(const char *s, size_t n, size_t i, const char *word, size_t len) {
    if (n - i < len || memcmp(s + i, word, len) != 0) return false;
    if (i > 0 && is_word(s[i - 1])) return false;
    return i + len == n || !is_word(word[len - 1]) || !is_word(s[i + len]);
}

size_t limn_prompt_wildcard_at(const char *s, size_t n, size_t i) {
    enum { NAME_MAX_BYTES = 200 };
    if (n - i < 5 || s[i] != '_' || s[i + 1] != '_') return 0;
    size_t end = n - i > NAME_MAX_BYTES ? i + NAME_MAX_BYTES : n;
    for (size_t k = i + 2; k + 1 < end; k++) {
        if (s[k] == '_' && s[k + 1] == '_') return k > i + 2 ? k + 2 - i : 0;
        if (!is_word(s[k]) && s[k] != '-' && s[k] != '.' && s[k] != '/' && s[k] != ' ') return 0;
    }
    return 0;
}

size_t limn_prompt_net_at(const char *s, size_t n, size_t i, size_t *next_gt) {
    if (s[i] != '<') return 0;
    size_t k = i + 1;
    while (k < n && k - i <= 32 && is_word(s[k])) k++;
    if (k == i + 1 || k >= n || s[k] != ':') return 0;
    if (*next_gt <= k) {
        const char *gt = memchr(s + k, '>', n - k);
        *next_gt = gt ? (size_t)(gt - s) : SIZE_MAX;
    }
    if (*next_gt == SIZE_MAX || *next_gt == k + 1) return 0;
    return *next_gt + 1 - i;
}

void limn_prompt_square(limn_square_form *form, const char *s, const uint32_t *match, size_t open) {
    size_t close = match[open], colons = 0, bars = 0, colon[2] = {0};
    double number;
    form->kind = LIMN_SQUARE_TEXT;
    form->n_cut = 0;
    for (size_t i = open + 1; i < close; i++) {
        if (s[i] == '\\') {
            i++;
        } else if (match[i] != LIMN_NO_MATCH && match[i] > i && match[i] < close) {
            i = match[i];
        } else if (s[i] == ':') {
            if (colons < 2) colon[colons] = i;
            colons++;
        } else if (s[i] == '|') {
            if (bars < LIMN_SQUARE_CUTS) form->cut[bars] = (uint32_t)i;
            bars++;
        }
    }
    if (colons == 1 || colons == 2) {
        size_t last = colon[colons - 1];
        if (!limn_prompt_number(s + last + 1, close - last - 1, &number)) return;
        form->kind = LIMN_SQUARE_SCHEDULE;
        form->n_cut = colons;
        for (size_t i = 0; i < colons; i++) form->cut[i] = (uint32_t)colon[i];
    } else if (colons == 0 && bars > 0 && bars <= LIMN_SQUARE_CUTS) {
        form->kind = LIMN_SQUARE_ALTERNATE;
        form->n_cut = bars;
    }
}

uint64_t limn_prompt_random(uint64_t *state, uint64_t n) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return n ? (uint64_t)((unsigned __int128)z * n >> 64) : 0;
}

double limn_prompt_random_unit(uint64_t *state) {
    return (double)limn_prompt_random(state, (uint64_t)1 << 53) * 0x1p-53;
}
