/* simd_product.c: rows of ruvq's own formats times several vectors, for prompts. Each block is decoded once
 * and meets every vector; two rows share the loads of the activations. The sums of a row and a vector are
 * the same numbers in the same order as in simd_own.c. */
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

enum { ROWS = 2, TILE = 4, BLOCK_VECTORS = RQ_LANES * RQ_STEP_VECTORS };

typedef struct pair_block {
  rq_vi weights[ROWS][BLOCK_VECTORS]; /* unsigned, ready for rv_multiply_add */
  rq_vf d[ROWS];
} pair_block;

RV_INLINE void load_row(block_kind kind, const lookup *tables, const masks *m, const rq_own *own,
                        const uint8_t *block, int32_t r, rq_vi *weights /* (BLOCK_VECTORS) */, rq_vf *d) {
  int32_t steps = rq_block_steps(r), padded = (steps + 3) / 4 * 4;
  rq_vi bytes[RQ_LANES];
  if (own->mixed)
    rq_mixed_values_simd(own, block, steps, 0, bytes);
  else
    block_values(kind, tables, m, block, steps, 0, bytes);
  for (int32_t j = 0; j < padded; j++) rv_widen_step(bytes[j], weights + RQ_STEP_VECTORS * j);
  *d = scales_of(own, own->trellis, block + rq_own_block_bytes(own, r) - 2);
}

/* Adds block `number` of both rows for the vectors from `at` on, `count` of them, a constant. */
RV_INLINE void add_tile(const rq_own *own, const pair_block *block, int32_t vectors, const rq_activations *a,
                        int32_t at, int32_t count, int32_t number,
                        rq_vf (*acc)[RQ_PRODUCT_VECTORS] /* (ROWS) */) {
  a += at;
  rq_vi sums[ROWS][TILE];
  const int8_t *lanes[TILE];
  for (int32_t t = 0; t < count; t++) {
    rq_vi correction = rv_shl32(rv_load(a[t].group_sum + RQ_GROUPS * number), shift_of(own));
    for (int32_t row = 0; row < ROWS; row++) sums[row][t] = rv_sub32(rv_zero(), correction);
    lanes[t] = a[t].lanes + RQ_LANE_BLOCK_BYTES * (size_t)number;
  }
  for (int32_t j = 0; j < vectors; j++)
    for (int32_t t = 0; t < count; t++) {
      rq_vi q = rv_load(lanes[t] + 16 * j);
      for (int32_t row = 0; row < ROWS; row++)
        sums[row][t] = rv_multiply_add(sums[row][t], block->weights[row][j], q);
    }
  for (int32_t t = 0; t < count; t++) {
    rq_vf dx = rf_splat(a[t].scale[number]);
    for (int32_t row = 0; row < ROWS; row++)
      acc[row][at + t] =
          rf_add(acc[row][at + t], rf_mul(rf_from_i32(sums[row][t]), rf_mul(block->d[row], dx)));
  }
}

RV_INLINE void pair(block_kind kind, const rq_own *own, const uint8_t *row0, const uint8_t *row1,
                    const rq_activations *a, int32_t count, float *y0, float *y1, size_t stride) {
  lookup tables = lookup_of(kind);
  masks m = masks_of();
  rq_vf acc[ROWS][RQ_PRODUCT_VECTORS];
  for (int32_t t = 0; t < count; t++) acc[0][t] = acc[1][t] = rf_splat(0.0f);
  int32_t width = a->width;
  for (int32_t start = 0, number = 0; start < width; start += RQ_BLOCK, number++) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start), bytes = rq_own_block_bytes(own, r);
    int32_t vectors = (rq_block_steps(r) + 3) / 4 * 4 * RQ_STEP_VECTORS;
    pair_block block;
    load_row(kind, &tables, &m, own, row0, r, block.weights[0], &block.d[0]);
    load_row(kind, &tables, &m, own, row1, r, block.weights[1], &block.d[1]);
    int32_t t = 0;
    for (; t + TILE <= count; t += TILE) add_tile(own, &block, vectors, a, t, TILE, number, acc);
    for (; t < count; t++) add_tile(own, &block, vectors, a, t, 1, number, acc);
    row0 += bytes;
    row1 += bytes;
  }
  for (int32_t t = 0; t < count; t++) {
    y0[stride * (size_t)t] = rf_sum4(acc[0][t]);
    y1[stride * (size_t)t] = rf_sum4(acc[1][t]);
  }
}

#define DEFINE_PAIR(name, kind)                                                                 \
  void rq_##name##_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, \
                             int32_t count, float *y0, float *y1, size_t stride) {              \
    pair(kind, &rq_own_##name, row0, row1, a, count, y0, y1, stride);                           \
  }
DEFINE_PAIR(pi_q3, KIND_Q3)
DEFINE_PAIR(pi_q2, KIND_Q2)
DEFINE_PAIR(pi_t3, KIND_T3)
DEFINE_PAIR(pi_t2, KIND_T2)
DEFINE_PAIR(ternary, KIND_Q2)

/* Mixed trellises have a decoder that is a function, and one copy for both: pages download it. */
static __attribute__((noinline)) void mixed_pair(const rq_own *own, const uint8_t *row0, const uint8_t *row1,
                                                 const rq_activations *a, int32_t count, float *y0, float *y1,
                                                 size_t stride) {
  pair(KIND_T2, own, row0, row1, a, count, y0, y1, stride);
}
#define DEFINE_MIXED_PAIR(name)                                                                 \
  void rq_##name##_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, \
                             int32_t count, float *y0, float *y1, size_t stride) {              \
    mixed_pair(&rq_own_##name, row0, row1, a, count, y0, y1, stride);                           \
  }
DEFINE_MIXED_PAIR(pi_x3)
DEFINE_MIXED_PAIR(pi_x2)

#else
typedef int rq_no_simd_product; /* a translation unit must not be empty */
#endif
