/* simd_blocks.h: ruvq's own blocks to vectors, for simd_own.c and simd_product.c. A vector holds one step of
 * all 16 lanes, so that no weight has to change its place, and the four groups of lanes are the four i32 of
 * a sum. Weights come as unsigned numbers of 7 bits: T + 64, or the code; the sum of the activations
 * corrects for it. */
#ifndef RQ_SIMD_BLOCKS_H
#define RQ_SIMD_BLOCKS_H
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

/* Unsigned weights of step j (a constant, 0..3) of a group of four. `bytes` is the group's part of the 2-bit
 * plane, `before` the part before it (its highest code counts); `low_bits` has the four lowest bits of 3-bit
 * codes in bits 4..7 of each byte: inverted for the trellis. */
RV_INLINE rq_vi one_step(block_kind kind, const lookup *tables, rq_vi bytes, rq_vi before, rq_vi low_bits,
                         int32_t j) {
  const rq_vi two = rv_splat8(3), four = rv_splat8(15), one = rv_splat8(1), upper = rv_splat8(6);
  if (kind == KIND_T2 || kind == KIND_T3) {
    rq_vi turned;
    switch (j) {
      case 0:
        turned = rv_or(rv_and(rv_shr16(before, 4), rv_splat8(12)), rv_and(bytes, two));
        return pick(kind, tables->turned, tables->change_turned, turned, low_bits, 16);
      case 1: return pick(kind, tables->value, tables->change, rv_and(bytes, four), low_bits, 32);
      case 2:
        return pick(kind, tables->value, tables->change, rv_and(rv_shr16(bytes, 2), four), low_bits, 64);
      default:
        return pick(kind, tables->value, tables->change, rv_and(rv_shr16(bytes, 4), four), low_bits, -128);
    }
  }
  if (kind == KIND_Q2) switch (j) {
      case 0: return rv_and(bytes, two);
      case 1: return rv_and(rv_shr16(bytes, 2), two);
      case 2: return rv_and(rv_shr16(bytes, 4), two);
      default: return rv_and(rv_shr16(bytes, 6), two);
    }
  switch (j) {
    case 0: return rv_or(rv_and(rv_shl16(bytes, 1), upper), rv_and(rv_shr16(low_bits, 4), one));
    case 1: return rv_or(rv_and(rv_shr16(bytes, 1), upper), rv_and(rv_shr16(low_bits, 5), one));
    case 2: return rv_or(rv_and(rv_shr16(bytes, 3), upper), rv_and(rv_shr16(low_bits, 6), one));
    default: return rv_or(rv_and(rv_shr16(bytes, 5), upper), rv_and(rv_shr16(low_bits, 7), one));
  }
}

RV_INLINE void four_steps(block_kind kind, const lookup *tables, rq_vi bytes, rq_vi before, rq_vi low_bits,
                          rq_vi *weights /* (4) */) {
  weights[0] = one_step(kind, tables, bytes, before, low_bits, 0);
  weights[1] = one_step(kind, tables, bytes, before, low_bits, 1);
  weights[2] = one_step(kind, tables, bytes, before, low_bits, 2);
  weights[3] = one_step(kind, tables, bytes, before, low_bits, 3);
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

/* Weights of one block less `offset`, by steps: (16 steps, 16 lanes), beyond the last group untouched. */
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

/* D of the four groups of lanes. For a trellis, alpha comes from the byte a without a branch: as the bits of
 * an f32 a << 20 is alpha * 2^-102, subnormal numbers included. */
RV_INLINE rq_vf scales_of(const rq_own *own, bool trellis, const uint8_t *header) {
  if (!trellis) return rf_splat(rq_f16_to_f32(rq_read_u16(header)));
  uint32_t bits = (uint32_t)header[0] << 20;
  float alpha;
  __builtin_memcpy(&alpha, &bits, sizeof alpha);
  rq_vi low = rv_load8(own->c_pairs[header[1] & 15]), high = rv_load8(own->c_pairs[header[1] >> 4]);
  return rf_mul(rf_splat(alpha * 0x1p102f), rf_of_bits(rv_zip_low64(low, high)));
}

/* By how much the unsigned weights are too large: 2^shift. */
RV_INLINE int32_t shift_of(const rq_own *own) {
  return own->trellis ? 6 : own->offset == 4 ? 2 : own->offset - 1;
}

#endif
#endif
