/* SPDX-License-Identifier: MIT */
/* cpu features: the words of --cpu-mask, the ladder, the texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/kernels.h"

static void test_mask_words(void **state) {
    (void)state;
    unsigned m;
    limn_err err = {0};
    assert_int_equal(limn_cpu_mask_parse(&m, "c", &err), LIMN_OK);
    assert_int_equal(m, 0);
    assert_int_equal(limn_cpu_mask_parse(&m, "AVX2", &err), LIMN_OK);
    assert_int_equal(m, LIMN_CPU_AVX2);
    assert_int_equal(limn_cpu_mask_parse(&m, "vnni", &err), LIMN_OK);
    assert_int_equal(m, LIMN_CPU_AVX2 | LIMN_CPU_AVX512 | LIMN_CPU_VNNI);
    assert_int_equal(limn_cpu_mask_parse(&m, "native", &err), LIMN_OK);
    assert_int_equal(limn_cpu_detect() & m, limn_cpu_detect());
    assert_int_equal(limn_cpu_mask_parse(&m, "sse9", &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "sse9"));
}

static void test_describe(void **state) {
    (void)state;
    char text[64];
    assert_string_equal(limn_cpu_describe(0, text, sizeof text), "c");
    assert_string_equal(limn_cpu_describe(~0u, text, sizeof text), "avx2 avx512 vnni avx512bf16");
    assert_string_equal(limn_cpu_describe(~0u, text, 7), "avx2 a");
}

static void test_ladder(void **state) {
    (void)state;
    unsigned f = limn_cpu_detect();
    if (f & LIMN_CPU_AVX512BF16) assert_true(f & LIMN_CPU_VNNI);
    if (f & LIMN_CPU_VNNI) assert_true(f & LIMN_CPU_AVX512);
    if (f & LIMN_CPU_AVX512) assert_true(f & LIMN_CPU_AVX2);
    limn_kernels k;
    limn_kernels_init(&k, f);
    assert_int_equal(k.cpu, f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mask_words),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_ladder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
