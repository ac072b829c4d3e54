/* simd_rows.c: rows of ruvq's own formats times one vector. Held to own.c bit for bit. */
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

enum { ROWS = 2 }; /* that share the loads of the activations: registers are full of tables */

/* What all blocks of a product have in common; `kind` and `pairs` (rv_in_pairs) are constants. */
typedef struct shared {
  lookup tables;
  masks m;
  rq_vi ones; /* of 16 bits */
  const rq_own *own;
  int32_t shift; /* the unsigned weights are too large by 2^shift */
} shared;

/* Sums of weights below 8 fit 16 bits for a whole block: 32 products of 7 * 127. */
RV_INLINE bool sums_in_16(block_kind kind, bool pairs) { return pairs && !has_trellis(kind); }

RV_INLINE rq_vi add_step(block_kind kind, bool pairs, const shared *s, rq_vi sum, rq_vi weights,
                         const rq_vi *x) {
  if (sums_in_16(kind, pairs)) return rv_add16(sum, rv_pairs8(weights, x[0]));
  return rv_add_step(pairs, s->ones, sum, weights, x);
}

/* Adds one block of r weights of each of `rows` rows, a constant, to their sums. */
RV_INLINE void add_blocks(block_kind kind, bool pairs, int32_t rows, const shared *s,
                          const uint8_t *const *blocks /* (rows) */, int32_t r, const rq_activations *a,
                          int32_t number, rq_vf *acc /* (rows) */) {
  int32_t steps = rq_block_steps(r), groups = (steps + 3) / 4;
  int32_t planes = 16 * groups + (has_low_bits(kind) ? rq_plane1_bytes(steps) : 0);
  rq_vi sums[ROWS], before[ROWS];
  for (int32_t i = 0; i < rows; i++) {
    sums[i] = rv_zero();
    before[i] = has_trellis(kind) ? before_first(blocks[i], steps) : rv_zero();
  }
  const int8_t *q = a->lanes + RQ_LANE_BLOCK_BYTES * (size_t)number; /* zero beyond the last step */
  /* Sums are nested last step first: those of more steps than a group's would not fit the registers. */
  RV_ROLLED
  for (int32_t g = 0; g < groups; g++, q += 4 * RQ_STEP_BYTES) {
    rq_vi bytes[ROWS], low[ROWS];
    q = rv_address(q);
    for (int32_t i = 0; i < rows; i++) {
      bytes[i] = rv_load(blocks[i] + 16 * g);
      low[i] = has_low_bits(kind) ? low_bits_of(blocks[i] + 16 * groups, steps, g) : rv_zero();
    }
    for (int32_t j = 0; j < 4; j++) {
      rq_vi x[RQ_STEP_VECTORS];
      for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) x[v] = rv_load(q + RQ_STEP_BYTES * j + 16 * v);
      for (int32_t i = 0; i < rows; i++) {
        rq_vi weights = one_step(kind, &s->tables, &s->m, bytes[i], before[i], low[i], j);
        sums[i] = add_step(kind, pairs, s, sums[i], weights, x);
      }
    }
    for (int32_t i = 0; i < rows; i++) before[i] = bytes[i];
  }
  rq_vi over = rv_shl32(rv_load(a->group_sum + RQ_GROUPS * number), s->shift);
  rq_vf dx = rf_splat(a->scale[number]);
  for (int32_t i = 0; i < rows; i++) {
    rq_vi sum = sums_in_16(kind, pairs) ? rv_dot16(sums[i], s->ones) : sums[i];
    rq_vf t = rf_mul(scales_of(s->own, has_trellis(kind), blocks[i] + planes), dx);
    acc[i] = rf_add(acc[i], rf_mul(rf_from_i32(rv_sub32(sum, over)), t));
  }
}

RV_INLINE void rows_dot(block_kind kind, bool pairs, int32_t rows, const shared *s, const uint8_t *data,
                        size_t row_bytes, const rq_activations *a, float *y) {
  const uint8_t *blocks[ROWS];
  rq_vf acc[ROWS];
  for (int32_t i = 0; i < rows; i++) {
    blocks[i] = data + row_bytes * (size_t)i;
    acc[i] = rf_splat(0.0f);
  }
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  size_t bytes = has_low_bits(kind) ? sizeof(rq_block_3bit) : sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++) {
    add_blocks(kind, pairs, rows, s, blocks, RQ_BLOCK, a, b, acc);
    for (int32_t i = 0; i < rows; i++) blocks[i] += bytes;
  }
  if (tail) add_blocks(kind, pairs, rows, s, blocks, tail, a, full, acc);
  for (int32_t i = 0; i < rows; i++) y[i] = rf_sum4(acc[i]);
}

RV_INLINE void all_rows(block_kind kind, bool pairs, int32_t shift, const rq_own *own, const uint8_t *data,
                        size_t row_bytes, int32_t count, const rq_activations *a, float *y) {
  shared s = {lookup_of(kind), masks_of(), rv_fixed16(1), own, shift};
  int32_t r = 0;
  for (; r + ROWS <= count; r += ROWS)
    rows_dot(kind, pairs, ROWS, &s, data + row_bytes * (size_t)r, row_bytes, a, y + r);
  for (; r < count; r++) rows_dot(kind, pairs, 1, &s, data + row_bytes * (size_t)r, row_bytes, a, y + r);
}

#define DEFINE_ROWS(name, kind, shift)                                                                     \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                             float *y) {                                                                   \
    if (rv_in_pairs())                                                                                     \
      all_rows(kind, true, shift, &rq_own_##name, data, row_bytes, rows, a, y);                            \
    else                                                                                                   \
      all_rows(kind, false, shift, &rq_own_##name, data, row_bytes, rows, a, y);                           \
  }                                                                                                        \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a) {                                \
    float y;                                                                                               \
    rq_##name##_rows_simd(row, 0, 1, a, &y);                                                               \
    return y;                                                                                              \
  }
DEFINE_ROWS(pi_q3, KIND_Q3, 2)
DEFINE_ROWS(pi_q2, KIND_Q2, 1)
DEFINE_ROWS(pi_t3, KIND_T3, 6)
DEFINE_ROWS(pi_t2, KIND_T2, 6)
DEFINE_ROWS(ternary, KIND_Q2, 0)

#else
typedef int rq_no_simd_rows; /* a translation unit must not be empty */
#endif
