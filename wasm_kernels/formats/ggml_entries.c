/* ggml_entries.c: the registry's entries of ggml's block formats. */
#include "encode.h" /* RQ_WRITES_GGML */
#include "entries.h"
#include "ggml.h"

#define DEFINE_COMMON(name)                                                         \
  static int32_t name##_row_bytes(int32_t width) {                                  \
    const rq_ggml *format = &rq_ggml_##name;                                        \
    if (width % format->weights) return -1;                                         \
    int64_t bytes = (int64_t)(width / format->weights) * format->bytes;             \
    return bytes <= INT32_MAX ? (int32_t)bytes : -1;                                \
  }                                                                                 \
  static int32_t name##_check(rq_error *error, const uint8_t *row, int32_t width) { \
    return rq_ggml_check(error, &rq_ggml_##name, row, width);                       \
  }
/* With kernels of their own, or with a product only that multiplies what the reader gives. */
#define DEFINE(name)                                                                                        \
  DEFINE_COMMON(name)                                                                                       \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) {               \
    PICK(variant, rq_##name##_decode_simd(row, width, out),                                                 \
         rq_ggml_decode_scalar(&rq_ggml_##name, row, width, out));                                          \
  }                                                                                                         \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {                   \
    PICK(variant, return rq_##name##_dot_simd(row, a), return rq_ggml_dot_scalar(&rq_ggml_##name, row, a)); \
  }
#define DEFINE_PLAIN(name)                                                                    \
  DEFINE_COMMON(name)                                                                         \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) { \
    (void)variant;                                                                            \
    rq_ggml_decode_scalar(&rq_ggml_##name, row, width, out);                                  \
  }                                                                                           \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {     \
    PICK(variant, return rq_ggml_dot_simd(&rq_ggml_##name, row, a),                           \
         return rq_ggml_dot_scalar(&rq_ggml_##name, row, a));                                 \
  }
DEFINE(q4_0)
DEFINE(q4_1)
DEFINE(q5_0)
DEFINE(q5_1)
DEFINE_PLAIN(q8_1)
DEFINE(q2_k)
DEFINE(q3_k)
DEFINE(q4_k)
DEFINE(q5_k)
DEFINE(q6_k)
DEFINE_PLAIN(q8_k)
DEFINE(iq4_nl)
DEFINE(iq4_xs)
DEFINE_PLAIN(tq1_0)
DEFINE(tq2_0)
DEFINE(mxfp4)
DEFINE_PLAIN(nvfp4)
DEFINE_PLAIN(q1_0)
DEFINE_PLAIN(q2_0)
DEFINE_PLAIN(iq1_s)
DEFINE_PLAIN(iq1_m)
DEFINE_PLAIN(iq2_xxs)
DEFINE_PLAIN(iq2_xs)
DEFINE_PLAIN(iq2_s)
DEFINE_PLAIN(iq3_xxs)
DEFINE_PLAIN(iq3_s)

#define ENTRY(id, ggml_type, name, weights, bytes, writable, pair)                \
  [id - RQ_GGML_FIRST] = {{id, ggml_type, 0, weights, bytes, 0, writable, #name}, \
                          name##_row_bytes,                                       \
                          name##_decode,                                          \
                          name##_dot,                                             \
                          name##_check,                                           \
                          true,                                                   \
                          pair}
const rq_format rq_ggml_entries[RQ_GGML_FORMATS] = {
    ENTRY(RQ_FORMAT_Q4_0, 2, q4_0, 32, 18, RQ_WRITES_GGML, PAIR(rq_q4_0_pair_simd)),
    ENTRY(RQ_FORMAT_Q4_1, 3, q4_1, 32, 20, 0, PAIR(rq_q4_1_pair_simd)),
    ENTRY(RQ_FORMAT_Q5_0, 6, q5_0, 32, 22, 0, PAIR(rq_q5_0_pair_simd)),
    ENTRY(RQ_FORMAT_Q5_1, 7, q5_1, 32, 24, 0, PAIR(rq_q5_1_pair_simd)),
    ENTRY(RQ_FORMAT_Q8_1, 9, q8_1, 32, 36, 0, NULL),
    ENTRY(RQ_FORMAT_Q2_K, 10, q2_k, 256, 84, RQ_WRITES_GGML, PAIR(rq_q2_k_pair_simd)),
    ENTRY(RQ_FORMAT_Q3_K, 11, q3_k, 256, 110, RQ_WRITES_GGML, PAIR(rq_q3_k_pair_simd)),
    ENTRY(RQ_FORMAT_Q4_K, 12, q4_k, 256, 144, RQ_WRITES_GGML, PAIR(rq_q4_k_pair_simd)),
    ENTRY(RQ_FORMAT_Q5_K, 13, q5_k, 256, 176, RQ_WRITES_GGML, PAIR(rq_q5_k_pair_simd)),
    ENTRY(RQ_FORMAT_Q6_K, 14, q6_k, 256, 210, RQ_WRITES_GGML, PAIR(rq_q6_k_pair_simd)),
    ENTRY(RQ_FORMAT_Q8_K, 15, q8_k, 256, 292, 0, NULL),
    ENTRY(RQ_FORMAT_IQ4_NL, 20, iq4_nl, 32, 18, RQ_WRITES_GGML, PAIR(rq_iq4_nl_pair_simd)),
    ENTRY(RQ_FORMAT_IQ4_XS, 23, iq4_xs, 256, 136, RQ_WRITES_GGML, PAIR(rq_iq4_xs_pair_simd)),
    ENTRY(RQ_FORMAT_TQ1_0, 34, tq1_0, 256, 54, RQ_WRITES_GGML, NULL),
    ENTRY(RQ_FORMAT_TQ2_0, 35, tq2_0, 256, 66, RQ_WRITES_GGML, PAIR(rq_tq2_0_pair_simd)),
    ENTRY(RQ_FORMAT_MXFP4, 39, mxfp4, 32, 17, 0, PAIR(rq_mxfp4_pair_simd)),
    ENTRY(RQ_FORMAT_NVFP4, 40, nvfp4, 64, 36, 0, NULL),
    ENTRY(RQ_FORMAT_Q1_0, 41, q1_0, 128, 18, 0, NULL),
    ENTRY(RQ_FORMAT_Q2_0, 42, q2_0, 64, 18, 0, NULL),
    ENTRY(RQ_FORMAT_IQ1_S, 19, iq1_s, 256, 50, 0, NULL),
    ENTRY(RQ_FORMAT_IQ1_M, 29, iq1_m, 256, 56, 0, NULL),
    ENTRY(RQ_FORMAT_IQ2_XXS, 16, iq2_xxs, 256, 66, RQ_WRITES_GGML, NULL),
    ENTRY(RQ_FORMAT_IQ2_XS, 17, iq2_xs, 256, 74, RQ_WRITES_GGML, NULL),
    ENTRY(RQ_FORMAT_IQ2_S, 22, iq2_s, 256, 82, 0, NULL),
    ENTRY(RQ_FORMAT_IQ3_XXS, 18, iq3_xxs, 256, 98, RQ_WRITES_GGML, NULL),
    ENTRY(RQ_FORMAT_IQ3_S, 21, iq3_s, 256, 110, 0, NULL),
};

const rq_ggml *rq_ggml_of(int32_t format) {
  static const rq_ggml *const known[RQ_GGML_FORMATS] = {
      [RQ_FORMAT_Q4_0 - RQ_GGML_FIRST] = &rq_ggml_q4_0,
      [RQ_FORMAT_Q4_1 - RQ_GGML_FIRST] = &rq_ggml_q4_1,
      [RQ_FORMAT_Q5_0 - RQ_GGML_FIRST] = &rq_ggml_q5_0,
      [RQ_FORMAT_Q5_1 - RQ_GGML_FIRST] = &rq_ggml_q5_1,
      [RQ_FORMAT_Q8_1 - RQ_GGML_FIRST] = &rq_ggml_q8_1,
      [RQ_FORMAT_Q2_K - RQ_GGML_FIRST] = &rq_ggml_q2_k,
      [RQ_FORMAT_Q3_K - RQ_GGML_FIRST] = &rq_ggml_q3_k,
      [RQ_FORMAT_Q4_K - RQ_GGML_FIRST] = &rq_ggml_q4_k,
      [RQ_FORMAT_Q5_K - RQ_GGML_FIRST] = &rq_ggml_q5_k,
      [RQ_FORMAT_Q6_K - RQ_GGML_FIRST] = &rq_ggml_q6_k,
      [RQ_FORMAT_Q8_K - RQ_GGML_FIRST] = &rq_ggml_q8_k,
      [RQ_FORMAT_IQ4_NL - RQ_GGML_FIRST] = &rq_ggml_iq4_nl,
      [RQ_FORMAT_IQ4_XS - RQ_GGML_FIRST] = &rq_ggml_iq4_xs,
      [RQ_FORMAT_TQ1_0 - RQ_GGML_FIRST] = &rq_ggml_tq1_0,
      [RQ_FORMAT_TQ2_0 - RQ_GGML_FIRST] = &rq_ggml_tq2_0,
      [RQ_FORMAT_MXFP4 - RQ_GGML_FIRST] = &rq_ggml_mxfp4,
      [RQ_FORMAT_NVFP4 - RQ_GGML_FIRST] = &rq_ggml_nvfp4,
      [RQ_FORMAT_Q1_0 - RQ_GGML_FIRST] = &rq_ggml_q1_0,
      [RQ_FORMAT_Q2_0 - RQ_GGML_FIRST] = &rq_ggml_q2_0,
      [RQ_FORMAT_IQ1_S - RQ_GGML_FIRST] = &rq_ggml_iq1_s,
      [RQ_FORMAT_IQ1_M - RQ_GGML_FIRST] = &rq_ggml_iq1_m,
      [RQ_FORMAT_IQ2_XXS - RQ_GGML_FIRST] = &rq_ggml_iq2_xxs,
      [RQ_FORMAT_IQ2_XS - RQ_GGML_FIRST] = &rq_ggml_iq2_xs,
      [RQ_FORMAT_IQ2_S - RQ_GGML_FIRST] = &rq_ggml_iq2_s,
      [RQ_FORMAT_IQ3_XXS - RQ_GGML_FIRST] = &rq_ggml_iq3_xxs,
      [RQ_FORMAT_IQ3_S - RQ_GGML_FIRST] = &rq_ggml_iq3_s,
  };
  return rq_is_ggml(format) ? known[format - RQ_GGML_FIRST] : NULL;
}
