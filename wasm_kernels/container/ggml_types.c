/* ggml_types.c: how many bytes a tensor of each ggml type takes, so that any GGUF file can be listed
 * and its layout checked. What the bytes mean is known in formats/, for the types that run. */
#include "../formats/formats.h" /* which types are computed with */
#include "parse.h"

static const rq_ggml_type types[RQ_GGML_TYPE_COUNT] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},      [4] = {"Q4_2", 0, 0},        [5] = {"Q4_3", 0, 0},
    [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},      [8] = {"Q8_0", 32, 34},
    [9] = {"Q8_1", 32, 36}, /* two f16; the gguf package still has the old two f32 */
    [10] = {"Q2_K", 256, 84},    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},
    [13] = {"Q5_K", 256, 176},   [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},
    [16] = {"IQ2_XXS", 256, 66}, [17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98},
    [19] = {"IQ1_S", 256, 50},   [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},   [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},
    [25] = {"I16", 1, 2},        [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},
    [28] = {"F64", 1, 8},        [29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},
    [31] = {"Q4_0_4_4", 0, 0},   [32] = {"Q4_0_4_8", 0, 0},   [33] = {"Q4_0_8_8", 0, 0},
    [34] = {"TQ1_0", 256, 54},   [35] = {"TQ2_0", 256, 66},   [36] = {"IQ4_NL_4_4", 0, 0},
    [37] = {"IQ4_NL_4_8", 0, 0}, [38] = {"IQ4_NL_8_8", 0, 0}, [39] = {"MXFP4", 32, 17},
    [40] = {"NVFP4", 64, 36},    [41] = {"Q1_0", 128, 18},    [42] = {"Q2_0", 64, 18},
};

const rq_ggml_type *rq_ggml_type_get(uint32_t id) { return id < RQ_GGML_TYPE_COUNT ? &types[id] : NULL; }

int32_t RQ_EXPORT rq_ggml_type_describe(int32_t ggml_type, rq_ggml_type_info *info) {
  const rq_ggml_type *type = rq_ggml_type_get((uint32_t)ggml_type);
  if (!type) return RQ_E_TYPE;
  rq_zero(info, sizeof *info);
  info->ggml_type = ggml_type;
  info->format = rq_format_of_ggml(ggml_type);
  info->block_weights = type->block_weights;
  info->block_bytes = type->block_bytes;
  rq_copy(info->name, type->name, rq_length(type->name));
  return RQ_OK;
}
