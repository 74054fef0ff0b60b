/* SPDX-License-Identifier: MIT */
/* gif: frames laid on a canvas, what odd writers leave behind, and damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <vips/vips.h>

#include "image/gif.h"
#include "image/image_stack.h"

/* ---- a writer ---- */

typedef struct part {
    int left, top, width, height;
    const char *pixels; /* a digit each, row by row as stored; NULL: all 1 */
    int transparent;    /* 0: none */
    int disposal, delay;
    bool interlaced;
    const char *table; /* of its own: 4 colours, a letter each (see colour_of) */
    int bits;          /* 0: 2 */
    int missing;       /* pixels left out at the end */
    int extra;         /* too many there */
    bool no_clear;     /* does not begin with a clear code */
} part;

static void number(limn_buf *b, int v) {
    limn_buf_add(b, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8)}, 2);
}

/* '.' transparent, else a colour with this letter as red. */
static void add_table(limn_buf *b, const char *letters) {
    for (int i = 0; i < 4; i++) limn_buf_add(b, (uint8_t[]){(uint8_t)letters[i], 7, 9}, 3);
}

typedef struct bits {
    limn_buf bytes;
    uint32_t held;
    int n;
} bits;

static void put(bits *s, int code, int width) {
    s->held |= (uint32_t)code << s->n;
    for (s->n += width; s->n >= 8; s->n -= 8, s->held >>= 8)
        limn_buf_addc(&s->bytes, (char)(s->held & 255));
}

/* Blocks of at most `most` bytes. */
static void add_blocks(limn_buf *b, const bits *s, size_t most) {
    for (size_t at = 0; at < s->bytes.len; at += most) {
        size_t n = s->bytes.len - at < most ? s->bytes.len - at : most;
        limn_buf_addc(b, (char)n);
        limn_buf_add(b, s->bytes.data + at, n);
    }
    limn_buf_addc(b, 0);
}

/* Single pixels, with a clear code before the codes grow. */
static void add_pixels(limn_buf *b, const part *p) {
    int width = p->bits ? p->bits : 2, clear = 1 << width;
    int n = p->width * p->height - p->missing + p->extra;
    bits s = {0};
    limn_buf_init(&s.bytes, 1 << 20);
    for (int i = 0; i < n; i++) {
        if (i % (clear - 2) == 0 && (i > 0 || !p->no_clear)) put(&s, clear, width + 1);
        put(&s, p->pixels && i < p->width * p->height ? p->pixels[i] - '0' : 1, width + 1);
    }
    put(&s, clear + 1, width + 1);
    put(&s, 0, 7);
    limn_buf_addc(b, (char)width);
    add_blocks(b, &s, 5);
    limn_buf_deinit(&s.bytes);
}

static void add_part(limn_buf *b, const part *p) {
    if (p->transparent || p->disposal || p->delay) {
        limn_buf_add(
            b, (uint8_t[]){0x21, 0xf9, 4, (uint8_t)(p->disposal << 2 | (p->transparent > 0))}, 4);
        number(b, p->delay);
        limn_buf_add(b, (uint8_t[]){(uint8_t)p->transparent, 0}, 2);
    }
    limn_buf_addc(b, 0x2c);
    number(b, p->left);
    number(b, p->top);
    number(b, p->width);
    number(b, p->height);
    limn_buf_addc(b, (char)((p->table ? 0x81 : 0) | (p->interlaced ? 0x40 : 0)));
    if (p->table) add_table(b, p->table);
    add_pixels(b, p);
}

static limn_buf begin(const char *version, int width, int height, const char *table) {
    limn_buf b;
    limn_buf_init(&b, 64 << 20);
    limn_buf_adds(&b, version);
    number(&b, width);
    number(&b, height);
    limn_buf_add(&b, (uint8_t[]){table ? 0x81 : 0, 0, 0}, 3);
    if (table) add_table(&b, table);
    return b;
}

/* ---- a reader ---- */

/* The reds of a frame as letters, '.' where nothing is. */
static void check_frame(limn_image_stack *s, int index, const char *want) {
    limn_image *im;
    limn_err err = {0};
    char got[256] = {0};
    if (limn_image_stack_read(&im, s, index, 1 << 20, &err) != LIMN_OK) fail_msg("%s", err.text);
    for (int i = 0; i < im->width * im->height; i++) {
        const uint8_t *px = im->data + i * im->channels;
        bool there = im->channels == 3 || px[3] == 255;
        got[i] = there ? (char)px[0] : '.';
        assert_int_equal(px[1], there && px[0] ? 7 : 0);
        if (!there) assert_int_equal(px[0] | px[3], 0);
    }
    if (strcmp(got, want) != 0) fail_msg("frame %d: %s, not %s", index, got, want);
    limn_image_free(&im);
}

static void open_ok(limn_image_stack *s, const limn_buf *b, int width, int height, int count) {
    limn_err err = {0};
    assert_false(b->failed);
    if (limn_image_stack_init(s, b->data, b->len, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_string_equal(s->format, "gif");
    assert_int_equal(s->width, width);
    assert_int_equal(s->height, height);
    assert_int_equal(s->count, count);
}

/* Refused as a stack and as a picture, in one line that holds `words`. Frees b. */
static void refused(limn_buf *b, limn_status want, const char *words) {
    limn_image_stack s;
    limn_image *im;
    limn_err err = {0};
    assert_int_equal(limn_image_stack_init(&s, b->data, b->len, &err), want);
    limn_image_stack_deinit(&s);
    if (!strstr(err.text, words)) fail_msg("%s: no word of %s", err.text, words);
    err = (limn_err){0};
    assert_int_equal(limn_image_decode(&im, b->data, b->len, &err), want);
    assert_null(im);
    if (!strstr(err.text, words)) fail_msg("%s: no word of %s", err.text, words);
    limn_buf_deinit(b);
}

/* ---- frames ---- */

static void test_frames(void **state) {
    limn_buf b = begin("GIF89a", 4, 2, "abcd");
    limn_image_stack s;
    add_part(&b, &(part){0, 0, 4, 2, .pixels = "01230123", .delay = 20});
    add_part(&b, &(part){1, 0, 2, 2, .pixels = "3002", .transparent = 3, .delay = 1}); /* over it */
    add_part(&b, &(part){2, 1, 2, 1, .pixels = "12", .table = "wxyz", .disposal = 3});
    add_part(&b, &(part){0, 0, 1, 1, .pixels = "3", .disposal = 2}); /* that was taken back */
    add_part(&b, &(part){3, 0, 1, 1, .pixels = "2", .disposal = 4}); /* that was cleared */
    add_part(&b, &(part){0, 1, 9, 9, .pixels = NULL});               /* beyond the canvas */
    add_part(&b, &(part){70, 70, 3, 3, .pixels = NULL});             /* wholly outside */
    add_part(&b, &(part){0, 0, 0, 5, .pixels = ""});
    limn_buf_addc(&b, ';');
    open_ok(&s, &b, 4, 2, 8);
    assert_true(s.animated);
    assert_true(s.seconds > 0.8999 && s.seconds < 0.9001); /* 0.2 and seven times 0.1 */
    static const char *const want[] = {"abcdabcd", "abadaacd", "abadaaxy", "dbadaacd",
                                       ".bacaacd", ".badbbbb", ".badbbbb", ".badbbbb"};
    for (int i = 0; i < 8; i++) check_frame(&s, i, want[i]);
    check_frame(&s, 3, want[3]); /* again from the first */
    check_frame(&s, 3, want[3]);
    check_frame(&s, 7, want[7]);
    limn_err err = {0};
    limn_image *im;
    assert_int_equal(limn_image_stack_read(&im, &s, 0, 7, &err), LIMN_E_LIMIT);
    assert_non_null(strstr(err.text, "4 x 2 pixels"));
    assert_int_equal(limn_image_stack_read(&im, &s, 8, 8, &err), LIMN_E_VALUE);
    limn_image_stack_deinit(&s);
    limn_buf_deinit(&b);
}

static void test_still(void **state) {
    static const struct {
        const char *version, *table;
        int width, height;
        part p;
        int channels;
        const char *want;
    } cases[] = {
        {"GIF87a", "abcd", 3, 2, {0, 0, 3, 2, .pixels = "012321"}, 3, "abcdcb"},
        {"GIF89a", "abcd", 2, 1, {0, 0, 3, 2, .pixels = "012321"}, 3, "abcdcb"}, /* the canvas grows
                                                                                  */
        {"GIF89a", "abcd", 0, 0, {1, 0, 1, 2, .pixels = "12"}, 4, ".b.c"},
        {"GIF89a", "abcd", 2, 3, {0, 0, 2, 0, .pixels = ""}, 4, "......"},
        {"GIF89a", "abcd", 2, 2, {0, 0, 2, 2, .pixels = "0123", .transparent = 3}, 4, "abc."},
        {"GIF89a", NULL, 2, 1, {0, 0, 2, 1, .pixels = "01", .table = "wxyz"}, 3, "wx"},
        {"GIF89a", "abcd", 2, 2, {0, 0, 2, 2, .pixels = "0123", .no_clear = true}, 3, "abcd"},
        {"GIF89a", "abcd", 2, 2, {0, 0, 2, 2, .pixels = "0123", .extra = 9}, 3, "abcd"},
        {"GIF89a", "abcd", 2, 2, {0, 0, 2, 2, .pixels = "0123", .bits = 8}, 3, "abcd"},
        {"GIF89a",
         "abcd",
         2,
         2,
         {0, 0, 2, 2, .pixels = "0173", .bits = 3},
         3,
         "ab\0d"}, /* no colour 7 */
        {"GIF89a",
         "abcd",
         1,
         11,
         {0, 0, 1, 11, .pixels = "00122233333", .interlaced = true},
         3,
         "adcdbdcdadc"}, /* rows 0 8 4 2 6 10 1 3 5 7 9 */
        {"GIF89a", "abcd", 1, 2, {0, 0, 1, 2, .pixels = "01", .interlaced = true}, 3, "ab"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_buf b = begin(cases[i].version, cases[i].width, cases[i].height, cases[i].table);
        limn_image *im;
        limn_err err = {0};
        add_part(&b, &cases[i].p);
        limn_buf_addc(&b, ';');
        if (limn_image_decode(&im, b.data, b.len, &err) != LIMN_OK)
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(im->channels, cases[i].channels);
        for (int j = 0; j < im->width * im->height; j++) {
            const uint8_t *px = im->data + j * im->channels;
            char got = im->channels == 4 && !px[3] ? '.' : (char)px[0];
            if (got != cases[i].want[j]) fail_msg("case %zu: pixel %d is %c", i, j, got);
        }
        limn_image_free(&im);
        limn_buf_deinit(&b);
    }
}

/* What writers leave out, and what they leave behind. */
static void test_endings(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
    } ends[] = {{"", 0},
                {";", 1},
                {";rubbish", 8},
                {"\0\0\0;", 4},
                {"\x21\xfe\5hello\0;", 10},
                {"\x21\xff\013NETSCAPE2.0\3\1\0\0\0", 19},
                {"\x21\xf9\4\0\0\0\0\0;", 9}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        limn_buf b = begin("GIF89a", 2, 1, "abcd");
        limn_image_stack s;
        add_part(&b, &(part){0, 0, 2, 1, .pixels = "12"});
        limn_buf_add(&b, "\x21\xfe\2hi", 5);
        limn_buf_addc(&b, 0);
        add_part(&b, &(part){0, 0, 2, 1, .pixels = "30"});
        limn_buf_add(&b, ends[i].bytes, ends[i].n);
        open_ok(&s, &b, 2, 1, 2);
        check_frame(&s, 0, "bc");
        check_frame(&s, 1, "da");
        limn_image_stack_deinit(&s);
        limn_buf_deinit(&b);
    }
}

static void test_many(void **state) {
    enum { FRAMES = 10000 };
    limn_buf b = begin("GIF89a", 2, 1, "abcd");
    limn_image_stack s;
    for (int i = 0; i < FRAMES; i++)
        add_part(&b, &(part){0, 0, 2, 1, i % 3 ? "01" : "23", .delay = 3});
    limn_buf_addc(&b, ';');
    open_ok(&s, &b, 2, 1, FRAMES);
    assert_true(s.seconds > 299.99 && s.seconds < 300.01);
    check_frame(&s, 5000, "ab");
    check_frame(&s, FRAMES - 1, "cd");
    limn_image_stack_deinit(&s);
    limn_buf_deinit(&b);
}

/* Codes of up to 12 bits, a full table and repeated texts, as another program writes them. */
static void test_codes(void **state) {
    enum { W = 301, H = 211 };
    for (int kind = 0; kind < 3; kind++) {
        static uint8_t px[W * H * 3];
        limn_image *im;
        limn_err err = {0};
        uint32_t seed = 1;
        for (int i = 0; i < W * H; i++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t v = kind == 0 ? seed >> 29 : kind == 1 ? 0 : (uint32_t)i / 7 % 8;
            for (int c = 0; c < 3; c++) px[i * 3 + c] = (uint8_t)(v * 36);
        }
        assert_int_equal(limn_vips_start(&err), LIMN_OK);
        VipsImage *whole = vips_image_new_from_memory(px, sizeof px, W, H, 3, VIPS_FORMAT_UCHAR);
        VipsImage *rgb;
        void *data;
        size_t size;
        assert_int_equal(vips_copy(whole, &rgb, "interpretation", VIPS_INTERPRETATION_sRGB, NULL),
                         0);
        assert_int_equal(vips_gifsave_buffer(rgb, &data, &size, "dither", 0.0, "effort", 1, NULL),
                         0);
        if (limn_image_decode(&im, data, size, &err) != LIMN_OK) fail_msg("%s", err.text);
        assert_int_equal(im->width, W);
        assert_int_equal(im->height, H);
        for (int i = 0; i < W * H * 3; i++)
            if (abs(im->data[i / 3 * im->channels + i % 3] - px[i]) > 4)
                fail_msg("kind %d: pixel %d", kind, i / 3);
        limn_image_free(&im);
        g_free(data);
        g_object_unref(rgb);
        g_object_unref(whole);
    }
}

/* ---- damaged ---- */

static void test_damaged(void **state) {
    static const struct {
        part p;
        const char *words;
    } cases[] = {
        {{0, 0, 4, 4, .pixels = NULL, .missing = 1},
         "frame 3 of the GIF is damaged: 15 of its 16 pixels"},
        {{0, 0, 4, 4, .pixels = NULL, .missing = 16},
         "frame 3 of the GIF is damaged: 0 of its 16 pixels"},
        {{70, 0, 4, 4, .pixels = NULL, .missing = 9},
         "frame 3 of the GIF is damaged: 7 of its 16 pixels"},
        {{0, 0, 40000, 40000, .pixels = NULL, .missing = 40000 * 40000 - 9},
         "9 of its 1600000000 pixels"},
        {{0, 0, 2, 2, .pixels = "0270", .no_clear = true},
         "frame 3 of the GIF is damaged: a code without a"},
        {{0, 0, 2, 2, .pixels = "7000", .no_clear = true},
         "frame 3 of the GIF is damaged: a code without a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_buf b = begin("GIF89a", 4, 4, "abcd");
        add_part(&b, &(part){0, 0, 4, 4, .pixels = NULL});
        add_part(&b, &(part){0, 0, 4, 4, .pixels = NULL});
        add_part(&b, &cases[i].p);
        add_part(&b, &(part){0, 0, 4, 4, .pixels = NULL});
        refused(&b, LIMN_E_FORMAT, cases[i].words);
    }
    static const int sizes[] = {0, 9, 12, 255};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        limn_buf b = begin("GIF89a", 4, 4, "abcd");
        size_t at = b.len + 10;
        add_part(&b, &(part){0, 0, 4, 4, .pixels = NULL});
        b.data[at] = (char)sizes[i];
        refused(&b, LIMN_E_FORMAT, "frame 1 of the GIF is damaged: codes of ");
    }
    limn_buf b = begin("GIF89a", 4, 4, "abcd");
    refused(&b, LIMN_E_FORMAT, "a GIF without a frame");
    b = begin("GIF88a", 4, 4, "abcd");
    add_part(&b, &(part){0, 0, 4, 4, .pixels = NULL});
    refused(&b, LIMN_E_FORMAT, "neither a GIF87a nor a GIF89a");
    b = begin("GIF89a", 0, 7, "abcd");
    add_part(&b, &(part){0, 0, 0, 4, .pixels = ""});
    refused(&b, LIMN_E_FORMAT, "a GIF of 0 x 7 pixels");
    b = begin("GIF89a", 65535, 65535, "abcd");
    add_part(&b, &(part){0, 0, 1, 1, .pixels = NULL});
    limn_image *im;
    limn_err err = {0};
    assert_int_equal(limn_image_decode(&im, b.data, b.len, &err), LIMN_E_LIMIT);
    assert_non_null(strstr(err.text, "65535 x 65535 pixels"));
    limn_buf_deinit(&b);
}

/* Two decodings of whatever is left of a file are the same, to the status. */
static void test_any_byte(void **state) {
    limn_buf b = begin("GIF89a", 4, 2, "abcd");
    add_part(&b, &(part){0, 0, 4, 2, .pixels = "01230123", .delay = 20});
    add_part(&b, &(part){1, 0, 2, 2, .pixels = "3002", .transparent = 3, .disposal = 3});
    add_part(&b, &(part){2, 1, 2, 1, .pixels = "12", .table = "wxyz", .interlaced = true,
                         .disposal = 2});
    limn_buf_addc(&b, ';');
    for (size_t at = 0; at < b.len; at++)
        for (int v = 0; v < 256; v += at < 13 ? 1 : 5) {
            limn_image_stack s[2];
            char was = b.data[at];
            b.data[at] = (char)v;
            limn_status st = limn_image_stack_init(&s[0], b.data, b.len, NULL);
            assert_int_equal(limn_image_stack_init(&s[1], b.data, b.len, NULL), st);
            for (int i = 0; st == LIMN_OK && i < s[0].count; i++) {
                limn_image *one, *two;
                st = limn_image_stack_read(&one, &s[0], i, 1 << 16, NULL);
                assert_int_equal(limn_image_stack_read(&two, &s[1], i, 1 << 16, NULL), st);
                assert_true(st == LIMN_OK || st == LIMN_E_LIMIT);
                if (st == LIMN_OK)
                    assert_memory_equal(one->data, two->data,
                                        (size_t)(one->width * one->height * one->channels));
                limn_image_free(&one);
                limn_image_free(&two);
            }
            limn_image_stack_deinit(&s[0]);
            limn_image_stack_deinit(&s[1]);
            b.data[at] = was;
        }
    for (size_t n = 0; n < b.len - 1; n++) { /* cut anywhere: refused, or as many whole frames */
        limn_image_stack s;
        if (limn_image_stack_init(&s, b.data, n, NULL) == LIMN_OK) assert_true(s.count <= 3);
        limn_image_stack_deinit(&s);
    }
    limn_buf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),   cmocka_unit_test(test_still),
        cmocka_unit_test(test_endings),  cmocka_unit_test(test_many),
        cmocka_unit_test(test_codes),    cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_any_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
