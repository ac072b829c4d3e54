/* simd_own.c: 128-bit decoders and products of ruvq's own formats. A vector holds one step of all 16
 * lanes, so that no weight has to change its place, and the four groups of lanes are the four i32 of the
 * sum. Weights are taken as unsigned numbers of 7 bits: T + 64, or the code; the sum of the activations
 * corrects for it. Held to own.c bit for bit. */
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

typedef enum { KIND_Q3, KIND_Q2, KIND_T3, KIND_T2 } block_kind;

/* Tables of the trellis as vectors, index (h << 2 | h before), h the two upper bits of a 3-bit code or the
 * whole 2-bit code. The first step of four has its neighbour in another byte and uses the tables with the
 * index turned round: (h before << 2 | h). T3 needs a second one for the lowest bit of the code, as its
 * difference (xor) from the first. */
typedef struct lookup {
  rq_vi value, turned, change, change_turned;
} lookup;

RV_INLINE lookup lookup_of(block_kind kind) {
  lookup tables = {rv_zero(), rv_zero(), rv_zero(), rv_zero()};
  static const uint8_t t2[2][16] = {
      {73, 103, 50, 23, 43, 63, 90, 127, 1, 38, 65, 85, 105, 78, 25, 55},
      {73, 43, 1, 105, 103, 63, 38, 78, 50, 90, 65, 25, 23, 127, 85, 55},
  };
  /* T3 + 64 at code 2h, and that xor T3 + 64 at code 2h + 1. */
  static const uint8_t t3[4][16] = {
      {53, 90, 60, 67, 97, 37, 50, 16, 44, 1, 68, 56, 84, 50, 21, 98},
      {53, 97, 44, 84, 90, 37, 1, 50, 60, 50, 68, 21, 67, 16, 56, 98},
      {43, 49, 114, 111, 41, 25, 77, 68, 92, 79, 31, 39, 105, 118, 51, 41},
      {43, 41, 92, 105, 49, 25, 79, 118, 114, 77, 31, 51, 111, 68, 39, 41},
  };
  if (kind == KIND_T2) {
    tables.value = rv_load(t2[0]);
    tables.turned = rv_load(t2[1]);
  } else if (kind == KIND_T3) {
    tables.value = rv_load(t3[0]);
    tables.turned = rv_load(t3[1]);
    tables.change = rv_load(t3[2]);
    tables.change_turned = rv_load(t3[3]);
  }
  return tables;
}

RV_INLINE rq_vi pick(block_kind kind, rq_vi value, rq_vi change, rq_vi index, rq_vi low_bits, int8_t bit) {
  rq_vi weights = rv_lookup(value, index);
  if (kind != KIND_T3) return weights;
  /* Where the bit is clear the index leaves the table, and the change is 0. */
  rq_vi clear = rv_and(low_bits, rv_splat8(bit));
  return rv_xor(weights, rv_lookup_or_zero(change, rv_or(index, clear)));
}

/* Unsigned weights of four steps. `bytes` is the group's part of the 2-bit plane, `before` the part
 * before it (its highest code counts); `low_bits` has the four lowest bits of 3-bit codes in bits 4..7 of
 * each byte: inverted for the trellis. */
RV_INLINE void four_steps(block_kind kind, const lookup *tables, rq_vi bytes, rq_vi before, rq_vi low_bits,
                          rq_vi *weights /* (4) */) {
  const rq_vi two = rv_splat8(3), four = rv_splat8(15), one = rv_splat8(1);
  if (kind == KIND_T2 || kind == KIND_T3) {
    rq_vi turned = rv_or(rv_and(rv_shr16(before, 4), rv_splat8(12)), rv_and(bytes, two));
    weights[0] = pick(kind, tables->turned, tables->change_turned, turned, low_bits, 16);
    weights[1] = pick(kind, tables->value, tables->change, rv_and(bytes, four), low_bits, 32);
    weights[2] = pick(kind, tables->value, tables->change, rv_and(rv_shr16(bytes, 2), four), low_bits, 64);
    weights[3] = pick(kind, tables->value, tables->change, rv_and(rv_shr16(bytes, 4), four), low_bits, -128);
    return;
  }
  if (kind == KIND_Q2) {
    weights[0] = rv_and(bytes, two);
    weights[1] = rv_and(rv_shr16(bytes, 2), two);
    weights[2] = rv_and(rv_shr16(bytes, 4), two);
    weights[3] = rv_and(rv_shr16(bytes, 6), two);
    return;
  }
  const rq_vi upper = rv_splat8(6);
  weights[0] = rv_or(rv_and(rv_shl16(bytes, 1), upper), rv_and(rv_shr16(low_bits, 4), one));
  weights[1] = rv_or(rv_and(rv_shr16(bytes, 1), upper), rv_and(rv_shr16(low_bits, 5), one));
  weights[2] = rv_or(rv_and(rv_shr16(bytes, 3), upper), rv_and(rv_shr16(low_bits, 6), one));
  weights[3] = rv_or(rv_and(rv_shr16(bytes, 5), upper), rv_and(rv_shr16(low_bits, 7), one));
}

/* The lowest bits of group g as four_steps wants them. */
RV_INLINE rq_vi low_bits_of(block_kind kind, const uint8_t *plane1, int32_t steps, int32_t g) {
  rq_vi bits;
  int32_t octet = g / 2, left = steps % 8;
  if (octet == steps / 8 && left <= 4) { /* two lanes share a byte: the first eight have its low half */
    bits = rv_load8(plane1 + 16 * octet);
    bits = rv_zip_low64(rv_shl16(bits, 4), bits);
  } else {
    bits = rv_load(plane1 + 16 * octet);
    if (g % 2 == 0) bits = rv_shl16(bits, 4);
  }
  return kind == KIND_T3 ? rv_xor(bits, rv_splat8(-1)) : bits;
}

/* What stands before the first group: the last code of the lane below, in the highest bits. */
RV_INLINE rq_vi before_first(const uint8_t *plane2, int32_t steps) {
  int32_t last = steps - 1;
  rq_vi bytes = rv_load(plane2 + 16 * (last / 4));
  switch (last % 4) {
    case 0: bytes = rv_shl16(bytes, 6); break;
    case 1: bytes = rv_shl16(bytes, 4); break;
    case 2: bytes = rv_shl16(bytes, 2); break;
    default: break;
  }
  return rv_lane_up(bytes);
}

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
    for (int32_t j = 0; j < 4; j++) acc = rv_dot_step(acc, weights[j], step + RQ_STEP_BYTES * j);
    before = bytes;
  }
  return acc;
}

RV_INLINE rq_vf scales_of(const rq_own *own, bool trellis, const uint8_t *header) {
  if (!trellis) return rf_splat(rq_f16_to_f32(rq_read_u16(header)));
  float d[RQ_GROUPS];
  rq_trellis_scales(own->c, header, d);
  return rf_load(d);
}

/* The weights are too large by 2^shift. */
RV_INLINE rq_vf add_block(block_kind kind, const lookup *tables, const rq_own *own, const uint8_t *block,
                          int32_t r, const rq_activations *a, int32_t number, int32_t shift, rq_vf acc) {
  int32_t steps = rq_block_steps(r);
  bool trellis = kind == KIND_T3 || kind == KIND_T2;
  rq_vi correction = rv_shl32(rv_load(a->group_sum + RQ_GROUPS * number), shift);
  const int8_t *lanes = a->lanes + RQ_LANE_BLOCK_BYTES * (size_t)number;
  rq_vi sums = block_dot(kind, tables, block, steps, lanes, rv_sub32(rv_zero(), correction));
  const uint8_t *header = block + rq_own_block_bytes(own, r) - 2;
  rq_vf t = rf_mul(scales_of(own, trellis, header), rf_splat(a->scale[number]));
  return rf_add(acc, rf_mul(rf_from_i32(sums), t));
}

RV_INLINE float row_dot(block_kind kind, const rq_own *own, int32_t shift, const uint8_t *row,
                        const rq_activations *a) {
  lookup tables = lookup_of(kind);
  rq_vf acc = rf_splat(0.0f);
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  int32_t bytes =
      kind == KIND_Q3 || kind == KIND_T3 ? (int32_t)sizeof(rq_block_3bit) : (int32_t)sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++, row += bytes)
    acc = add_block(kind, &tables, own, row, RQ_BLOCK, a, b, shift, acc);
  if (tail) acc = add_block(kind, &tables, own, row, tail, a, full, shift, acc);
  return rf_sum4(acc);
}

float rq_pi_q3_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q3, &rq_own_pi_q3, 2, row, a);
}
float rq_pi_q2_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q2, &rq_own_pi_q2, 1, row, a);
}
float rq_pi_t3_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_T3, &rq_own_pi_t3, 6, row, a);
}
float rq_pi_t2_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_T2, &rq_own_pi_t2, 6, row, a);
}
float rq_ternary_dot_simd(const uint8_t *row, const rq_activations *a) {
  return row_dot(KIND_Q2, &rq_own_ternary, 0, row, a);
}

/* ---- decoding ---- */

/* Values of one block, signed, by steps: (16 steps, 16 lanes), rows beyond the last group untouched. */
RV_INLINE void block_values(block_kind kind, const lookup *tables, const uint8_t *block, int32_t steps,
                            int8_t offset, rq_vi *values /* (16) */) {
  int32_t groups = (steps + 3) / 4;
  const uint8_t *plane1 = block + 16 * groups;
  bool three_bits = kind == KIND_Q3 || kind == KIND_T3, trellis = kind == KIND_T3 || kind == KIND_T2;
  rq_vi before = trellis ? before_first(block, steps) : rv_zero();
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g), *weights = values + 4 * g;
    rq_vi low_bits = three_bits ? low_bits_of(kind, plane1, steps, g) : rv_zero();
    four_steps(kind, tables, bytes, before, low_bits, weights);
    for (int32_t j = 0; j < 4; j++) weights[j] = rv_sub8(weights[j], rv_splat8(offset));
    before = bytes;
  }
}

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
