/* simd_foreign.c: 128-bit decoders and products of F32, F16, BF16 and Q8_0. Held to foreign.c bit for bit. */
#include "foreign.h"
#include "simd_half.h"
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

typedef enum { FLOAT_32, FLOAT_16, BRAIN_16 } float_kind;

RV_INLINE void load_8(float_kind kind, const uint8_t *row, int32_t i, rq_vf *out /* (2) */) {
  if (kind == FLOAT_32) {
    out[0] = rf_of_bits(rv_load(row + 4 * (size_t)i));
    out[1] = rf_of_bits(rv_load(row + 4 * (size_t)i + 16));
    return;
  }
  rq_vi halves = rv_load(row + 2 * (size_t)i), zero = rv_zero();
  if (kind == FLOAT_16) {
    out[0] = rf_from_f16(rv_zip_low16(zero, halves));
    out[1] = rf_from_f16(rv_zip_high16(zero, halves));
  } else {
    out[0] = rf_of_bits(rv_zip_low16(zero, halves));
    out[1] = rf_of_bits(rv_zip_high16(zero, halves));
  }
}

RV_INLINE void decode_floats(float_kind kind, const uint8_t *row, int32_t width, float *out) {
  int32_t i = 0;
  rq_vf v[2];
  for (; i + 8 <= width; i += 8) {
    load_8(kind, row, i, v);
    rf_store(out + i, v[0]);
    rf_store(out + i + 4, v[1]);
  }
  for (; i < width; i++)
    out[i] = kind == FLOAT_32   ? rq_load_f32(row, i)
             : kind == FLOAT_16 ? rq_f16_to_f32(rq_load_u16(row, i))
                                : rq_bf16_to_f32(rq_load_u16(row, i));
}

/* The fixed tree over 16 sums: l and l + 8, l and l + 4, then 2 and 1. */
RV_INLINE float sum_lanes(const rq_vf *acc /* (4) */) {
  rq_vf sum = rf_add(rf_add(acc[0], acc[2]), rf_add(acc[1], acc[3]));
  sum = rf_add(sum, rf_swap_halves(sum));
  float lanes[4];
  rf_store(lanes, rf_add(sum, rf_swap_pairs(sum)));
  return lanes[0];
}

RV_INLINE float dot_floats(float_kind kind, const uint8_t *row, const rq_activations *a) {
  rq_vf acc[4] = {rf_splat(0.0f), rf_splat(0.0f), rf_splat(0.0f), rf_splat(0.0f)};
  int32_t i = 0, size = kind == FLOAT_32 ? 4 : 2;
  for (; i + RQ_LANES <= a->width; i += RQ_LANES) {
    rq_vf w[4];
    load_8(kind, row, i, w);
    load_8(kind, row, i + 8, w + 2);
    for (int32_t v = 0; v < 4; v++) acc[v] = rf_add(acc[v], rf_mul(rf_load(a->x + i + 4 * v), w[v]));
  }
  if (i < a->width) { /* zeros beyond the end add +0, which changes no sum */
    uint8_t last[4 * RQ_LANES] = {0};
    float x[RQ_LANES] = {0.0f};
    rq_copy(last, row + (size_t)size * (size_t)i, (size_t)size * (size_t)(a->width - i));
    rq_copy(x, a->x + i, sizeof(float) * (size_t)(a->width - i));
    rq_vf w[4];
    load_8(kind, last, 0, w);
    load_8(kind, last, 8, w + 2);
    for (int32_t v = 0; v < 4; v++) acc[v] = rf_add(acc[v], rf_mul(rf_load(x + 4 * v), w[v]));
  }
  return sum_lanes(acc);
}

void rq_f32_decode_simd(const uint8_t *row, int32_t width, float *out) {
  rq_copy(out, row, sizeof(float) * (size_t)width);
}
void rq_f16_decode_simd(const uint8_t *row, int32_t width, float *out) {
  decode_floats(FLOAT_16, row, width, out);
}
void rq_bf16_decode_simd(const uint8_t *row, int32_t width, float *out) {
  decode_floats(BRAIN_16, row, width, out);
}
float rq_f32_dot_simd(const uint8_t *row, const rq_activations *a) { return dot_floats(FLOAT_32, row, a); }
float rq_f16_dot_simd(const uint8_t *row, const rq_activations *a) { return dot_floats(FLOAT_16, row, a); }
float rq_bf16_dot_simd(const uint8_t *row, const rq_activations *a) { return dot_floats(BRAIN_16, row, a); }

/* ---- Q8_0 ---- */

void rq_q8_0_decode_simd(const uint8_t *row, int32_t width, float *out) {
  const rq_block_q8_0 *blocks = (const rq_block_q8_0 *)row;
  for (int32_t b = 0; b < width / RQ_Q8_0_WEIGHTS; b++) {
    rq_vf d = rf_splat(rq_f16_to_f32(rq_read_u16(blocks[b].d)));
    for (int32_t half = 0; half < 2; half++) {
      rq_vi q = rv_load(blocks[b].q + 16 * half), low = rv_widen_low8(q), high = rv_widen_high8(q);
      float *to = out + RQ_Q8_0_WEIGHTS * b + 16 * half;
      rf_store(to, rf_mul(rf_from_i32(rv_widen_low16(low)), d));
      rf_store(to + 4, rf_mul(rf_from_i32(rv_widen_high16(low)), d));
      rf_store(to + 8, rf_mul(rf_from_i32(rv_widen_low16(high)), d));
      rf_store(to + 12, rf_mul(rf_from_i32(rv_widen_high16(high)), d));
    }
  }
}

RV_INLINE rq_vi dot_16(const int8_t *weights, const int8_t *q) {
  rq_vi w = rv_load(weights), x = rv_load(q);
  return rv_add32(rv_dot16(rv_widen_low8(w), rv_widen_low8(x)),
                  rv_dot16(rv_widen_high8(w), rv_widen_high8(x)));
}

/* Four partial sums of one block's 32 products. */
RV_INLINE rq_vi dot_32(const rq_block_q8_0 *block, const int8_t *q) {
  return rv_add32(dot_16(block->q, q), dot_16(block->q + 16, q + 16));
}

float rq_q8_0_dot_simd(const uint8_t *row, const rq_activations *a) {
  const rq_block_q8_0 *blocks = (const rq_block_q8_0 *)row;
  int32_t count = a->width / RQ_Q8_0_WEIGHTS;
  rq_vf acc = rf_splat(0.0f);
  for (int32_t b = 0; b < count; b += 4) { /* four blocks, one for each accumulator */
    rq_vi sums[4];
    float d[4];
    for (int32_t i = 0; i < 4; i++) { /* beyond the end: +0 */
      bool there = b + i < count;
      sums[i] = there ? dot_32(blocks + b + i, a->q + RQ_Q8_0_WEIGHTS * (b + i)) : rv_zero();
      d[i] = there ? rq_f16_to_f32(rq_read_u16(blocks[b + i].d)) : 0.0f;
    }
    rq_vf t = rf_mul(rf_load(d), rf_splat(a->scale[RQ_Q8_0_WEIGHTS * b / RQ_BLOCK]));
    acc = rf_add(acc, rf_mul(rf_from_i32(rv_sums32(sums[0], sums[1], sums[2], sums[3])), t));
  }
  return rf_sum4(acc);
}

/* ---- two rows times several vectors: weights are widened once for all ---- */

/* Adds n weights (a multiple of 16) of both rows to the 16 sums of each; x holds as many numbers. */
RV_INLINE void add_floats(const float (*w)[RQ_BLOCK] /* (2) */, const float *x, int32_t n,
                          rq_vf *acc /* (2, 4) */) {
  rq_vf sums[8];
  for (int32_t v = 0; v < 8; v++) sums[v] = acc[v];
  for (int32_t i = 0; i < n; i += RQ_LANES)
    for (int32_t v = 0; v < 4; v++) {
      rq_vf part = rf_load(x + i + 4 * v);
      sums[v] = rf_add(sums[v], rf_mul(part, rf_load(w[0] + i + 4 * v)));
      sums[4 + v] = rf_add(sums[4 + v], rf_mul(part, rf_load(w[1] + i + 4 * v)));
    }
  for (int32_t v = 0; v < 8; v++) acc[v] = sums[v];
}

RV_INLINE void pair_floats(float_kind kind, const uint8_t *row0, const uint8_t *row1, const rq_activations *a,
                           int32_t count, float *y0, float *y1, size_t stride) {
  rq_vf acc[RQ_PRODUCT_VECTORS][8];
  for (int32_t t = 0; t < count; t++)
    for (int32_t v = 0; v < 8; v++) acc[t][v] = rf_splat(0.0f);
  size_t size = kind == FLOAT_32 ? 4 : 2;
  for (int32_t start = 0; start < a->width; start += RQ_BLOCK) {
    int32_t n = rq_min_i32(RQ_BLOCK, a->width - start), padded = (n + RQ_LANES - 1) / RQ_LANES * RQ_LANES;
    float w[2][RQ_BLOCK];
    for (int32_t i = n; i < padded; i++) w[0][i] = w[1][i] = 0.0f;
    decode_floats(kind, row0 + size * (size_t)start, n, w[0]);
    decode_floats(kind, row1 + size * (size_t)start, n, w[1]);
    for (int32_t t = 0; t < count; t++) {
      const float *x = a[t].x + start;
      float last[RQ_BLOCK];
      if (padded > n) { /* zeros beyond the end add +0, which changes no sum */
        rq_copy(last, x, sizeof(float) * (size_t)n);
        for (int32_t i = n; i < padded; i++) last[i] = 0.0f;
        x = last;
      }
      add_floats((const float(*)[RQ_BLOCK])w, x, padded, acc[t]);
    }
  }
  for (int32_t t = 0; t < count; t++) {
    y0[stride * (size_t)t] = sum_lanes(acc[t]);
    y1[stride * (size_t)t] = sum_lanes(acc[t] + 4);
  }
}

#define DEFINE_FLOAT_PAIR(name, kind)                                                           \
  void rq_##name##_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, \
                             int32_t count, float *y0, float *y1, size_t stride) {              \
    pair_floats(kind, row0, row1, a, count, y0, y1, stride);                                    \
  }
DEFINE_FLOAT_PAIR(f32, FLOAT_32)
DEFINE_FLOAT_PAIR(f16, FLOAT_16)
DEFINE_FLOAT_PAIR(bf16, BRAIN_16)

enum { QUAD = 4 }; /* blocks of Q8_0 at a time, one for each accumulator */

/* Four blocks from `first` on as i16 and their scales, zeros beyond the end. */
RV_INLINE rq_vf load_quad(const rq_block_q8_0 *blocks, int32_t first, int32_t count,
                          rq_vi *w /* (QUAD, 4) */) {
  float d[QUAD];
  for (int32_t i = 0; i < QUAD; i++, w += 4) {
    bool there = first + i < count;
    d[i] = there ? rq_f16_to_f32(rq_read_u16(blocks[first + i].d)) : 0.0f;
    for (int32_t half = 0; half < 2; half++) {
      rq_vi q = there ? rv_load(blocks[first + i].q + 16 * half) : rv_zero();
      w[2 * half] = rv_widen_low8(q);
      w[2 * half + 1] = rv_widen_high8(q);
    }
  }
  return rf_load(d);
}

/* Exact sums of four blocks of both rows with q (128). */
RV_INLINE void dot_quad(const rq_vi (*w)[4 * QUAD] /* (2) */, const int8_t *q, rq_vi *sums /* (2) */) {
  rq_vi parts[2][QUAD];
  for (int32_t i = 0; i < QUAD; i++) {
    rq_vi low = rv_load(q + 32 * i), high = rv_load(q + 32 * i + 16);
    rq_vi x[4] = {rv_widen_low8(low), rv_widen_high8(low), rv_widen_low8(high), rv_widen_high8(high)};
    for (int32_t row = 0; row < 2; row++) {
      const rq_vi *v = w[row] + 4 * i;
      parts[row][i] = rv_add32(rv_add32(rv_dot16(v[0], x[0]), rv_dot16(v[1], x[1])),
                               rv_add32(rv_dot16(v[2], x[2]), rv_dot16(v[3], x[3])));
    }
  }
  for (int32_t row = 0; row < 2; row++)
    sums[row] = rv_sums32(parts[row][0], parts[row][1], parts[row][2], parts[row][3]);
}

void rq_q8_0_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, int32_t count,
                       float *y0, float *y1, size_t stride) {
  const rq_block_q8_0 *rows[2] = {(const rq_block_q8_0 *)row0, (const rq_block_q8_0 *)row1};
  int32_t blocks = a->width / RQ_Q8_0_WEIGHTS;
  rq_vf acc[RQ_PRODUCT_VECTORS][2];
  for (int32_t t = 0; t < count; t++) acc[t][0] = acc[t][1] = rf_splat(0.0f);
  for (int32_t b = 0; b < blocks; b += QUAD) {
    rq_vi w[2][4 * QUAD], sums[2];
    rq_vf d[2] = {load_quad(rows[0], b, blocks, w[0]), load_quad(rows[1], b, blocks, w[1])};
    for (int32_t t = 0; t < count; t++) {
      dot_quad((const rq_vi(*)[4 * QUAD]) w, a[t].q + RQ_Q8_0_WEIGHTS * b, sums); /* q is padded to 256 */
      rq_vf dx = rf_splat(a[t].scale[RQ_Q8_0_WEIGHTS * b / RQ_BLOCK]);
      for (int32_t row = 0; row < 2; row++)
        acc[t][row] = rf_add(acc[t][row], rf_mul(rf_from_i32(sums[row]), rf_mul(d[row], dx)));
    }
  }
  for (int32_t t = 0; t < count; t++) {
    y0[stride * (size_t)t] = rf_sum4(acc[t][0]);
    y1[stride * (size_t)t] = rf_sum4(acc[t][1]);
  }
}

#else
typedef int rq_no_simd_foreign; /* a translation unit must not be empty */
#endif
