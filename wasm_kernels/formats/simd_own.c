/* simd_own.c: 128-bit decoders of ruvq's own formats and their products with one vector. Held to own.c bit
 * for bit. */
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

/* Sums of unsigned weight * activation of the four groups of lanes, added to acc. */
RV_INLINE rq_vi block_dot(block_kind kind, const lookup *tables, const uint8_t *block, int32_t steps,
                          const int8_t *lanes, rq_vi acc) {
  int32_t groups = (steps + 3) / 4;
  const uint8_t *plane1 = block + 16 * groups;
  bool three_bits = kind == KIND_Q3 || kind == KIND_T3, trellis = kind == KIND_T3 || kind == KIND_T2;
  rq_vi before = trellis ? before_first(block, steps) : rv_zero();
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g), weights[4];
    rq_vi low_bits = three_bits ? low_bits_of(kind, plane1, steps, g) : rv_zero();
    four_steps(kind, tables, bytes, before, low_bits, weights);
    const int8_t *step = lanes + 4 * RQ_STEP_BYTES * g; /* zero beyond the last step */
    for (int32_t j = 0; j < 4; j++) {
      rq_vi wide[RQ_STEP_VECTORS];
      rv_widen_step(weights[j], wide);
      for (int32_t v = 0; v < RQ_STEP_VECTORS; v++)
        acc = rv_multiply_add(acc, wide[v], rv_load(step + RQ_STEP_BYTES * j + 16 * v));
    }
    before = bytes;
  }
  return acc;
}

RV_INLINE rq_vf add_block(block_kind kind, const lookup *tables, const rq_own *own, const uint8_t *block,
                          int32_t r, const rq_activations *a, int32_t number, rq_vf acc) {
  int32_t steps = rq_block_steps(r);
  bool trellis = kind == KIND_T3 || kind == KIND_T2;
  rq_vi correction = rv_shl32(rv_load(a->group_sum + RQ_GROUPS * number), shift_of(own));
  const int8_t *lanes = a->lanes + RQ_LANE_BLOCK_BYTES * (size_t)number;
  rq_vi sums = block_dot(kind, tables, block, steps, lanes, rv_sub32(rv_zero(), correction));
  const uint8_t *header = block + rq_own_block_bytes(own, r) - 2;
  rq_vf t = rf_mul(scales_of(own, trellis, header), rf_splat(a->scale[number]));
  return rf_add(acc, rf_mul(rf_from_i32(sums), t));
}

RV_INLINE float row_dot(block_kind kind, const rq_own *own, const uint8_t *row, const rq_activations *a) {
  lookup tables = lookup_of(kind);
  rq_vf acc = rf_splat(0.0f);
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  int32_t bytes =
      kind == KIND_Q3 || kind == KIND_T3 ? (int32_t)sizeof(rq_block_3bit) : (int32_t)sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++, row += bytes)
    acc = add_block(kind, &tables, own, row, RQ_BLOCK, a, b, acc);
  if (tail) acc = add_block(kind, &tables, own, row, tail, a, full, acc);
  return rf_sum4(acc);
}

float rq_pi_q3_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q3, &rq_own_pi_q3, row, a);
}
float rq_pi_q2_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q2, &rq_own_pi_q2, row, a);
}
float rq_pi_t3_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_T3, &rq_own_pi_t3, row, a);
}
float rq_pi_t2_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_T2, &rq_own_pi_t2, row, a);
}
float rq_ternary_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q2, &rq_own_ternary, row, a);
}

/* ---- decoding ---- */

/* 16 signed bytes times d. */
RV_INLINE void scale_16(rq_vi values, rq_vf d, float *out) {
  rq_vi low = rv_widen_low8(values), high = rv_widen_high8(values);
  rf_store(out, rf_mul(rf_from_i32(rv_widen_low16(low)), d));
  rf_store(out + 4, rf_mul(rf_from_i32(rv_widen_high16(low)), d));
  rf_store(out + 8, rf_mul(rf_from_i32(rv_widen_low16(high)), d));
  rf_store(out + 12, rf_mul(rf_from_i32(rv_widen_high16(high)), d));
}

RV_INLINE void row_decode(block_kind kind, const rq_own *own, const uint8_t *row, int32_t width, float *out) {
  lookup tables = lookup_of(kind);
  int8_t offset = own->trellis ? 64 : (int8_t)own->offset;
  for (int32_t start = 0; start < width; start += RQ_BLOCK) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start), steps = rq_block_steps(r),
            bytes = rq_own_block_bytes(own, r);
    const uint8_t *header = row + bytes - 2;
    float d[RQ_GROUPS], *to = out + start;
    rq_own_scales(own, header, d);
    rq_vi values[RQ_LANES];
    if (own->trellis && header[0] == 0) {
      for (int32_t i = 0; i < r; i++) to[i] = 0.0f;
    } else if (r == RQ_BLOCK) {
      block_values(kind, &tables, row, RQ_LANES, offset, values);
      rv_transpose8(values);
      for (int32_t l = 0; l < RQ_LANES; l++)
        scale_16(values[l], rf_splat(d[l / RQ_GROUP_LANES]), to + 16 * l);
    } else {
      block_values(kind, &tables, row, steps, offset, values);
      int8_t by_step[RQ_LANES][RQ_LANES];
      for (int32_t j = 0; j < steps; j++) rv_store(by_step[j], values[j]);
      for (int32_t l = 0, i = 0; i < r; l++)
        for (int32_t j = 0; j < steps && i < r; j++, i++)
          to[i] = (float)by_step[j][l] * d[l / RQ_GROUP_LANES];
    }
    row += bytes;
  }
}

void rq_own_decode_simd(const rq_own *own, const uint8_t *row, int32_t width, float *out) {
  if (own->trellis && own->three_bits)
    row_decode(KIND_T3, own, row, width, out);
  else if (own->trellis)
    row_decode(KIND_T2, own, row, width, out);
  else if (own->three_bits)
    row_decode(KIND_Q3, own, row, width, out);
  else
    row_decode(KIND_Q2, own, row, width, out);
}

#else
typedef int rq_no_simd_own; /* a translation unit must not be empty */
#endif
