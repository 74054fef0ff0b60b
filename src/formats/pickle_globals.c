/* SPDX-License-Identifier: MIT */
/* The whitelist of names that a pickle may mention; see pickle.h. None of them is ever called. */
#include <string.h>

#include "formats/pickle.h"

typedef struct global_row {
    const char *module, *name;
    limn_pickle_global global;
    int dtype; /* -1: none */
} global_row;

static const global_row rows[] = {
    {"torch._utils", "_rebuild_tensor_v2", LIMN_PKG_TENSOR_V2, -1},
    {"torch._utils", "_rebuild_tensor", LIMN_PKG_TENSOR_V2, -1},
    {"torch._utils", "_rebuild_parameter", LIMN_PKG_PARAMETER, -1},
    {"torch._utils", "_rebuild_parameter_with_state", LIMN_PKG_PARAMETER, -1},
    {"torch", "FloatStorage", LIMN_PKG_STORAGE_TYPE, LIMN_F32},
    {"torch", "HalfStorage", LIMN_PKG_STORAGE_TYPE, LIMN_F16},
    {"torch", "BFloat16Storage", LIMN_PKG_STORAGE_TYPE, LIMN_BF16},
    {"torch", "DoubleStorage", LIMN_PKG_STORAGE_TYPE, LIMN_F64},
    {"torch", "CharStorage", LIMN_PKG_STORAGE_TYPE, LIMN_I8},
    {"torch", "ByteStorage", LIMN_PKG_STORAGE_TYPE, LIMN_U8},
    {"torch", "ShortStorage", LIMN_PKG_STORAGE_TYPE, LIMN_I16},
    {"torch", "IntStorage", LIMN_PKG_STORAGE_TYPE, LIMN_I32},
    {"torch", "LongStorage", LIMN_PKG_STORAGE_TYPE, LIMN_I64},
    {"torch", "BoolStorage", LIMN_PKG_STORAGE_TYPE, LIMN_BOOL},
    {"torch", "Float8_e4m3fnStorage", LIMN_PKG_STORAGE_TYPE, LIMN_F8_E4M3},
    {"torch", "Float8_e5m2Storage", LIMN_PKG_STORAGE_TYPE, LIMN_F8_E5M2},
    {"torch", "UntypedStorage", LIMN_PKG_STORAGE_TYPE, -1},
    {"torch.storage", "UntypedStorage", LIMN_PKG_STORAGE_TYPE, -1},
    {"torch", "float32", LIMN_PKG_DTYPE, LIMN_F32},
    {"torch", "float16", LIMN_PKG_DTYPE, LIMN_F16},
    {"torch", "bfloat16", LIMN_PKG_DTYPE, LIMN_BF16},
    {"torch", "float64", LIMN_PKG_DTYPE, LIMN_F64},
    {"torch", "int8", LIMN_PKG_DTYPE, LIMN_I8},
    {"torch", "uint8", LIMN_PKG_DTYPE, LIMN_U8},
    {"torch", "int16", LIMN_PKG_DTYPE, LIMN_I16},
    {"torch", "int32", LIMN_PKG_DTYPE, LIMN_I32},
    {"torch", "int64", LIMN_PKG_DTYPE, LIMN_I64},
    {"torch", "bool", LIMN_PKG_DTYPE, LIMN_BOOL},
    {"torch", "float8_e4m3fn", LIMN_PKG_DTYPE, LIMN_F8_E4M3},
    {"torch", "float8_e5m2", LIMN_PKG_DTYPE, LIMN_F8_E5M2},
    {"torch", "Size", LIMN_PKG_LIST, -1},
    {"torch", "device", LIMN_PKG_OPAQUE, -1},
    {"collections", "OrderedDict", LIMN_PKG_DICT, -1},
    {"collections", "defaultdict", LIMN_PKG_DICT, -1},
    {"builtins", "dict", LIMN_PKG_DICT, -1},
    {"__builtin__", "dict", LIMN_PKG_DICT, -1},
    {"builtins", "list", LIMN_PKG_LIST, -1},
    {"__builtin__", "list", LIMN_PKG_LIST, -1},
    {"builtins", "set", LIMN_PKG_LIST, -1},
    {"__builtin__", "set", LIMN_PKG_LIST, -1},
    {"builtins", "tuple", LIMN_PKG_LIST, -1},
    /* Left by training programs beside the weights (SD 1.x .ckpt files, textual inversions). */
    {"torch.nn.modules.container", "ParameterDict", LIMN_PKG_OPAQUE, -1},
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", LIMN_PKG_OPAQUE, -1},
    {"pytorch_lightning.callbacks.early_stopping", "EarlyStopping", LIMN_PKG_OPAQUE, -1},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", LIMN_PKG_OPAQUE, -1},
    {"argparse", "Namespace", LIMN_PKG_OPAQUE, -1},
    {"numpy", "dtype", LIMN_PKG_OPAQUE, -1},
    {"numpy", "ndarray", LIMN_PKG_OPAQUE, -1},
    {"numpy.core.multiarray", "scalar", LIMN_PKG_OPAQUE, -1},
    {"numpy.core.multiarray", "_reconstruct", LIMN_PKG_OPAQUE, -1},
    {"numpy._core.multiarray", "scalar", LIMN_PKG_OPAQUE, -1},
    {"numpy._core.multiarray", "_reconstruct", LIMN_PKG_OPAQUE, -1},
    {"_codecs", "encode", LIMN_PKG_OPAQUE, -1},
};

bool limn_pickle_global_find(limn_pickle_value *out, const char *module, const char *name) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].module, module) != 0 || strcmp(rows[i].name, name) != 0) continue;
        out->type = LIMN_PK_GLOBAL;
        out->global = rows[i].global;
        out->has_dtype = rows[i].dtype >= 0;
        if (out->has_dtype) out->dtype = (limn_dtype)rows[i].dtype;
        out->s = rows[i].name;
        out->n = strlen(rows[i].name);
        return true;
    }
    return false;
}
