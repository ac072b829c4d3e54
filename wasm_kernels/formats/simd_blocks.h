/* simd_blocks.h: ruvq's own blocks to vectors, for simd_own.c, simd_rows.c and simd_product.c. A vector holds
 * one step of all 16 lanes, so that no weight has to change its place, and the four groups of lanes are the
 * four i32 of a sum. Weights come as unsigned numbers of 7 bits: T + 64, or the code; the sum of the
 * activations corrects for it. */
#ifndef RQ_SIMD_BLOCKS_H
#define RQ_SIMD_BLOCKS_H
#include "simd_half.h"
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

typedef enum { KIND_Q3, KIND_Q2, KIND_T3, KIND_T2, KIND_X3, KIND_X2 } block_kind;

RV_INLINE bool has_low_bits(block_kind kind) { return kind == KIND_Q3 || kind == KIND_T3 || kind == KIND_X3; }
RV_INLINE bool has_trellis(block_kind kind) { return kind != KIND_Q3 && kind != KIND_Q2; }
RV_INLINE bool is_mixed(block_kind kind) { return kind == KIND_X3 || kind == KIND_X2; }

/* Tables of the trellis as vectors, index (h << 2 | h before), h the two upper bits of a 3-bit code or the
 * whole 2-bit code. The first step of four has its neighbour in another byte and uses the tables with the
 * index turned round: (h before << 2 | h). T3 has the weights of odd codes there, and a second one with the
 * difference (xor) to the even ones. Mixed trellises have A + 64 in `value` and B in `change`; `turned` turns
 * the two halves of an index round, or the four bits of a nibble (X3). */
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
  } else if (is_mixed(kind)) {
    static const uint8_t turn[2][16] = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
                                        {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15}};
    const int8_t(*mixed)[16] = kind == KIND_X3 ? rq_mixed_x3 : rq_mixed_x2;
    tables.value = rv_add8(rv_fixed(mixed[0]), rv_splat8(64));
    tables.change = rv_fixed(mixed[1]);
    tables.turned = rv_fixed(turn[kind == KIND_X3]);
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

/* What a group of four steps needs of those before it: the group before it in the 2-bit plane, of which a
 * trellis of two codes takes the highest. Of mixed ones: the indices of the step before and of that before
 * it, and the lowest bits of 3-bit codes, the latest in bit 0. */
typedef struct past {
  rq_vi bytes, last, older, low;
} past;

/* Unsigned weights of one step of a mixed trellis. `low` has the lowest bits of this group in bits 3..0,
 * those of the one before in bits 7..4. */
RV_INLINE rq_vi mixed_step(block_kind kind, const lookup *tables, const masks *m, rq_vi bytes, past *p,
                           rq_vi low, int32_t j) {
  rq_vi index = j == 0 ? rv_or(rv_and(rv_shl16(bytes, 2), m->upper), rv_and(rv_shr16(p->last, 2), m->two))
                       : rv_and(j == 1 ? bytes : rv_shr16(bytes, 2 * j - 2), m->four);
  rq_vi other = kind == KIND_X3 ? rv_xor(rv_and(j == 3 ? low : rv_shr16(low, 3 - j), m->four), p->last)
                                : rv_xor(rv_lookup(tables->turned, index), p->older);
  p->older = p->last;
  p->last = index;
  return rv_add8(rv_lookup(tables->value, index), rv_lookup(tables->change, other));
}

/* Unsigned weights of step j (a constant, 0..3, in this order) of a group of four. `bytes` is the group's
 * part of the 2-bit plane; `low` has the four lowest bits of 3-bit codes in bits 4..7 of each byte. */
RV_INLINE rq_vi one_step(block_kind kind, const lookup *tables, const masks *m, rq_vi bytes, past *p,
                         rq_vi low, int32_t j) {
  if (is_mixed(kind)) return mixed_step(kind, tables, m, bytes, p, low, j);
  if (kind == KIND_Q2) return rv_and(j == 0 ? bytes : rv_shr16(bytes, 2 * j), m->two);
  if (kind == KIND_Q3) {
    rq_vi high = rv_and(j == 0 ? rv_shl16(bytes, 1) : rv_shr16(bytes, 2 * j - 1), m->six);
    return rv_or(high, rv_and(rv_shr16(low, 4 + j), m->one));
  }
  rq_vi index = j == 0 ? rv_or(rv_and(rv_shr16(p->bytes, 4), m->upper), rv_and(bytes, m->two))
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

/* The lowest bits of a group from bits 4..7 to bits 3..0. */
RV_INLINE rq_vi turn_low(const lookup *tables, const masks *m, rq_vi low) {
  return rv_lookup(tables->turned, rv_and(rv_shr16(low, 4), m->four));
}

/* What stands before the first group of a block of a mixed trellis: the last codes of the lanes below. */
RV_INLINE past past_of_mixed(block_kind kind, const rq_own *own, const lookup *tables, const masks *m,
                             const uint8_t *block, int32_t steps) {
  past p = {rv_zero(), rv_zero(), rv_zero(), rv_zero()};
  if (steps % 4 == 0) {
    int32_t groups = steps / 4;
    p.bytes = rv_lane_up(rv_load(block + 16 * (groups - 1)));
    if (kind == KIND_X3)
      p.low = rv_lane_up(turn_low(tables, m, low_bits_of(block + 16 * groups, steps, groups - 1)));
    p.last = rv_and(rv_shr16(p.bytes, 4), m->four);
    p.older = rv_and(rv_shr16(p.bytes, 2), m->four);
    return p;
  }
  rq_vi codes[4];
  uint8_t bytes[4][RQ_LANES];
  rq_own_codes_before(own, block, steps, bytes);
  for (int32_t n = 0; n < 4; n++) codes[n] = rv_load(bytes[n]);
  if (kind == KIND_X3)
    for (int32_t n = 0; n < 4; n++) {
      p.low = rv_or(p.low, rv_shl16(rv_and(codes[n], m->one), n));
      codes[n] = rv_and(rv_shr16(codes[n], 1), m->two);
    }
  p.last = rv_or(rv_shl16(codes[0], 2), codes[1]);
  p.older = rv_or(rv_shl16(codes[1], 2), codes[2]);
  return p;
}

/* What stands before the first group of any block. */
RV_INLINE past past_of(block_kind kind, const rq_own *own, const lookup *tables, const masks *m,
                       const uint8_t *block, int32_t steps) {
  if (is_mixed(kind)) return past_of_mixed(kind, own, tables, m, block, steps);
  past p = {rv_zero(), rv_zero(), rv_zero(), rv_zero()};
  if (has_trellis(kind)) p.bytes = before_first(block, steps);
  return p;
}

/* The lowest bits of group g in the form that one_step wants; the past's move on. */
RV_INLINE rq_vi low_of_group(block_kind kind, const lookup *tables, const masks *m, const uint8_t *plane1,
                             int32_t steps, int32_t g, past *p) {
  if (!has_low_bits(kind)) return rv_zero();
  rq_vi low = low_bits_of(plane1, steps, g);
  if (kind != KIND_X3) return low;
  rq_vi turned = turn_low(tables, m, low), both = rv_or(rv_shl16(p->low, 4), turned);
  p->low = turned;
  return both;
}

/* Weights of one block less `offset`, by steps: (16 steps, 16 lanes), beyond the last group untouched. */
RV_INLINE void block_values(block_kind kind, const rq_own *own, const lookup *tables, const masks *m,
                            const uint8_t *block, int32_t steps, int8_t offset, rq_vi *values /* (16) */) {
  int32_t groups = (steps + 3) / 4;
  past p = past_of(kind, own, tables, m, block, steps);
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g);
    rq_vi low = low_of_group(kind, tables, m, block + 16 * groups, steps, g, &p);
    for (int32_t j = 0; j < 4; j++)
      values[4 * g + j] = rv_sub8(one_step(kind, tables, m, bytes, &p, low, j), rv_splat8(offset));
    p.bytes = bytes;
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
