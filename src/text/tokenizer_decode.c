/* SPDX-License-Identifier: MIT */
/* Ids -> text, whole or streaming; see tokenizer.h. */
#include <string.h>

#include "text/tokenizer_impl.h"

void limn_detok_init(limn_detok *d, const limn_tokenizer *t, unsigned flags) {
    *d = (limn_detok){.t = t, .flags = flags};
}

static limn_status check_out(const limn_buf *out, limn_err *err) {
    if (!out->failed) return LIMN_OK;
    return limn_fail(err, LIMN_E_LIMIT, "decoded text exceeds %zu bytes", out->limit);
}

/* Writes sound text, with the rules for spaces at the beginning and at word ends. */
static void write_text(limn_detok *d, limn_buf *out, const char *s, size_t n) {
    if (n == 0) return;
    if (!d->begun && d->t->strip_first && s[0] == ' ') {
        s++;
        n--;
    }
    d->begun = true;
    if (d->t->suffix) { /* the spaces at the very end of a CLIP text are dropped */
        if (d->space && n) limn_buf_addc(out, ' ');
        if (n) d->space = s[n - 1] == ' ';
        if (d->space && n) n--;
    }
    limn_buf_add(out, s, n);
}

/* Passes bytes on, holding back an unfinished character. */
static void write_bytes(limn_detok *d, limn_buf *out, limn_text_view v) {
    char small[64];
    limn_buf big;
    limn_buf_init(&big, 1u << 24);
    size_t n = d->n_held + v.len;
    char *p = small;
    if (n > sizeof small) {
        limn_buf_add(&big, d->held, d->n_held);
        limn_buf_add(&big, v.data, v.len);
        p = big.data;
        if (big.failed) {
            out->failed = true;
            limn_buf_deinit(&big);
            return;
        }
    } else {
        memcpy(small, d->held, d->n_held);
        memcpy(small + d->n_held, v.data, v.len);
    }
    size_t keep = limn_utf8_pending(p, n), whole = n - keep;
    if (limn_utf8_sound(p, whole) == whole) {
        write_text(d, out, p, whole);
    } else {
        limn_buf clean;
        limn_buf_init(&clean, 1u << 26);
        limn_utf8_clean(&clean, p, whole);
        out->failed |= clean.failed;
        write_text(d, out, limn_buf_text(&clean), clean.len);
        limn_buf_deinit(&clean);
    }
    memcpy(d->held, p + whole, keep);
    d->n_held = (unsigned)keep;
    limn_buf_deinit(&big);
}

limn_status limn_detok_add(limn_detok *d, limn_buf *out, int32_t id, limn_err *err) {
    const limn_tokenizer *t = d->t;
    if (id < 0 || (size_t)id >= t->vocab.n)
        return limn_fail(err, LIMN_E_VALUE, "token id %ld is not in the vocabulary", (long)id);
    if ((t->kind[id] & LIMN_TOKEN_SPECIAL) && (d->flags & LIMN_DECODE_SKIP_SPECIAL)) return LIMN_OK;
    if (t->out[id].data) write_bytes(d, out, t->out[id]);
    return check_out(out, err);
}

limn_status limn_detok_finish(limn_detok *d, limn_buf *out, limn_err *err) {
    if (d->n_held) {
        limn_buf clean;
        limn_buf_init(&clean, 64);
        limn_utf8_clean(&clean, (const char *)d->held, d->n_held);
        out->failed |= clean.failed;
        write_text(d, out, limn_buf_text(&clean), clean.len);
        limn_buf_deinit(&clean);
        d->n_held = 0;
    }
    return check_out(out, err);
}

limn_status limn_tokenizer_decode(const limn_tokenizer *t, limn_buf *out, const int32_t *ids,
                                  size_t n, unsigned flags, limn_err *err) {
    limn_detok d;
    limn_detok_init(&d, t, flags);
    for (size_t i = 0; i < n; i++) {
        limn_status st = limn_detok_add(&d, out, ids[i], err);
        if (st != LIMN_OK) return st;
    }
    return limn_detok_finish(&d, out, err);
}
