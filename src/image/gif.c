/* SPDX-License-Identifier: MIT */
/*
 * GIF: blocks (GIF89a specification, sections 17 to 27), variable-length-code LZW (appendix F), and
 * frames laid on a canvas.
 */
#include <string.h>

#include "image/gif.h"
#include "image/image_vips.h"

enum { HEAD = 13, EXTENSION = 0x21, CONTROL = 0xf9, PICTURE = 0x2c, PICTURE_HEAD = 10 };
enum { HAS_TABLE = 0x80, INTERLACED = 0x40, HAS_TRANSPARENT = 1, CLEARED = 2, TAKEN_BACK = 3 };
/* Some writers say 4 for "taken back", and browsers follow them. */
enum { ALSO_TAKEN_BACK = 4 };

static uint32_t number(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

bool limn_gif_is(const void *data, size_t size) {
    return size >= 4 && memcmp(data, "GIF8", 4) == 0;
}

/* ---- blocks ---- */

typedef enum step { STEP_FRAME, STEP_END, STEP_CUT } step;

/* Moves *at behind the data blocks and their terminator; false when the file ends before it. */
static bool skip_blocks(const limn_gif *g, size_t *at) {
    while (*at < g->size && g->data[*at]) *at += 1 + (size_t)g->data[*at];
    return (*at)++ < g->size;
}

/* A colour table as the flags before it say, *at behind it; false when the file ends before that.
 * Leaves what is there when the flags say that there is none. */
static bool take_table(const uint8_t **table, int *colours, const limn_gif *g, uint8_t flags,
                       size_t *at) {
    if (!(flags & HAS_TABLE)) return true;
    int n = 2 << (flags & 7);
    if (g->size - *at < (size_t)n * 3) return false;
    *table = g->data + *at;
    *colours = n;
    *at += (size_t)n * 3;
    return true;
}

static bool take_picture(limn_gif_frame *f, const limn_gif *g, size_t *at) {
    const uint8_t *d = g->data + *at;
    if (g->size - *at < PICTURE_HEAD) return false;
    f->left = number(d + 1);
    f->top = number(d + 3);
    f->width = number(d + 5);
    f->height = number(d + 7);
    f->interlaced = d[9] & INTERLACED;
    f->table = g->table;
    f->colours = g->colours;
    *at += PICTURE_HEAD;
    if (!take_table(&f->table, &f->colours, g, d[9], at)) return false;
    f->data = (*at)++;
    return skip_blocks(g, at);
}

/* The next frame from *at on. Whatever is no block ends the animation, as in browsers. */
static step find_frame(limn_gif_frame *f, const limn_gif *g, size_t *at) {
    *f = (limn_gif_frame){.transparent = -1};
    while (*at < g->size) {
        const uint8_t *d = g->data + *at;
        if (*d == PICTURE) return take_picture(f, g, at) ? STEP_FRAME : STEP_CUT;
        if (*d != EXTENSION) return STEP_END;
        if (g->size - *at >= 7 && d[1] == CONTROL && d[2] >= 4) {
            f->disposal = d[3] >> 2 & 7;
            if (f->disposal == ALSO_TAKEN_BACK) f->disposal = TAKEN_BACK;
            f->delay_ms = (int)number(d + 4) * 10;
            f->transparent = d[3] & HAS_TRANSPARENT ? d[6] : -1;
        }
        *at += 2;
        if (!skip_blocks(g, at)) return STEP_CUT;
    }
    return STEP_END;
}

/* ---- LZW ---- */

enum { CODE_BITS = 12, CODES = 1 << CODE_BITS, NO_CODE = -1 };

typedef struct unpacker {
    const uint8_t *at; /* the next byte of the data blocks, which end within the file */
    unsigned block;    /* bytes left in this one */
    uint32_t bits;     /* not used yet, the next in the lowest place */
    int held;          /* how many */
    int clear, width, free, before;
    /* A code's text: that of `prefix` and then `last`. */
    uint16_t prefix[CODES], length[CODES];
    uint8_t first[CODES], last[CODES];
    uint8_t text[CODES];
} unpacker;

static void forget(unpacker *u, int bits) {
    u->width = bits + 1;
    u->free = u->clear + 2;
    u->before = NO_CODE;
}

static void start(unpacker *u, const uint8_t *data) {
    u->at = data + 1;
    u->block = u->bits = 0;
    u->held = 0;
    u->clear = 1 << data[0];
    for (int i = 0; i < u->clear; i++) {
        u->first[i] = u->last[i] = (uint8_t)i;
        u->length[i] = 1;
    }
    forget(u, data[0]);
}

static int take_code(unpacker *u) {
    for (; u->held < u->width; u->held += 8, u->block--) {
        if (u->block == 0) u->block = *u->at++;
        if (u->block == 0) {
            u->at--; /* stays before the terminator */
            return NO_CODE;
        }
        u->bits |= (uint32_t)*u->at++ << u->held;
    }
    int code = (int)(u->bits & ((1u << u->width) - 1));
    u->bits >>= u->width;
    u->held -= u->width;
    return code;
}

/* Makes the code that `code` gives a meaning to: the text before and this one's first pixel, which
 * may be itself. False when `code` has none. */
static bool learn(unpacker *u, int code) {
    if (u->before == NO_CODE) {
        if (code >= u->clear) return false;
    } else {
        if (code > u->free) return false;
        if (u->free < CODES) {
            u->prefix[u->free] = (uint16_t)u->before;
            u->length[u->free] = (uint16_t)(u->length[u->before] + 1);
            u->first[u->free] = u->first[u->before];
            u->last[u->free] = u->first[code == u->free ? u->before : code];
            u->free++;
        }
    }
    if (u->free == 1 << u->width && u->width < CODE_BITS) u->width++;
    u->before = code;
    return true;
}

static void spell(unpacker *u, int code) {
    for (int i = u->length[code]; i-- > 0; code = u->prefix[code]) u->text[i] = u->last[code];
}

/* ---- drawing ---- */

typedef struct pen {
    uint32_t x, y; /* within the frame */
    int pass;      /* of an interlaced one */
} pen;

static void next_row(pen *p, const limn_gif_frame *f) {
    static const uint8_t from[] = {0, 4, 2, 1}, by[] = {8, 8, 4, 2};
    p->x = 0;
    p->y += f->interlaced ? by[p->pass] : 1;
    while (f->interlaced && p->y >= f->height && p->pass < 3) p->y = from[++p->pass];
}

static void draw(limn_gif *g, const limn_gif_frame *f, pen *p, const uint8_t *text, uint64_t n) {
    while (n > 0) {
        uint32_t run = n < f->width - p->x ? (uint32_t)n : f->width - p->x;
        uint32_t x = f->left + p->x, y = f->top + p->y, shown = run;
        uint32_t width = (uint32_t)g->width;
        if (x >= width || y >= (uint32_t)g->height)
            shown = 0;
        else if (shown > width - x)
            shown = width - x;
        for (uint32_t i = 0; i < shown; i++) {
            if (text[i] == f->transparent || text[i] >= f->colours) continue;
            uint8_t *to = g->canvas + ((size_t)y * width + x + i) * 4;
            memcpy(to, f->table + text[i] * 3, 3);
            to[3] = 255;
        }
        text += run;
        n -= run;
        p->x += run;
        if (p->x == f->width) next_row(p, f);
    }
}

/* Frame `index` by its data; onto the canvas when there is one. */
static limn_status unpack(limn_gif *g, const limn_gif_frame *f, int index, limn_err *err) {
    uint64_t want = (uint64_t)f->width * f->height, got = 0;
    const uint8_t *data = g->data + f->data;
    unpacker u;
    pen p = {0};
    if (want == 0) return LIMN_OK;
    if (data[0] < 1 || data[0] > 8)
        return limn_fail(err, LIMN_E_FORMAT,
                         "frame %d of the GIF is damaged: codes of %d bits, not of 1 to 8",
                         index + 1, data[0]);
    start(&u, data);
    while (got < want) {
        int code = take_code(&u);
        if (code == u.clear) {
            forget(&u, data[0]);
            continue;
        }
        if (code == NO_CODE || code == u.clear + 1)
            return limn_fail(err, LIMN_E_FORMAT,
                             "frame %d of the GIF is damaged: %llu of its %llu pixels are there",
                             index + 1, (unsigned long long)got, (unsigned long long)want);
        if (!learn(&u, code))
            return limn_fail(err, LIMN_E_FORMAT,
                             "frame %d of the GIF is damaged: a code without a meaning after %llu "
                             "of its %llu pixels",
                             index + 1, (unsigned long long)got, (unsigned long long)want);
        uint64_t n = u.length[code] < want - got ? u.length[code] : want - got;
        if (g->canvas) {
            spell(&u, code);
            draw(g, f, &p, u.text, n);
        }
        got += n;
    }
    return LIMN_OK;
}

/* ---- the file ---- */

static bool covers(const limn_gif *g, const limn_gif_frame *f) {
    return f->left == 0 && f->top == 0 && f->width >= (uint32_t)g->width &&
           f->height >= (uint32_t)g->height;
}

/* The canvas holds the first frame, whatever the header says. */
static void grow(limn_gif *g, const limn_gif_frame *f) {
    if (f->width == 0 || f->height == 0) return;
    if (f->left + f->width > (uint32_t)g->width) g->width = (int)(f->left + f->width);
    if (f->top + f->height > (uint32_t)g->height) g->height = (int)(f->top + f->height);
}

static limn_status survey(limn_gif *g, limn_err *err) {
    limn_gif_frame f;
    size_t at = g->first;
    int64_t ms = 0;
    step s;
    for (; (s = find_frame(&f, g, &at)) == STEP_FRAME; g->count++) {
        limn_status st = unpack(g, &f, g->count, err);
        if (st != LIMN_OK) return st;
        if (g->count == 0) grow(g, &f);
        if (f.transparent >= 0 || f.disposal == CLEARED || (g->count == 0 && !covers(g, &f)))
            g->channels = 4;
        ms += limn_frame_ms(f.delay_ms);
    }
    if (s == STEP_CUT) return limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    if (g->count == 0) return limn_fail(err, LIMN_E_FORMAT, "a GIF without a frame");
    if (g->width == 0 || g->height == 0)
        return limn_fail(err, LIMN_E_FORMAT, "a GIF of %d x %d pixels", g->width, g->height);
    g->seconds = (double)ms / 1000;
    return LIMN_OK;
}

limn_status limn_gif_init(limn_gif *g, const void *data, size_t size, limn_err *err) {
    /* Colours of a GIF that brings none (section 18). */
    static const uint8_t black_and_white[6] = {0, 0, 0, 255, 255, 255};
    *g = (limn_gif){.data = data, .size = size, .channels = 3};
    const uint8_t *d = data;
    if (size < HEAD) return limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    if (memcmp(d, "GIF87a", 6) != 0 && memcmp(d, "GIF89a", 6) != 0)
        return limn_fail(err, LIMN_E_FORMAT, "neither a GIF87a nor a GIF89a");
    g->width = (int)number(d + 6);
    g->height = (int)number(d + 8);
    g->table = black_and_white;
    g->colours = 2;
    g->first = HEAD;
    if (!take_table(&g->table, &g->colours, g, d[10], &g->first))
        return limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    g->at = g->first;
    return survey(g, err);
}

void limn_gif_deinit(limn_gif *g) {
    limn_mem_free(g->canvas);
    limn_mem_free(g->kept);
    *g = (limn_gif){0};
}

static size_t canvas_bytes(const limn_gif *g) {
    return (size_t)g->width * (size_t)g->height * 4;
}

static void clear(limn_gif *g, const limn_gif_frame *f) {
    uint32_t width = (uint32_t)g->width, right = f->left + f->width, bottom = f->top + f->height;
    if (right > width) right = width;
    if (bottom > (uint32_t)g->height) bottom = (uint32_t)g->height;
    for (uint32_t y = f->top; y < bottom && f->left < right; y++)
        memset(g->canvas + ((size_t)y * width + f->left) * 4, 0, (size_t)(right - f->left) * 4);
}

/* Removes the last frame where it says so, and draws the next one. */
static limn_status advance(limn_gif *g, limn_err *err) {
    limn_gif_frame f;
    if (g->last.disposal == CLEARED) clear(g, &g->last);
    if (g->last.disposal == TAKEN_BACK) memcpy(g->canvas, g->kept, canvas_bytes(g));
    if (find_frame(&f, g, &g->at) != STEP_FRAME)
        return limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    if (f.disposal == TAKEN_BACK) {
        if (!g->kept) g->kept = limn_mem_alloc(canvas_bytes(g));
        if (!g->kept) return limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
        memcpy(g->kept, g->canvas, canvas_bytes(g));
    }
    limn_status st = unpack(g, &f, g->next, err);
    g->last = f;
    g->next++;
    return st;
}

static limn_status hand_out(limn_image **out, const limn_gif *g, limn_err *err) {
    limn_status st = limn_image_new(out, g->width, g->height, g->channels, err);
    if (st != LIMN_OK) return st;
    size_t n = (size_t)g->width * (size_t)g->height, channels = (size_t)g->channels;
    if (channels == 4) {
        memcpy((*out)->data, g->canvas, n * 4);
        return LIMN_OK;
    }
    for (size_t i = 0; i < n; i++) memcpy((*out)->data + i * 3, g->canvas + i * 4, 3);
    return LIMN_OK;
}

limn_status limn_gif_read(limn_image **out, limn_gif *g, int index, int64_t max_pixels,
                          limn_err *err) {
    *out = NULL;
    limn_status st = limn_vips_check_size(g->width, g->height, max_pixels, err);
    if (st != LIMN_OK) return st;
    if (!g->canvas || index < g->next) {
        if (!g->canvas) g->canvas = limn_mem_alloc(canvas_bytes(g));
        if (!g->canvas) return limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
        memset(g->canvas, 0, canvas_bytes(g));
        g->last = (limn_gif_frame){0};
        g->at = g->first;
        g->next = 0;
    }
    while (st == LIMN_OK && g->next <= index) st = advance(g, err);
    return st == LIMN_OK ? hand_out(out, g, err) : st;
}
