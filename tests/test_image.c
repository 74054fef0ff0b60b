/* SPDX-License-Identifier: MIT */
/* image: resampling bit for bit with Pillow, formats, masks, files, terminal codes, sheets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fsmap.h"
#include "image/image.h"
#include "image/mask.h"
#include "image/resample.h"

static const char *golden(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/image/%s", getenv("LIMN_GOLDEN_DIR"), name);
    return path;
}

/* A name for a test's file; valid until the next call. */
static const char *temp_path(const char *name) {
    static char path[1024];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/limn_test_%ld_%s", dir ? dir : "/tmp", (long)getpid(), name);
    return path;
}

/* ---- resampling ---- */

static void check_u8(const limn_resample *how, const uint8_t *src, const uint8_t *want) {
    size_t n = (size_t)how->dst_width * (size_t)how->dst_height * (size_t)how->channels;
    uint8_t *got = malloc(n);
    if (how->channels == 4 && !how->box) { /* as a picture: premultiplied in between */
        limn_image in = {how->src_width, how->src_height, 4, (uint8_t *)(uintptr_t)src}, *out;
        assert_int_equal(
            limn_image_resize(&out, &in, how->dst_width, how->dst_height, how->filter, NULL),
            LIMN_OK);
        memcpy(got, out->data, n);
        limn_image_free(&out);
    } else if (how->channels == 4) {
        free(got); /* only whole pictures have the premultiplied form */
        return;
    } else {
        assert_int_equal(limn_resample_u8(got, src, how, NULL), LIMN_OK);
    }
    if (memcmp(got, want, n) != 0)
        fail_msg("filter %d, %d channels, %dx%d -> %dx%d differs", how->filter, how->channels,
                 how->src_width, how->src_height, how->dst_width, how->dst_height);
    free(got);
}

static void test_resample_is_pillow(void **state) {
    (void)state;
    limn_fsmap *map;
    int cases = 0;
    assert_int_equal(limn_fsmap_open(&map, golden("resample.bin"), NULL), LIMN_OK);
    for (size_t at = 0; at < map->size; cases++) {
        int32_t h[8];
        double box[4];
        memcpy(h, map->data + at, sizeof h);
        memcpy(box, map->data + at + sizeof h, sizeof box);
        at += sizeof h + sizeof box;
        limn_resample how = {.filter = (limn_filter)h[0],
                             .channels = h[1],
                             .src_width = h[2],
                             .src_height = h[3],
                             .dst_width = h[4],
                             .dst_height = h[5],
                             .box = h[6] ? box : NULL};
        size_t sample = h[7] ? sizeof(float) : 1;
        size_t in = (size_t)h[2] * (size_t)h[3] * (size_t)h[1] * sample;
        size_t out = (size_t)h[4] * (size_t)h[5] * (size_t)h[1] * sample;
        assert_true(at + in + out <= map->size);
        if (h[7]) {
            float *src = malloc(in), *got = malloc(out);
            memcpy(src, map->data + at, in);
            assert_int_equal(limn_resample_f32(got, src, &how, NULL), LIMN_OK);
            assert_memory_equal(got, map->data + at + in, out);
            free(src);
            free(got);
        } else {
            check_u8(&how, map->data + at, map->data + at + in);
        }
        at += in + out;
    }
    assert_true(cases > 300);
    limn_fsmap_unref(&map);
}

static void test_fit(void **state) {
    (void)state;
    limn_image *im, *out;
    assert_int_equal(limn_image_new(&im, 40, 20, 3, NULL), LIMN_OK);
    for (int i = 0; i < 40 * 20 * 3; i++) im->data[i] = (uint8_t)(i / 3 % 40 < 20 ? 0 : 200);
    for (int fit = LIMN_RESIZE_STRETCH; fit <= LIMN_RESIZE_PAD; fit++) {
        assert_int_equal(limn_image_fit(&out, im, 16, 16, (limn_resize_fit)fit, NULL), LIMN_OK);
        assert_int_equal(out->width, 16);
        assert_int_equal(out->height, 16);
        assert_int_equal(out->data[0], 0);
        assert_int_equal(out->data[16 * 16 * 3 - 1], 200);
        limn_image_free(&out);
    }
    assert_int_equal(limn_image_resize(&out, im, 0, 16, LIMN_FILTER_BOX, NULL), LIMN_E_LIMIT);
    assert_null(out);
    limn_image_free(&im);
}

/* ---- masks ---- */

static void test_masks(void **state) {
    (void)state;
    limn_image *m;
    int x, y, w, h;
    assert_int_equal(limn_image_new(&m, 21, 15, 1, NULL), LIMN_OK);
    assert_false(limn_mask_bounds(m, &x, &y, &w, &h));
    m->data[7 * 21 + 10] = 255;
    assert_int_equal(limn_mask_grow(m, 3, NULL), LIMN_OK);
    assert_true(limn_mask_bounds(m, &x, &y, &w, &h));
    assert_int_equal(x, 7);
    assert_int_equal(y, 4);
    assert_int_equal(w, 7);
    assert_int_equal(h, 7);
    assert_int_equal(limn_mask_grow(m, -2, NULL), LIMN_OK);
    assert_true(limn_mask_bounds(m, &x, &y, &w, &h));
    assert_int_equal(w, 3);
    limn_mask_invert(m);
    assert_int_equal(m->data[0], 255);
    assert_int_equal(m->data[7 * 21 + 10], 0);
    limn_mask_invert(m);
    /* against the definition of the Gaussian, evaluated in double */
    int before = m->data[7 * 21 + 10];
    assert_int_equal(before, 255);
    assert_int_equal(limn_mask_blur(m, 2.0, NULL), LIMN_OK);
    double sum = 0, part = 0;
    for (int t = -5; t <= 5; t++) {
        sum += exp(-t * t / 8.0);
        if (t >= -1 && t <= 1) part += exp(-t * t / 8.0);
    }
    assert_true(fabs(m->data[7 * 21 + 10] - 255 * part / sum * part / sum) <= 1.0);
    assert_int_equal(m->data[7 * 21 + 9], m->data[7 * 21 + 11]);
    limn_mask_threshold(m, 30);
    for (int i = 0; i < 21 * 15; i++) assert_true(m->data[i] == 0 || m->data[i] == 255);
    limn_image_free(&m);
}

static void test_blur_keeps_flat(void **state) {
    (void)state;
    limn_image *m;
    assert_int_equal(limn_image_new(&m, 3, 40, 1, NULL), LIMN_OK);
    memset(m->data, 77, 3 * 40);
    assert_int_equal(limn_mask_blur(m, 12.5, NULL), LIMN_OK); /* kernel wider than the mask */
    for (int i = 0; i < 3 * 40; i++) assert_int_equal(m->data[i], 77);
    limn_image_free(&m);
}

static void test_composite(void **state) {
    (void)state;
    limn_image *a, *b, *m, *out;
    assert_int_equal(limn_image_new(&a, 3, 1, 3, NULL), LIMN_OK);
    assert_int_equal(limn_image_new(&b, 3, 1, 3, NULL), LIMN_OK);
    assert_int_equal(limn_image_new(&m, 3, 1, 1, NULL), LIMN_OK);
    memset(a->data, 200, 9);
    m->data[1] = 128;
    m->data[2] = 255;
    assert_int_equal(limn_image_composite(&out, a, b, m, NULL), LIMN_OK);
    assert_int_equal(out->data[0], 0);
    assert_int_equal(out->data[3], 100);
    assert_int_equal(out->data[6], 200);
    limn_image_free(&out);
    assert_int_equal(limn_image_composite(&out, a, b, a, NULL), LIMN_E_SHAPE);
    limn_image_free(&a);
    limn_image_free(&b);
    limn_image_free(&m);
}

/* ---- floats ---- */

static void test_floats_round_trip(void **state) {
    (void)state;
    limn_image *im, *back;
    float f[3 * 256];
    assert_int_equal(limn_image_new(&im, 256, 1, 3, NULL), LIMN_OK);
    for (int i = 0; i < 256 * 3; i++) im->data[i] = (uint8_t)(i / 3);
    limn_image_to_f32(f, im);
    assert_true(f[0] == -1.0f && f[255] == 1.0f);
    assert_int_equal(limn_image_from_f32(&back, f, 256, 1, NULL), LIMN_OK);
    assert_memory_equal(back->data, im->data, 256 * 3);
    limn_image_free(&back);
    float odd[3] = {NAN, 1e30f, -1e30f};
    assert_int_equal(limn_image_from_f32(&back, odd, 1, 1, NULL), LIMN_OK);
    assert_int_equal(back->data[0], 0);
    assert_int_equal(back->data[1], 255);
    assert_int_equal(back->data[2], 0);
    limn_image_free(&back);
    limn_image_free(&im);
}

/* ---- formats ---- */

/* The picture that tools/reference/make_image.py draws. */
static int want(int x, int y, int c) {
    return c == 0 ? x * 255 / 23 : c == 1 ? y * 255 / 15 : (x + y) * 255 / 38;
}

static void test_formats(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int channels, tolerance;
        bool grey, turned;
    } files[] = {
        {"plain.png", 3, 0, false, false},  {"plain.webp", 3, 0, false, false},
        {"plain.tif", 3, 0, false, false},  {"alpha.png", 4, 0, false, false},
        {"plain.jpg", 3, 8, false, false},  {"turned.jpg", 3, 8, false, true},
        {"cmyk.jpg", 3, 130, false, false}, {"palette.gif", 3, 16, false, false},
        {"grey16.png", 3, 0, true, false},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        limn_image *im;
        limn_err err = {0};
        if (limn_image_load(&im, golden(files[i].file), &err) != LIMN_OK) fail_msg("%s", err.text);
        bool turned = files[i].turned;
        assert_int_equal(im->channels, files[i].channels);
        assert_int_equal(im->width, turned ? 16 : 24);
        assert_int_equal(im->height, turned ? 24 : 16);
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 24; x++)
                for (int c = 0; c < 3; c++) {
                    int at = turned ? x * 16 + (15 - y) : y * 24 + x;
                    int got = im->data[at * im->channels + c];
                    int d = got - want(x, y, files[i].grey ? 0 : c);
                    if (abs(d) > files[i].tolerance)
                        fail_msg("%s at %d,%d,%d is off by %d", files[i].file, x, y, c, d);
                }
        if (im->channels == 4) assert_int_equal(im->data[3 + 4 * 23], 255);
        limn_image_free(&im);
    }
}

static void expect_load(const void *data, size_t size, limn_status want_status) {
    limn_image *im;
    limn_err err = {0};
    assert_int_equal(limn_image_decode(&im, data, size, &err), want_status);
    assert_null(im);
    assert_true(err.text[0] != 0 && !strchr(err.text, '\n'));
}

static void test_bad_files(void **state) {
    (void)state;
    limn_fsmap *map;
    limn_image *im;
    limn_err err = {0};
    expect_load("", 0, LIMN_E_FORMAT);
    expect_load("hello world, this is no picture", 31, LIMN_E_FORMAT);
    assert_int_equal(limn_image_load(&im, "/nonexistent/a.png", &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_image_load(&im, "/tmp", &err), LIMN_E_IO);
    assert_int_equal(limn_image_load(&im, "/dev/zero", &err), LIMN_E_IO);
    static const char *const names[] = {"plain.png", "plain.jpg", "plain.webp"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(limn_fsmap_open(&map, golden(names[i]), NULL), LIMN_OK);
        expect_load(map->data, map->size / 2, LIMN_E_FORMAT);
        limn_fsmap_unref(&map);
    }
    /* a PNG header that claims 60000 x 60000 pixels is refused before any decoding */
    uint8_t bomb[256];
    assert_int_equal(limn_fsmap_open(&map, golden("plain.png"), NULL), LIMN_OK);
    memcpy(bomb, map->data, map->size < sizeof bomb ? map->size : sizeof bomb);
    bomb[18] = bomb[22] = 0xea;
    bomb[19] = bomb[23] = 0x60;
    static const uint8_t crc[4] = {0x0f, 0xb0, 0xe2, 0x15};
    memcpy(bomb + 29, crc, 4);
    assert_int_equal(limn_image_decode(&im, bomb, map->size, &err), LIMN_E_LIMIT);
    limn_fsmap_unref(&map);
    /* SVG is not for strangers' files */
    static const char svg[] = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>";
    expect_load(svg, sizeof svg - 1, LIMN_E_FORMAT);
}

static limn_image *gradient(int w, int h, int channels) {
    limn_image *im;
    assert_int_equal(limn_image_new(&im, w, h, channels, NULL), LIMN_OK);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++)
                im->data[(y * w + x) * channels + c] = (uint8_t)(c == 0   ? x * 255 / w
                                                                 : c == 1 ? y * 255 / h
                                                                 : c == 2 ? 128
                                                                          : 255 - x);
    return im;
}

static void test_save_and_load(void **state) {
    (void)state;
    static const char text[] =
        "a cat, caf\xc3\xa9 \xe2\x9c\xa8 \xf0\x9f\x98\xba\nNegative prompt: dog\n"
        "Steps: 5, Sampler: Euler a, Seed: 7";
    static const struct {
        const char *name;
        limn_file_options options;
        int channels, tolerance;
    } cases[] = {
        {"a.png", {.compression = 6}, 3, 0},
        {"b.png", {.compression = 1}, 4, 0},
        {"c.webp", {.quality = 90, .lossless = true}, 3, 0},
        {"d.webp", {.quality = 90, .lossless = true}, 4, 0},
        {"e.webp", {.quality = 95}, 3, 40},
        {"f.jpg", {.quality = 100}, 3, 12},
        {"g.dat", {.format = "png", .compression = 9}, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_image *im = gradient(33, 17, cases[i].channels), *back;
        limn_err err = {0};
        char *got;
        const char *path = temp_path(cases[i].name);
        if (limn_image_save(im, path, &cases[i].options, text, &err) != LIMN_OK)
            fail_msg("%s", err.text);
        if (limn_image_load(&back, path, &err) != LIMN_OK) fail_msg("%s", err.text);
        assert_int_equal(back->width, 33);
        assert_int_equal(back->height, 17);
        assert_int_equal(back->channels, cases[i].channels == 4 ? 4 : 3);
        for (int p = 0; p < 33 * 17 * back->channels; p++) {
            int from = cases[i].channels == 1 ? p / 3 : p;
            assert_true(abs(back->data[p] - im->data[from]) <= cases[i].tolerance);
        }
        if (limn_image_load_text(&got, path, &err) != LIMN_OK) fail_msg("%s: %s", path, err.text);
        assert_string_equal(got, text);
        limn_text_free(&got);
        unlink(path);
        limn_image_free(&im);
        limn_image_free(&back);
    }
}

static void test_save_errors(void **state) {
    (void)state;
    limn_image *im = gradient(8, 8, 3);
    limn_err err = {0};
    assert_int_equal(limn_image_save(im, "x.bmp", NULL, NULL, &err), LIMN_E_USAGE);
    assert_non_null(strstr(err.text, ".png"));
    assert_int_equal(limn_image_save(im, "/nonexistent/x.png", NULL, NULL, &err), LIMN_E_IO);
    assert_int_equal(limn_image_save(im, "/proc/x.png", NULL, NULL, &err), LIMN_E_IO);
    /* /dev/full is a disk that is full */
    const limn_file_options png = {.format = "png", .compression = 6};
    assert_int_equal(limn_image_save(im, "/dev/full", &png, NULL, &err), LIMN_E_IO);
    /* an existing file stays as it is when asked */
    const char *path = temp_path("keep.png");
    limn_file_options keep = LIMN_FILE_OPTIONS;
    keep.keep_existing = true;
    assert_int_equal(limn_image_save(im, path, &keep, "first", &err), LIMN_OK);
    assert_int_equal(limn_image_save(im, path, &keep, "second", &err), LIMN_E_IO);
    char *text;
    assert_int_equal(limn_image_load_text(&text, path, &err), LIMN_OK);
    assert_string_equal(text, "first");
    limn_text_free(&text);
    unlink(path);
    /* a recipe that a JPEG cannot hold */
    char *huge = malloc(100001);
    memset(huge, 'x', 100000);
    huge[100000] = 0;
    assert_int_equal(limn_image_save(im, temp_path("huge.jpg"), NULL, huge, &err), LIMN_E_LIMIT);
    assert_int_not_equal(access(temp_path("huge.jpg"), F_OK), 0);
    free(huge);
    limn_image_free(&im);
}

/* ---- terminal and sheet ---- */

static void test_terminal(void **state) {
    (void)state;
    limn_image *im = gradient(64, 32, 3);
    char *text;
    size_t len;
    assert_int_equal(
        limn_image_format_terminal(&text, &len, im, LIMN_TERMINAL_BLOCKS, 16, 10, NULL), LIMN_OK);
    int lines = 0;
    for (size_t i = 0; i < len; i++) lines += text[i] == '\n';
    assert_int_equal(lines, 4); /* 16 x 8 pixels, two a line */
    limn_text_free(&text);
    assert_int_equal(limn_image_format_terminal(&text, &len, im, LIMN_TERMINAL_SIXEL, 16, 10, NULL),
                     LIMN_OK);
    assert_memory_equal(text, "\033P0;1q\"", 7);
    assert_memory_equal(text + len - 3, "\033\\\n", 3);
    limn_text_free(&text);
    assert_int_equal(limn_image_format_terminal(&text, &len, im, LIMN_TERMINAL_KITTY, 16, 10, NULL),
                     LIMN_OK);
    assert_memory_equal(text, "\033_Ga=T,f=100,q=2,c=16,r=4,m=0;iVBORw0KGgo", 40);
    limn_text_free(&text);
    assert_int_equal(limn_image_format_terminal(&text, &len, im, LIMN_TERMINAL_BLOCKS, 0, 1, NULL),
                     LIMN_E_VALUE);
    limn_image_free(&im);
}

static void test_sheet(void **state) {
    (void)state;
    limn_image *im = gradient(64, 32, 3), *sheet;
    const limn_image *all[5] = {im, im, im, im, im};
    const char *labels[5] = {"one", "two & <three>", NULL, "", "f\xc3\xbcnf"};
    limn_err err = {0};
    if (limn_image_sheet(&sheet, all, labels, 5, 3, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(sheet->width, 3 * (64 + 8) + 8);
    assert_int_equal(sheet->height, 2 * (32 + 8 + 36) + 8);
    assert_memory_equal(sheet->data + (8 * sheet->width + 8) * 3, im->data, 64 * 3);
    int ink = 0; /* the first label is drawn below its picture */
    for (int y = 8 + 32; y < 8 + 32 + 36; y++)
        for (int x = 8; x < 8 + 64; x++) ink += sheet->data[(y * sheet->width + x) * 3] < 128;
    assert_true(ink > 20);
    limn_image_free(&sheet);
    assert_int_equal(limn_image_sheet(&sheet, all, NULL, 0, 3, &err), LIMN_E_VALUE);
    limn_image_free(&im);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resample_is_pillow),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_blur_keeps_flat),
        cmocka_unit_test(test_composite),
        cmocka_unit_test(test_floats_round_trip),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_save_errors),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_sheet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
