/* simd_blocks.h: ruvq's own blocks to vectors, for simd_own.c, simd_rows.c and simd_product.c. A vector holds
 * one step of all 16 lanes, so that no weight has to change its place, and the four groups of lanes are the
 * four i32 of a sum. Weights come as unsigned numbers of 7 bits: T + 64, or the code; the sum of the
 * activations corrects for it. */
#ifndef RQ_SIMD_BLOCKS_H
#define RQ_SIMD_BLOCKS_H
#include "simd_half.h"
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

typedef enum { KIND_Q3, KIND_Q2, KIND_T3, KIND_T2 } block_kind;

RV_INLINE bool has_low_bits(block_kind kind) { return kind == KIND_Q3 || kind == KIND_T3; }
RV_INLINE bool has_trellis(block_kind kind) { return kind == KIND_T3 || kind == KIND_T2; }

/* Tables of the trellis as vectors, index (h << 2 | h before), h the two upper bits of a 3-bit code or the
 * whole 2-bit code. The first step of four has its neighbour in another byte and uses the tables with the
 * index turned round: (h before << 2 | h). T3 has the weights of odd codes there, and a second one with the
 * difference (xor) to the even ones. */
typedef struct lookup {
  rq_vi value, turned, change, change_turned;
} lookup;

RV_INLINE lookup lookup_of(block_kind kind) {
  lookup tables = {rv_zero(), rv_zero(), rv_zero(), rv_zero()};
  static const uint8_t t2[2][16] = {
      {73, 103, 50, 23, 43, 63, 90, 127, 1, 38, 65, 85, 105, 78, 25, 55},
      {73, 43, 1, 105, 103, 63, 38, 78, 50, 90, 65, 25, 23, 127, 85, 55},
  };
  /* T3 + 64 at code 2h + 1, and that xor T3 + 64 at code 2h. */
  static const uint8_t t3[4][16] = {
      {30, 107, 78, 44, 72, 60, 127, 84, 112, 78, 91, 31, 61, 68, 38, 75},
      {30, 72, 112, 61, 107, 60, 78, 68, 78, 127, 91, 38, 44, 84, 31, 75},
      {43, 49, 114, 111, 41, 25, 77, 68, 92, 79, 31, 39, 105, 118, 51, 41},
      {43, 41, 92, 105, 49, 25, 79, 118, 114, 77, 31, 51, 111, 68, 39, 41},
  };
  if (kind == KIND_T2) {
    tables.value = rv_fixed(t2[0]);
    tables.turned = rv_fixed(t2[1]);
  } else if (kind == KIND_T3) {
    tables.value = rv_fixed(t3[0]);
    tables.turned = rv_fixed(t3[1]);
    tables.change = rv_fixed(t3[2]);
    tables.change_turned = rv_fixed(t3[3]);
  }
  return tables;
}

/* Bits that steps are cut out with, pinned in registers. */
typedef struct masks {
  rq_vi one, two, four, six, upper, top; /* the lowest 1, 2, 4; bits 1 and 2; 2 and 3; 7 */
} masks;

RV_INLINE masks masks_of(void) {
  masks m = {rv_fixed8(1), rv_fixed8(3), rv_fixed8(15), rv_fixed8(6), rv_fixed8(12), rv_fixed8(-128)};
  return m;
}

/* Unsigned weights of step j (a constant, 0..3) of a group of four. `bytes` is the group's part of the 2-bit
 * plane, `before` the part before it (its highest code counts); `low` has the four lowest bits of 3-bit codes
 * in bits 4..7 of each byte. */
RV_INLINE rq_vi one_step(block_kind kind, const lookup *tables, const masks *m, rq_vi bytes, rq_vi before,
                         rq_vi low, int32_t j) {
  if (kind == KIND_Q2) return rv_and(j == 0 ? bytes : rv_shr16(bytes, 2 * j), m->two);
  if (kind == KIND_Q3) {
    rq_vi high = rv_and(j == 0 ? rv_shl16(bytes, 1) : rv_shr16(bytes, 2 * j - 1), m->six);
    return rv_or(high, rv_and(rv_shr16(low, 4 + j), m->one));
  }
  rq_vi index = j == 0 ? rv_or(rv_and(rv_shr16(before, 4), m->upper), rv_and(bytes, m->two))
                       : rv_and(j == 1 ? bytes : rv_shr16(bytes, 2 * j - 2), m->four);
  rq_vi weights = rv_lookup(j == 0 ? tables->turned : tables->value, index);
  if (kind == KIND_T2) return weights;
  /* Where the lowest bit is set the index leaves the table, and the change is 0. */
  rq_vi out = rv_and(j == 3 ? low : rv_shl16(low, 3 - j), m->top);
  return rv_xor(weights, rv_lookup(j == 0 ? tables->change_turned : tables->change, rv_or(index, out)));
}

/* The lowest bits of group g as one_step wants them. */
RV_INLINE rq_vi low_bits_of(const uint8_t *plane1, int32_t steps, int32_t g) {
  int32_t octet = g / 2, left = steps % 8;
  if (octet == steps / 8 && left <= 4) { /* two lanes share a byte: the first eight have its low half */
    rq_vi bits = rv_load8(plane1 + 16 * octet);
    return rv_zip_low64(rv_shl16(bits, 4), bits);
  }
  rq_vi bits = rv_load(plane1 + 16 * octet);
  return g % 2 == 0 ? rv_shl16(bits, 4) : bits;
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
RV_INLINE void block_values(block_kind kind, const lookup *tables, const masks *m, const uint8_t *block,
                            int32_t steps, int8_t offset, rq_vi *values /* (16) */) {
  int32_t groups = (steps + 3) / 4;
  rq_vi before = has_trellis(kind) ? before_first(block, steps) : rv_zero();
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g);
    rq_vi low = has_low_bits(kind) ? low_bits_of(block + 16 * groups, steps, g) : rv_zero();
    for (int32_t j = 0; j < 4; j++)
      values[4 * g + j] = rv_sub8(one_step(kind, tables, m, bytes, before, low, j), rv_splat8(offset));
    before = bytes;
  }
}

/* D of the four groups of lanes. For a trellis alpha comes from the byte a without a branch: as the bits of
 * an f32 a << 20 is alpha * 2^-102, subnormal numbers included, and the table of C has the 2^102. */
RV_INLINE rq_vf scales_of(const rq_own *own, bool trellis, const uint8_t *header) {
  if (!trellis) return rf_from_f16(rv_splat32((int32_t)((uint32_t)rq_read_u16(header) << 16)));
  rq_vf alpha = rf_of_bits(rv_splat32((int32_t)((uint32_t)header[0] << 20)));
  rq_vi low = rv_load8(own->c_pairs[header[1] & 15]), high = rv_load8(own->c_pairs[header[1] >> 4]);
  return rf_mul(alpha, rf_of_bits(rv_zip_low64(low, high)));
}

/* By how much the unsigned weights are too large: 2^shift. */
RV_INLINE int32_t shift_of(const rq_own *own) {
  return own->trellis ? 6 : own->offset == 4 ? 2 : own->offset - 1;
}

#endif
#endif
