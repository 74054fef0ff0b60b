/* SPDX-License-Identifier: MIT */
/* tensor: exhaustive f16/bf16/f8 round trips, shapes, byte counts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tensor/tensor.h"

static void test_f16_all_codes(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = limn_f16_to_f32((uint16_t)h);
        if (isnan(f)) continue;
        assert_int_equal(limn_f32_to_f16(f), h);
    }
    assert_int_equal(limn_f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(limn_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(limn_f32_to_f16(2.9802322e-8f), 0); /* half of the least: ties to even */
}

static void test_f8_all_codes(void **state) {
    (void)state;
    for (int t = LIMN_F8_E4M3; t <= LIMN_F8_E5M2; t++)
        for (int v = 0; v < 256; v++) {
            uint8_t in = (uint8_t)v, back;
            float f;
            limn_dtype_to_f32(&f, &in, (limn_dtype)t, 1);
            if (isnan(f) || isinf(f)) continue;
            assert_true(limn_dtype_from_f32(&back, &f, (limn_dtype)t, 1));
            assert_int_equal(back, in);
        }
    uint8_t top = 0x7e;
    float f;
    limn_dtype_to_f32(&f, &top, LIMN_F8_E4M3, 1);
    assert_true(f == 448.0f);
}

static void test_quant_round_trip_error(void **state) {
    (void)state;
    float x[64], y[64];
    for (int i = 0; i < 64; i++) x[i] = sinf((float)i * 0.37f) * 3.0f;
    uint8_t b[80];
    assert_true(limn_dtype_from_f32(b, x, LIMN_Q8_0, 64));
    limn_dtype_to_f32(y, b, LIMN_Q8_0, 64);
    for (int i = 0; i < 64; i++) assert_true(fabsf(x[i] - y[i]) <= 3.0f / 127 * 0.51f + 2e-3f);
    assert_true(limn_dtype_from_f32(b, x, LIMN_Q4_0, 64));
    limn_dtype_to_f32(y, b, LIMN_Q4_0, 64);
    for (int i = 0; i < 64; i++) assert_true(fabsf(x[i] - y[i]) <= 3.0f / 8 * 1.01f);
}

static void test_shapes(void **state) {
    (void)state;
    limn_shape s = LIMN_SHAPE(2, 77, 768);
    char text[96];
    assert_string_equal(limn_shape_format(&s, text, sizeof text), "[2, 77, 768]");
    assert_int_equal(limn_shape_count(&s), 2 * 77 * 768);
    limn_shape huge = LIMN_SHAPE(INT64_MAX, 3);
    assert_int_equal(limn_shape_count(&huge), -1);
    size_t n;
    limn_shape odd = LIMN_SHAPE(4, 33);
    assert_false(limn_tensor_bytes(&n, LIMN_Q8_0, &odd));
    assert_true(limn_tensor_bytes(&n, LIMN_F16, &odd));
    assert_int_equal(n, 264);
    limn_dtype t;
    assert_true(limn_dtype_find(&t, "Q4_K"));
    assert_int_equal(t, LIMN_Q4_K);
    assert_false(limn_dtype_find(&t, "q9"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_all_codes),
        cmocka_unit_test(test_f8_all_codes),
        cmocka_unit_test(test_quant_round_trip_error),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
