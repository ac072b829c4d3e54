/* ggml.h: the block formats that ggml defines, beside Q8_0. Each has one reader, which turns the bytes of a
 * block into integers, scales and offsets; decoding, products and checks are the same for all (ggml.c), and
 * so are their 128-bit versions (simd_ggml.c). */
#ifndef RQ_GGML_H
#define RQ_GGML_H
#include "blocks.h"

enum { RQ_GGML_PART = 16, RQ_GGML_PARTS = RQ_BLOCK / RQ_GGML_PART };

/* A block of up to 256 weights, read. Weight i is f32(value[i]) * scale[p] + offset[p], p = i / part: both
 * operations rounded, the second only in formats with offsets. */
typedef struct rq_ggml_block {
  int8_t value[RQ_BLOCK];
  float scale[RQ_GGML_PARTS];
  float offset[RQ_GGML_PARTS];
} rq_ggml_block;

typedef struct rq_ggml {
  int32_t weights; /* of a block */
  int32_t bytes;
  int32_t part; /* weights that share a scale: 16, 32, 64, 128 or 256 */
  bool offsets;
  void (*read)(const uint8_t *block, rq_ggml_block *out);
  int16_t
      exponents[2]; /* bytes with the upper bits of the block's exponents (the self-test sets them), or -1 */
} rq_ggml;
/* NULL for a format that isn't one of these. */
const rq_ggml *rq_ggml_of(int32_t format);

extern const rq_ggml rq_ggml_q4_0, rq_ggml_q4_1, rq_ggml_q5_0, rq_ggml_q5_1, rq_ggml_q8_1, rq_ggml_iq4_nl,
    rq_ggml_mxfp4;                                                                         /* ggml_32.c */
extern const rq_ggml rq_ggml_q2_k, rq_ggml_q3_k, rq_ggml_q4_k, rq_ggml_q5_k, rq_ggml_q6_k; /* ggml_k.c */
extern const rq_ggml rq_ggml_q8_k, rq_ggml_iq4_xs, rq_ggml_tq1_0, rq_ggml_tq2_0, rq_ggml_nvfp4, rq_ggml_q1_0,
    rq_ggml_q2_0; /* ggml_more.c */
extern const rq_ggml rq_ggml_iq1_s, rq_ggml_iq1_m, rq_ggml_iq2_xxs, rq_ggml_iq2_xs, rq_ggml_iq2_s,
    rq_ggml_iq3_xxs, rq_ggml_iq3_s; /* ggml_lattice.c */

/* The registry's entries of these formats, from RQ_FORMAT_Q4_0 on (ggml_entries.c). */
enum { RQ_GGML_FIRST = RQ_FORMAT_Q4_0, RQ_GGML_FORMATS = RQ_FORMAT_IQ3_S + 1 - RQ_GGML_FIRST };
static inline bool rq_is_ggml(int32_t format) {
  return format >= RQ_GGML_FIRST && format < RQ_GGML_FIRST + RQ_GGML_FORMATS;
}
extern const rq_format rq_ggml_entries[RQ_GGML_FORMATS];

/* The values of 4-bit codes: a curve fitted to weights (IQ4), and E2M1 times two (MXFP4, NVFP4). */
extern const int8_t rq_values_iq4[16], rq_values_fp4[16];

/* ---- the plain reference ---- */

void rq_ggml_decode_scalar(const rq_ggml *format, const uint8_t *row, int32_t width, float *out);
float rq_ggml_dot_scalar(const rq_ggml *format, const uint8_t *row, const rq_activations *a);
/* The same with vectors for what the reader gives (simd_ggml.c), where the build has them. */
float rq_ggml_dot_simd(const rq_ggml *format, const uint8_t *row, const rq_activations *a);
int32_t rq_ggml_check(rq_error *error, const rq_ggml *format, const uint8_t *row, int32_t width);

static inline float rq_read_f16(const uint8_t *bytes) { return rq_f16_to_f32(rq_read_u16(bytes)); }

#endif
