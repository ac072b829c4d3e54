/* registry.c: one entry a format: sizes, names and kernels. */
#include "entries.h"
#include "foreign.h"
#include "ggml.h"
#include "levels.h"

/* ---- sizes of rows ---- */

static int32_t checked_bytes(uint64_t bytes) { return bytes <= INT32_MAX ? (int32_t)bytes : -1; }

static int32_t own_row_bytes(const rq_own *own, int32_t width) {
  uint64_t full = (uint64_t)(width / RQ_BLOCK) * (uint64_t)rq_own_block_bytes(own, RQ_BLOCK);
  int32_t tail = width % RQ_BLOCK;
  return checked_bytes(full + (tail ? (uint64_t)rq_own_block_bytes(own, tail) : 0));
}

static int32_t block_row_bytes(int32_t width, int32_t block_weights, uint64_t block_bytes) {
  if (width % block_weights) return -1;
  return checked_bytes((uint64_t)(width / block_weights) * block_bytes);
}

static int32_t f32_row_bytes(int32_t width) { return block_row_bytes(width, 1, 4); }
static int32_t half_row_bytes(int32_t width) { return block_row_bytes(width, 1, 2); }
static int32_t q8_0_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_Q8_0_WEIGHTS, sizeof(rq_block_q8_0));
}
static int32_t q3_ruvllm_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_BLOCK, sizeof(rq_block_q3_ruvllm));
}
static int32_t q2_ruvllm_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_BLOCK, sizeof(rq_block_q2_ruvllm));
}

/* ---- entries ---- */

#define DEFINE_OWN(name)                                                                                  \
  static int32_t name##_row_bytes(int32_t width) { return own_row_bytes(&rq_own_##name, width); }         \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) {             \
    PICK(variant, rq_own_decode_simd(&rq_own_##name, row, width, out),                                    \
         rq_own_decode_scalar(&rq_own_##name, row, width, out));                                          \
  }                                                                                                       \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {                 \
    PICK(variant, return rq_##name##_dot_simd(row, a), return rq_own_dot_scalar(&rq_own_##name, row, a)); \
  }                                                                                                       \
  static int32_t name##_check(rq_error *error, const uint8_t *row, int32_t width) {                       \
    return rq_own_check(error, &rq_own_##name, row, width);                                               \
  }
DEFINE_OWN(pi_q3)
DEFINE_OWN(pi_q2)
DEFINE_OWN(pi_t3)
DEFINE_OWN(pi_t2)
DEFINE_OWN(ternary)
DEFINE_OWN(pi_x3)
DEFINE_OWN(pi_x2)

#define DEFINE_FOREIGN(name)                                                                             \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) {            \
    PICK(variant, rq_##name##_decode_simd(row, width, out), rq_##name##_decode_scalar(row, width, out)); \
  }                                                                                                      \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {                \
    PICK(variant, return rq_##name##_dot_simd(row, a), return rq_##name##_dot_scalar(row, a));           \
  }
DEFINE_FOREIGN(f32)
DEFINE_FOREIGN(f16)
DEFINE_FOREIGN(bf16)
DEFINE_FOREIGN(q8_0)

/* ruvllm's layout is read for compatibility and has the plain kernel only. */
#define DEFINE_PLAIN(name)                                                                    \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) { \
    (void)variant;                                                                            \
    rq_##name##_decode(row, width, out);                                                      \
  }                                                                                           \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {     \
    (void)variant;                                                                            \
    return rq_##name##_dot(row, a);                                                           \
  }
DEFINE_PLAIN(q3_ruvllm)
DEFINE_PLAIN(q2_ruvllm)

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q8_0 = 8, GGML_BF16 = 30, RUVLLM_Q3 = 40, RUVLLM_Q2 = 41 };

#define OWN(id, text, name, bytes)                   \
  {{id, RQ_GGML_I8, 1, RQ_BLOCK, bytes, 1, 1, text}, \
   name##_row_bytes,                                 \
   name##_decode,                                    \
   name##_dot,                                       \
   name##_check,                                     \
   true,                                             \
   PAIR(rq_##name##_pair_simd)}
static const rq_format formats[RQ_FORMAT_COUNT - RQ_GGML_FORMATS] = {
    /* those of ggml, ggml_entries.c, stand before the last two */
    {{RQ_FORMAT_F32, GGML_F32, 1, 1, 4, 0, 1, "f32"},
     f32_row_bytes,
     f32_decode,
     f32_dot,
     rq_f32_check,
     false,
     PAIR(rq_f32_pair_simd)},
    {{RQ_FORMAT_F16, GGML_F16, 1, 1, 2, 0, 1, "f16"},
     half_row_bytes,
     f16_decode,
     f16_dot,
     rq_f16_check,
     false,
     PAIR(rq_f16_pair_simd)},
    {{RQ_FORMAT_BF16, GGML_BF16, 1, 1, 2, 0, 1, "bf16"},
     half_row_bytes,
     bf16_decode,
     bf16_dot,
     rq_bf16_check,
     false,
     PAIR(rq_bf16_pair_simd)},
    {{RQ_FORMAT_Q8_0, GGML_Q8_0, 0, RQ_Q8_0_WEIGHTS, sizeof(rq_block_q8_0), 0, 1, "q8_0"},
     q8_0_row_bytes,
     q8_0_decode,
     q8_0_dot,
     rq_q8_0_check,
     true,
     PAIR(rq_q8_0_pair_simd)},
    OWN(RQ_FORMAT_PI_Q3, "pi-q3", pi_q3, sizeof(rq_block_3bit)),
    OWN(RQ_FORMAT_PI_Q2, "pi-q2", pi_q2, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_PI_T3, "pi-t3", pi_t3, sizeof(rq_block_3bit)),
    OWN(RQ_FORMAT_PI_T2, "pi-t2", pi_t2, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_TERNARY, "ternary", ternary, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_PI_TERNARY, "pi-ternary", ternary, sizeof(rq_block_2bit)),
    {{RQ_FORMAT_PI_Q3_RUVLLM, RUVLLM_Q3, 0, RQ_BLOCK, sizeof(rq_block_q3_ruvllm), 0, 1, "pi-q3-ruvllm"},
     q3_ruvllm_row_bytes,
     q3_ruvllm_decode,
     q3_ruvllm_dot,
     rq_q3_ruvllm_check,
     true,
     NULL},
    {{RQ_FORMAT_PI_Q2_RUVLLM, RUVLLM_Q2, 0, RQ_BLOCK, sizeof(rq_block_q2_ruvllm), 0, 1, "pi-q2-ruvllm"},
     q2_ruvllm_row_bytes,
     q2_ruvllm_decode,
     q2_ruvllm_dot,
     rq_q2_ruvllm_check,
     true,
     NULL},
    OWN(RQ_FORMAT_PI_X3, "pi-x3", pi_x3, sizeof(rq_block_3bit)),
    OWN(RQ_FORMAT_PI_X2, "pi-x2", pi_x2, sizeof(rq_block_2bit)),
};

const rq_format *rq_format_get(int32_t format) {
  if (format < 0 || format >= RQ_FORMAT_COUNT) return NULL;
  if (rq_is_ggml(format)) return &rq_ggml_entries[format - RQ_GGML_FIRST];
  return &formats[format < RQ_GGML_FIRST ? format : format - RQ_GGML_FORMATS];
}

int32_t rq_format_of_ggml(int32_t ggml_type) {
  for (int32_t i = 0; i < RQ_FORMAT_COUNT; i++) {
    bool ruvllm = i == RQ_FORMAT_PI_Q3_RUVLLM || i == RQ_FORMAT_PI_Q2_RUVLLM;
    const rq_format_info *info = &rq_format_get(i)->info;
    if (info->ggml_type == ggml_type && !info->own && !ruvllm) return i;
  }
  return RQ_FORMAT_NONE;
}

int32_t rq_format_named(const char *name, int32_t bytes) {
  for (int32_t i = 0; i < RQ_FORMAT_COUNT; i++) {
    const char *known = rq_format_get(i)->info.name;
    if (bytes >= 0 && rq_length(known) == (size_t)bytes && rq_equal(known, name, (size_t)bytes)) return i;
  }
  return RQ_FORMAT_NONE;
}

int32_t RQ_EXPORT rq_format_describe(int32_t format, rq_format_info *info) {
  const rq_format *entry = rq_format_get(format);
  if (!entry || !info) return RQ_E_ARGUMENT;
  *info = entry->info;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_format_row_bytes(int32_t format, int32_t width) {
  const rq_format *entry = rq_format_get(format);
  if (!entry) return RQ_E_ARGUMENT;
  if (width < 1 || width > RQ_MAX_WIDTH) return RQ_E_SHAPE;
  int32_t bytes = entry->row_bytes(width);
  return bytes < 0 ? RQ_E_SHAPE : bytes;
}

int32_t rq_format_refuse_width(rq_error *error, int32_t code, const rq_format *format, int32_t width) {
  const rq_format_info *info = &format->info;
  rq_fail(error, code, "rows of %s", info->name);
  if (info->any_width)
    rq_expected(error, "a width of 1 to %d and rows below 2 GiB", (int32_t)RQ_MAX_WIDTH);
  else
    rq_expected(error, "a multiple of %d weights, at most %d", info->block_weights, (int32_t)RQ_MAX_WIDTH);
  rq_actual(error, "a width of %d", width);
  rq_hint(error, info->any_width ? "split the rows" : "choose a format that takes any width");
  return code;
}
