/* SPDX-License-Identifier: MIT */
/* quant: every block type against values of the reference implementation, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/fsmap.h"
#include "base/mem.h"
#include "tensor/dtype.h"
#include "tensor/quant_block.h"

/* File: u32 count, raw blocks, f32 values; made by tools/reference/quant_blocks.py. */
static void check_type(limn_dtype t) {
    const limn_dtype_info *info = limn_dtype_get(t);
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    char path[512];
    snprintf(path, sizeof path, "%s/quant/%s.bin", dir ? dir : "tests/golden", info->name);
    limn_fsmap *map;
    limn_err err = {0};
    if (limn_fsmap_open(&map, path, &err) != LIMN_OK) fail_msg("%s", err.text);
    uint32_t count;
    memcpy(&count, map->data, 4);
    size_t n = (size_t)count * (size_t)info->block, raw = (size_t)count * (size_t)info->bytes;
    assert_int_equal(map->size, 4 + raw + n * 4);
    assert_true(count > 0);
    float *got = limn_mem_alloc(n * 4);
    limn_dtype_to_f32(got, map->data + 4, t, (int64_t)n);
    assert_memory_equal(got, map->data + 4 + raw, n * 4);
    limn_mem_free(got);
    limn_fsmap_unref(&map);
}

static void test_golden_blocks(void **state) {
    (void)state;
    int seen = 0;
    for (int t = 0; t < LIMN_DTYPE_COUNT; t++)
        if (limn_dtype_get((limn_dtype)t)->quantised) {
            check_type((limn_dtype)t);
            seen++;
        }
    assert_int_equal(seen, 12);
}

static void test_refuses_part_blocks(void **state) {
    (void)state;
    float x[33] = {0};
    uint8_t b[68];
    assert_false(limn_quant_block_from_f32(b, x, LIMN_Q8_0, 33));
    assert_false(limn_quant_block_from_f32(b, x, LIMN_Q6_K, 0)); /* read only */
    assert_true(limn_quant_block_from_f32(b, x, LIMN_Q8_0, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_blocks),
        cmocka_unit_test(test_refuses_part_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
