/* SPDX-License-Identifier: MIT */
/* media: sampled frames and times of the reference, exact frames of clips, pages, hostile files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>
#include <vips/vips.h>

#include "base/cancel.h"
#include "base/fsmap.h"
#include "base/mem.h"
#include "image/image.h"
#include "media/media.h"
#include "media/media_late.h"
#include "media/sampling.h"
#include "media_test.h"

/* A name for a test's file; valid until the next call. */
static const char *temp_path(const char *name) {
    static char path[1024];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/limn_media_%ld_%s", dir ? dir : "/tmp", (long)getpid(), name);
    return path;
}

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static bytes read_file(const char *path) {
    limn_fsmap *map;
    assert_int_equal(limn_fsmap_open(&map, path, NULL), LIMN_OK);
    bytes b = {malloc(map->size + 1), map->size};
    memcpy(b.data, map->data, map->size);
    limn_fsmap_unref(&map);
    return b;
}

/* Makes a clip and takes it into memory. */
static bytes clip_bytes(const clip_options *o) {
    const char *path = temp_path("clip");
    clip_make(path, o);
    bytes b = read_file(path);
    unlink(path);
    return b;
}

static const clip_options plain = {.container = "mp4",
                                   .codec = AV_CODEC_ID_MPEG4,
                                   .pixels = AV_PIX_FMT_YUV420P,
                                   .frames = 100,
                                   .fps = 30,
                                   .gop = 12,
                                   .between = 2};

static limn_media *open_ok(bytes b, const limn_media_options *o) {
    limn_media *m;
    limn_err err = {0};
    if (limn_media_open_memory(&m, "test", b.data, b.size, o, &err) != LIMN_OK)
        fail_msg("%s", err.text);
    return m;
}

/* Opening (or reading the first picture) fails with `st` and a text that contains `word`. */
static void refused(bytes b, const limn_media_options *o, limn_status st, const char *word) {
    limn_media *m;
    limn_image *im = NULL;
    limn_err err = {0};
    limn_status got = limn_media_open_memory(&m, "test", b.data, b.size, o, &err);
    while (got == LIMN_OK && (got = limn_media_next(&im, m, &err)) == LIMN_OK && im)
        limn_image_free(&im);
    limn_media_close(&m);
    if (got != st || !strstr(err.text, word))
        fail_msg("wanted %d \"%s\", got %d \"%s\"", st, word, got, err.text);
}

/* ---- which frames ---- */

static void test_sampling_is_the_reference(void **state) {
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/media/frames.json", getenv("LIMN_GOLDEN_DIR"));
    json_t *root = json_load_file(path, 0, NULL), *row;
    size_t i;
    assert_true(json_array_size(json_object_get(root, "clips")) > 20);
    json_array_foreach(json_object_get(root, "clips"), i, row) {
        int64_t index[768], total = json_integer_value(json_object_get(row, "total"));
        double fps = json_number_value(json_object_get(row, "fps"));
        json_t *want = json_object_get(row, "indices"), *times = json_object_get(row, "times");
        int n = limn_sample_count(total, fps, json_number_value(json_object_get(row, "want")),
                                  (int)json_integer_value(json_object_get(row, "least")),
                                  (int)json_integer_value(json_object_get(row, "most")));
        assert_int_equal(n, json_array_size(want));
        limn_sample_indices(index, n, total);
        for (size_t k = 0; k < (size_t)n; k++)
            assert_int_equal(index[k], json_integer_value(json_array_get(want, k)));
        assert_int_equal(json_array_size(times), (n + 1) / 2);
        for (size_t k = 0; k < json_array_size(times); k++) {
            char stamp[64];
            snprintf(stamp, sizeof stamp, "<%.1f seconds>",
                     limn_sample_slice_time(index, n, (int)k, fps));
            assert_string_equal(stamp, json_string_value(json_array_get(times, k)));
        }
    }
    json_decref(root);
    assert_int_equal(limn_sample_count(10, 0, 2, 4, 768), 0);
    assert_int_equal(limn_sample_count(0, 24, 2, 4, 768), 0);
}

/* Every picture that is handed out shows the number of the frame that it is said to be. */
static int check_frames(limn_media *m) {
    limn_image *im;
    limn_err err = {0};
    int n = 0;
    for (;; n++) {
        if (limn_media_next(&im, m, &err) != LIMN_OK) fail_msg("%s", err.text);
        if (!im) break;
        assert_int_equal(im->channels, 3);
        assert_int_equal(clip_number(im), limn_media_index(m, n));
        limn_image_free(&im);
    }
    assert_int_equal(n, limn_media_info_of(m)->count);
    return n;
}

static void test_clip_defaults(void **state) {
    (void)state;
    bytes b = clip_bytes(&plain);
    limn_media *m = open_ok(b, NULL);
    const limn_media_info *info = limn_media_info_of(m);
    assert_int_equal(info->kind, LIMN_MEDIA_VIDEO);
    assert_string_equal(info->format, "mp4");
    assert_int_equal(info->total, 100);
    assert_int_equal(info->width, CLIP_W);
    assert_int_equal(info->height, CLIP_H);
    assert_true(fabs(info->fps - 30) < 1e-9);
    assert_int_equal(info->count, 6); /* int(100 / 30 * 2) */
    static const int64_t want[] = {0, 20, 40, 59, 79, 99};
    for (int i = 0; i < 6; i++) assert_int_equal(limn_media_index(m, i), want[i]);
    assert_int_equal(limn_media_slice_count(m), 3);
    assert_true(fabs(limn_media_slice_time(m, 1) - (40 / 30. + 59 / 30.) / 2) < 1e-12);
    assert_true(fabs(limn_media_time(m, 5) - 3.3) < 1e-12);
    assert_int_equal(check_frames(m), 6);
    limn_media_close(&m);
    free(b.data);
}

/* Dense, sparse (with jumps to key frames) and partial readings in every container. */
static void test_exact_frames(void **state) {
    (void)state;
    static const char *const containers[] = {"mp4", "matroska", "avi", "mpegts"};
    for (size_t c = 0; c < 4; c++)
        for (int between = 0; between <= 2; between += 2) {
            clip_options o = plain;
            o.container = containers[c];
            o.codec = c == 3 ? AV_CODEC_ID_MPEG2VIDEO : AV_CODEC_ID_MPEG4;
            o.between = between;
            bytes b = clip_bytes(&o);
            limn_media_options all = {.frames = 100}, few = {.frames = 3},
                               part = {.fps = 30, .start = 1, .end = 2, .threads = 2};
            limn_media *m = open_ok(b, &all);
            assert_int_equal(check_frames(m), 100);
            limn_media_close(&m);
            m = open_ok(b, &few);
            assert_int_equal(check_frames(m), 3);
            limn_media_close(&m);
            m = open_ok(b, &part);
            assert_int_equal(limn_media_index(m, 0), 30);
            assert_int_equal(check_frames(m), 31);
            limn_media_close(&m);
            free(b.data);
        }
}

static void test_rotation(void **state) {
    (void)state;
    for (int q = 0; q < 4; q++) {
        clip_options o = plain;
        o.degrees = 90 * q;
        o.frames = 4;
        bytes b = clip_bytes(&o);
        limn_media *m = open_ok(b, NULL);
        const limn_media_info *info = limn_media_info_of(m);
        limn_image *im;
        assert_int_equal(info->width, q % 2 ? CLIP_H : CLIP_W);
        assert_int_equal(info->height, q % 2 ? CLIP_W : CLIP_H);
        assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
        assert_int_equal(im->width, info->width);
        /* the bright end of the ramp is stored bottom right and goes round clockwise */
        static const bool right[] = {true, false, false, true},
                          below[] = {true, true, false, false};
        const uint8_t *p = im->data;
        for (int k = 0; k < 4; k++) {
            int x = k % 2 ? im->width - 3 : 2, y = k / 2 ? im->height - 3 : 2;
            bool bright = p[((size_t)y * (size_t)im->width + (size_t)x) * 3] > 100;
            assert_int_equal(bright, (k % 2 == right[q]) && (k / 2 == below[q]));
        }
        limn_image_free(&im);
        limn_media_close(&m);
        free(b.data);
    }
}

/* ---- hostile clips ---- */

static void test_broken_clips(void **state) {
    (void)state;
    bytes b = clip_bytes(&plain);
    refused((bytes){b.data, b.size / 2}, NULL, LIMN_E_FORMAT, "cut off");
    refused((bytes){b.data, 100}, NULL, LIMN_E_FORMAT, "test: ");
    refused((bytes){b.data, 0}, NULL, LIMN_E_FORMAT, "empty");
    refused(b, &(limn_media_options){.max_pixels = 1000}, LIMN_E_FORMAT, "megapixels");
    refused(b, &(limn_media_options){.start = 9}, LIMN_E_VALUE, "3.33 s");
    refused(b, &(limn_media_options){.fps = -1}, LIMN_E_VALUE, "frames per second");
    refused(b, &(limn_media_options){.start = 2, .end = 1}, LIMN_E_VALUE, "rising");
    refused(b, &(limn_media_options){.fps = NAN}, LIMN_E_VALUE, "frames per second");
    free(b.data);
    clip_options o = plain;
    o.header_first = true;
    b = clip_bytes(&o);
    refused((bytes){b.data, b.size * 2 / 3}, NULL, LIMN_E_FORMAT, "cut off");
    memset(b.data + b.size / 3, 0x55, b.size / 3); /* rubbish inside: frames or an error */
    limn_media *m;
    limn_err err = {0};
    limn_image *im;
    if (limn_media_open_memory(&m, "test", b.data, b.size, NULL, &err) == LIMN_OK)
        while (limn_media_next(&im, m, &err) == LIMN_OK && im) limn_image_free(&im);
    else
        assert_true(err.text[0] != 0);
    limn_media_close(&m);
    free(b.data);
}

static void test_no_pixels(void **state) {
    (void)state;
    clip_options o = plain;
    o.container = "avi";
    o.codec = AV_CODEC_ID_FFV1;
    o.between = 0;
    o.frames = 3;
    bytes b = clip_bytes(&o);
    refused(b, &(limn_media_options){.max_pixels = 1000}, LIMN_E_LIMIT, "megapixels");
    uint8_t *strf = memmem(b.data, b.size, "strf", 4);
    assert_non_null(strf);
    memset(strf + 12, 0, 8); /* biWidth, biHeight */
    refused(b, NULL, LIMN_E_FORMAT, "");
    memset(strf + 12, 0x7f, 8);
    refused(b, NULL, LIMN_E_LIMIT, "pixels");
    free(b.data);
}

static void test_sound_only(void **state) {
    (void)state;
    uint8_t wav[44 + 4000] =
        "RIFF\xc4\x0f\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\xa0\x0f";
    for (size_t i = 44; i < sizeof wav; i++) wav[i] = (uint8_t)(i * 7);
    refused((bytes){wav, sizeof wav}, NULL, LIMN_E_UNSUPPORTED, "sound but no video");
}

/* Texts that point at other files are never followed. */
static void test_playlists(void **state) {
    (void)state;
    static const char *const texts[] = {
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>",
        "just some words, no picture at all\n",
    };
    for (size_t i = 0; i < 4; i++)
        refused((bytes){(uint8_t *)(uintptr_t)texts[i], strlen(texts[i])}, NULL, LIMN_E_FORMAT,
                "known format");
}

static void test_names_do_not_matter(void **state) {
    (void)state;
    const char *path = temp_path("clip.png");
    limn_media *m;
    clip_make(path, &plain);
    assert_int_equal(limn_media_open(&m, path, NULL, NULL), LIMN_OK);
    assert_int_equal(limn_media_info_of(m)->total, 100);
    check_frames(m);
    limn_media_close(&m);
    unlink(path);
    limn_err err = {0};
    assert_int_equal(limn_media_open(&m, temp_path("none.mp4"), NULL, &err), LIMN_E_NOT_FOUND);
    assert_null(m);
    assert_int_equal(limn_media_open(&m, "/tmp", NULL, &err), LIMN_E_IO);
}

static void test_many_frames(void **state) {
    (void)state;
    clip_options o = plain;
    o.frames = 10000;
    o.gop = 250;
    bytes b = clip_bytes(&o);
    limn_media *m = open_ok(b, NULL);
    assert_int_equal(limn_media_info_of(m)->total, 10000);
    assert_int_equal(limn_media_info_of(m)->count, 666);
    check_frames(m);
    limn_media_close(&m);
    m = open_ok(b, &(limn_media_options){.fps = 30});
    assert_int_equal(limn_media_info_of(m)->count, 768);
    limn_media_close(&m);
    free(b.data);
}

static void test_cancel(void **state) {
    (void)state;
    bytes b = clip_bytes(&plain);
    limn_cancel *stop;
    limn_image *im;
    assert_int_equal(limn_cancel_new(&stop, NULL), LIMN_OK);
    limn_media *m = open_ok(b, &(limn_media_options){.cancel = stop});
    assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
    limn_image_free(&im);
    limn_cancel_set(stop);
    assert_int_equal(limn_media_next(&im, m, NULL), LIMN_E_CANCELLED);
    assert_null(im);
    limn_media_close(&m);
    refused(b, &(limn_media_options){.cancel = stop}, LIMN_E_CANCELLED, "cancelled");
    limn_cancel_free(&stop);
    free(b.data);
}

/* ---- pages ---- */

/* A document of `pages` pages, page i 72 * (i + 1) points wide and 144 high, filled with a grey. */
static bytes pdf_make(int pages, double height) {
    limn_buf out;
    limn_buf_init(&out, 1 << 20);
    limn_buf_adds(
        &out, "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[");
    for (int i = 0; i < pages; i++) limn_buf_addf(&out, "%d 0 R ", 3 + 2 * i);
    limn_buf_addf(&out, "]/Count %d>>endobj\n", pages);
    for (int i = 0; i < pages; i++) {
        char draw[64];
        int n = snprintf(draw, sizeof draw, "0.%d g 0 0 9999 9999 re f", i + 1);
        limn_buf_addf(&out,
                      "%d 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %g]/Contents %d 0 R>>"
                      "endobj\n%d 0 obj<</Length %d>>stream\n%s\nendstream endobj\n",
                      3 + 2 * i, 72 * (i + 1), height, 4 + 2 * i, 4 + 2 * i, n, draw);
    }
    limn_buf_adds(&out, "trailer<</Root 1 0 R>>\n%%EOF\n");
    bytes b = {NULL, out.len};
    b.data = (uint8_t *)limn_buf_take(&out);
    return b;
}

static void test_pdf(void **state) {
    (void)state;
    bytes b = pdf_make(3, 144);
    limn_media *m = open_ok(b, NULL);
    const limn_media_info *info = limn_media_info_of(m);
    limn_image *im;
    assert_int_equal(info->kind, LIMN_MEDIA_PAGES);
    assert_string_equal(info->format, "pdf");
    assert_int_equal(info->count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
        assert_int_equal(im->width, 150 * (i + 1));
        assert_int_equal(im->height, 300);
        assert_int_equal(im->channels, 3);
        assert_true(abs(im->data[3 * 5000] - (int)lrint(25.5 * (i + 1))) <= 1);
        limn_image_free(&im);
    }
    assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
    assert_null(im);
    assert_int_equal(limn_media_slice_count(m), 0);
    limn_media_close(&m);
    m = open_ok(b, &(limn_media_options){.first = 2, .last = 2, .dpi = 72});
    info = limn_media_info_of(m);
    assert_int_equal(info->count, 1);
    assert_int_equal(info->total, 3);
    assert_int_equal(info->width, 144);
    assert_int_equal(limn_media_index(m, 0), 1);
    limn_media_close(&m);
    m = open_ok(b, &(limn_media_options){.dpi = 1200, .max_pixels = 20000});
    info = limn_media_info_of(m); /* 1 x 2 inches in 20,000 pixels */
    assert_int_equal(info->width, 100);
    assert_int_equal(info->height, 200);
    limn_media_close(&m);
    refused(b, &(limn_media_options){.first = 4}, LIMN_E_VALUE, "page 4 of 3");
    refused(b, &(limn_media_options){.last = 9}, LIMN_E_VALUE, "page 9 of 3");
    refused(b, &(limn_media_options){.max_pages = 2}, LIMN_E_LIMIT, "3 pages");
    refused(b, &(limn_media_options){.dpi = 5}, LIMN_E_VALUE, "dots per inch");
    refused((bytes){b.data, 40}, NULL, LIMN_E_FORMAT, "document");
    limn_mem_free(b.data);
    b = pdf_make(1, 1e7); /* kilometres: drawn as large as the limits allow */
    m = open_ok(b, NULL);
    assert_true(limn_media_info_of(m)->height <= LIMN_MEDIA_SIDE);
    limn_media_close(&m);
    limn_mem_free(b.data);
    b = pdf_make(0, 10);
    refused(b, NULL, LIMN_E_FORMAT, "document");
    limn_mem_free(b.data);
}

static bytes file_of(VipsImage *im, const char *ending) {
    void *data;
    size_t size;
    if (vips_image_write_to_buffer(im, ending, &data, &size, NULL))
        fail_msg("%s", vips_error_buffer());
    bytes b = {malloc(size), size};
    memcpy(b.data, data, size);
    g_free(data);
    return b;
}

/* `count` grey pictures of 24 x 16 in one file: picture i has the value 20 i. */
static bytes stack_make(const char *ending, int count, int delay_ms) {
    VipsImage *list[16], *tall, *copy;
    for (int i = 0; i < count; i++) {
        VipsImage *black;
        assert_int_equal(vips_black(&black, 24, 16, "bands", 3, NULL), 0);
        assert_int_equal(vips_linear1(black, &list[i], 1, 20 * i, "uchar", TRUE, NULL), 0);
        g_object_unref(black);
    }
    assert_int_equal(vips_arrayjoin(list, &tall, count, "across", 1, NULL), 0);
    assert_int_equal(vips_copy(tall, &copy, "interpretation", VIPS_INTERPRETATION_sRGB, NULL), 0);
    vips_image_set_int(copy, "page-height", 16);
    int delay[16];
    for (int i = 0; i < count; i++) delay[i] = delay_ms;
    vips_image_set_array_int(copy, "delay", delay, count);
    bytes b = file_of(copy, ending);
    g_object_unref(copy);
    g_object_unref(tall);
    for (int i = 0; i < count; i++) g_object_unref(list[i]);
    return b;
}

static void check_stack(bytes b, const limn_media_options *o, limn_media_kind kind, int count) {
    limn_media *m = open_ok(b, o);
    limn_image *im;
    assert_int_equal(limn_media_info_of(m)->kind, kind);
    assert_int_equal(limn_media_info_of(m)->count, count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
        assert_int_equal(im->width, 24);
        assert_int_equal(im->height, 16);
        assert_int_equal(im->channels, 3);
        int want = 20 * (int)limn_media_index(m, i), got = im->data[3 * 100];
        if (abs(got - want) > 3) fail_msg("picture %d: %d, not %d", i, got, want);
        limn_image_free(&im);
    }
    limn_media_close(&m);
}

static void test_stacks(void **state) {
    (void)state;
    bytes tiff = stack_make(".tif", 5, 0), gif = stack_make(".gif", 8, 250);
    bytes webp = stack_make(".webp[lossless]", 12, 100), png = stack_make(".png", 1, 0);
    check_stack(tiff, NULL, LIMN_MEDIA_PAGES, 5);
    check_stack(tiff, &(limn_media_options){.first = 3}, LIMN_MEDIA_PAGES, 3);
    check_stack(gif, NULL, LIMN_MEDIA_VIDEO, 4); /* 8 frames in 2 s at 2 per second */
    check_stack(gif, &(limn_media_options){.fps = 4}, LIMN_MEDIA_VIDEO, 8);
    check_stack(webp, NULL, LIMN_MEDIA_VIDEO, 4);
    check_stack(webp, &(limn_media_options){.frames = 3}, LIMN_MEDIA_VIDEO, 3);
    check_stack(webp, &(limn_media_options){.start = 0.5}, LIMN_MEDIA_VIDEO, 4);
    check_stack(png, NULL, LIMN_MEDIA_PICTURE, 1);
    limn_media *m = open_ok(gif, NULL);
    assert_true(fabs(limn_media_info_of(m)->duration - 2) < 1e-9);
    limn_media_close(&m);
    refused((bytes){tiff.data, tiff.size / 2}, NULL, LIMN_E_FORMAT, "");
    refused((bytes){webp.data, webp.size / 2}, NULL, LIMN_E_FORMAT, "");
    refused((bytes){png.data, png.size / 2}, NULL, LIMN_E_FORMAT, "cut off");
    check_stack((bytes){gif.data, gif.size - 1}, NULL, LIMN_MEDIA_VIDEO, 4); /* without trailer */
    for (size_t n = gif.size - 9; n < gif.size - 1; n++) /* within the last frame */
        refused((bytes){gif.data, n}, NULL, LIMN_E_FORMAT, "cut off");
    for (size_t n = 14; n < 19; n++) /* within the colours or the first block */
        refused((bytes){gif.data, n}, NULL, LIMN_E_FORMAT, "cut off");
    refused(png, &(limn_media_options){.max_pixels = 100}, LIMN_E_LIMIT, "megapixels");
    free(tiff.data);
    free(gif.data);
    free(webp.data);
    free(png.data);
}

/* ---- TIFF ---- */

typedef struct chain {
    int pages;          /* grey, 24 x 16, the value 90 */
    uint32_t last_side; /* the last page is a square of this; 0: it is like the others */
    bool circle;        /* after the last page comes the first again */
} chain;

static void add_number(limn_buf *out, uint32_t v, int size) {
    for (int i = 0; i < size; i++) limn_buf_add(out, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

/* Directories one after the other, all with the same strip of pixels behind the header. */
static bytes tiff_chain(const chain *c) {
    enum { W = 24, H = 16, ENTRIES = 8, DIRECTORY = 2 + 12 * ENTRIES + 4, FIRST = 8 + W * H };
    limn_buf out;
    limn_buf_init(&out, 4 << 20);
    limn_buf_add(&out, "II*", 4);
    add_number(&out, FIRST, 4);
    for (int i = 0; i < W * H; i++) add_number(&out, 90, 1);
    for (int i = 0; i < c->pages; i++) {
        bool last = i == c->pages - 1;
        uint32_t w = last && c->last_side ? c->last_side : W;
        uint32_t h = last && c->last_side ? c->last_side : H;
        /* width, height, bits, no compression, black is zero, where, rows of the strip, bytes */
        const uint32_t entries[ENTRIES][2] = {{256, w}, {257, h}, {258, 8}, {259, 1},
                                              {262, 1}, {273, 8}, {278, h}, {279, W * H}};
        add_number(&out, ENTRIES, 2);
        for (int k = 0; k < ENTRIES; k++) {
            add_number(&out, entries[k][0], 2);
            add_number(&out, 4, 2); /* LONG */
            add_number(&out, 1, 4);
            add_number(&out, entries[k][1], 4);
        }
        uint32_t next = FIRST + DIRECTORY * (uint32_t)(i + 1);
        add_number(&out, !last ? next : c->circle ? FIRST : 0, 4);
    }
    bytes b = {NULL, out.len};
    b.data = (uint8_t *)limn_buf_take(&out);
    assert_non_null(b.data);
    return b;
}

static void page_is_grey(limn_media *m, int value) {
    limn_image *im;
    limn_err err = {0};
    if (limn_media_next(&im, m, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_non_null(im);
    assert_int_equal(im->channels, 3);
    for (int k = 0; k < 3; k++) assert_in_range(im->data[300 + k], value - 1, value + 1);
    limn_image_free(&im);
}

static void test_tiff_chains(void **state) {
    (void)state;
    bytes b = tiff_chain(&(chain){.pages = 10000});
    refused(b, NULL, LIMN_E_LIMIT, "10000 pages");
    refused(b, &(limn_media_options){.first = 10001}, LIMN_E_VALUE, "page 10001 of 10000");
    limn_media *m = open_ok(b, &(limn_media_options){.first = 9999});
    for (int i = 0; i < 2; i++) page_is_grey(m, 90);
    limn_media_close(&m);
    refused((bytes){b.data, b.size - 50}, NULL, LIMN_E_FORMAT, "cut off");
    refused((bytes){b.data, 300}, NULL, LIMN_E_FORMAT, "cut off");
    limn_mem_free(b.data);
    for (int pages = 1; pages <= 3; pages += 2) { /* each page once */
        b = tiff_chain(&(chain){.pages = pages, .circle = true});
        m = open_ok(b, NULL);
        assert_int_equal(limn_media_info_of(m)->count, pages);
        for (int i = 0; i < pages; i++) page_is_grey(m, 90);
        limn_media_close(&m);
        limn_mem_free(b.data);
    }
    b = tiff_chain(&(chain){.pages = 2, .last_side = 16000}); /* known before it is decoded */
    refused(b, NULL, LIMN_E_LIMIT, "16000 x 16000");
    refused(b, &(limn_media_options){.first = 2}, LIMN_E_LIMIT, "page 2: the picture has 16000");
    limn_mem_free(b.data);
}

/* One picture of `bands` like `pixel`, as a file. */
static bytes tiff_flat(const double *pixel, int bands, VipsBandFormat format,
                       VipsInterpretation as) {
    VipsImage *black, *flat, *cast, *copy;
    double ones[4] = {1, 1, 1, 1}, add[4];
    memcpy(add, pixel, (size_t)bands * sizeof *add);
    assert_int_equal(vips_black(&black, 24, 16, "bands", bands, NULL), 0);
    assert_int_equal(vips_linear(black, &flat, ones, add, bands, NULL), 0);
    assert_int_equal(vips_cast(flat, &cast, format, NULL), 0);
    assert_int_equal(vips_copy(cast, &copy, "interpretation", as, NULL), 0);
    bytes b = file_of(copy, ".tif");
    g_object_unref(copy);
    g_object_unref(cast);
    g_object_unref(flat);
    g_object_unref(black);
    return b;
}

static void test_tiff_colours(void **state) {
    (void)state;
    const struct {
        double pixel[4];
        int bands;
        VipsBandFormat format;
        VipsInterpretation as;
        int grey;
    } rows[] = {
        {{0x8080, 0x8080, 0x8080}, 3, VIPS_FORMAT_USHORT, VIPS_INTERPRETATION_RGB16, 0x80},
        {{0xffff, 0xffff, 0xffff}, 3, VIPS_FORMAT_USHORT, VIPS_INTERPRETATION_RGB16, 0xff},
        {{0x4040}, 1, VIPS_FORMAT_USHORT, VIPS_INTERPRETATION_GREY16, 0x40},
        {{0, 0, 0, 0}, 4, VIPS_FORMAT_UCHAR, VIPS_INTERPRETATION_CMYK, 0xff},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bytes b = tiff_flat(rows[i].pixel, rows[i].bands, rows[i].format, rows[i].as);
        limn_media *m = open_ok(b, NULL);
        assert_string_equal(limn_media_info_of(m)->format, "tiff");
        page_is_grey(m, rows[i].grey);
        limn_media_close(&m);
        refused((bytes){b.data, b.size / 2}, NULL, LIMN_E_FORMAT, "cut off");
        free(b.data);
    }
    bytes b = tiff_flat((double[]){0, 255, 255, 0}, 4, VIPS_FORMAT_UCHAR,
                        VIPS_INTERPRETATION_CMYK); /* magenta and yellow are red */
    limn_media *m = open_ok(b, NULL);
    limn_image *im;
    assert_int_equal(limn_media_next(&im, m, NULL), LIMN_OK);
    assert_true(im->data[0] > 190 && im->data[1] < 90 && im->data[2] < 90);
    limn_image_free(&im);
    limn_media_close(&m);
    free(b.data);
}

/* The files are made here, by libraries that limn opens when it first reads one. */
static int open_libraries(void **state) {
    (void)state;
    return limn_vips_start(NULL) != LIMN_OK || limn_late_open(&limn_late_av, NULL) != LIMN_OK ||
           limn_late_open(&limn_late_pdf, NULL) != LIMN_OK;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampling_is_the_reference),
        cmocka_unit_test(test_clip_defaults),
        cmocka_unit_test(test_exact_frames),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_broken_clips),
        cmocka_unit_test(test_no_pixels),
        cmocka_unit_test(test_sound_only),
        cmocka_unit_test(test_playlists),
        cmocka_unit_test(test_names_do_not_matter),
        cmocka_unit_test(test_many_frames),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_pdf),
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_tiff_chains),
        cmocka_unit_test(test_tiff_colours),
    };
    return cmocka_run_group_tests(tests, open_libraries, NULL);
}
