/* simd_mixed.h: blocks of mixed trellises (pi-x3, pi-x2) to vectors, for simd_mixed.c and x86_avx2.c. As in
 * simd_blocks.h a vector holds one step of all 16 lanes, and weights come as unsigned numbers T + 64. */
#ifndef RQ_SIMD_MIXED_H
#define RQ_SIMD_MIXED_H
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

/* A + 64, B, and what turns an index of pi-x2 or four lowest bits of pi-x3 round; bits to cut out with. */
typedef struct mixed_tables {
  rq_vi a, b, turn;
  rq_vi two, four, upper; /* the lowest 2, 4; bits 2 and 3 */
} mixed_tables;

RV_INLINE mixed_tables mixed_tables_of(const rq_own *own) {
  static const uint8_t turn[2][16] = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
                                      {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15}};
  mixed_tables t = {rv_add8(rv_fixed(own->mixed[0]), rv_splat8(64)),
                    rv_fixed(own->mixed[1]),
                    rv_fixed(turn[own->three_bits]),
                    rv_fixed8(3),
                    rv_fixed8(15),
                    rv_fixed8(12)};
  return t;
}

/* What a group of four steps needs of those before it: the indices into A of the last step and of that before
 * it, and of pi-x3 the lowest bits of the last four, the latest in bit 0. */
typedef struct mixed_past {
  rq_vi last, older, low;
} mixed_past;

/* Four lowest bits from bits 4..7 to bits 3..0. */
RV_INLINE rq_vi turn_low(const mixed_tables *t, rq_vi low) {
  return rv_lookup(t->turn, rv_and(rv_shr16(low, 4), t->four));
}

/* What stands before the first group of a block: the last codes of the lanes below. */
RV_INLINE mixed_past mixed_past_of(bool three_bits, const rq_own *own, const mixed_tables *t,
                                   const uint8_t *block, int32_t steps) {
  mixed_past p = {rv_zero(), rv_zero(), rv_zero()};
  if (steps % 4 == 0) {
    int32_t groups = steps / 4;
    rq_vi bytes = rv_lane_up(rv_load(block + 16 * (groups - 1)));
    p.last = rv_and(rv_shr16(bytes, 4), t->four);
    p.older = rv_and(rv_shr16(bytes, 2), t->four);
    if (three_bits) p.low = rv_lane_up(turn_low(t, low_bits_of(block + 16 * groups, steps, groups - 1)));
    return p;
  }
  rq_mixed_before before; /* a tail of odd length */
  rq_own_before(own, block, steps, &before);
  p.last = rv_load(before.last);
  p.older = rv_load(before.older);
  p.low = rv_load(before.low);
  return p;
}

/* The lowest bits of group g in bits 3..0 and those of the group before in bits 7..4; the past's move on. */
RV_INLINE rq_vi mixed_low(const mixed_tables *t, const uint8_t *plane1, int32_t steps, int32_t g,
                          mixed_past *p) {
  rq_vi low = turn_low(t, low_bits_of(plane1, steps, g)), both = rv_or(rv_shl16(p->low, 4), low);
  p->low = low;
  return both;
}

/* Unsigned weights of step j (a constant, 0..3, in this order) of a group. */
RV_INLINE rq_vi mixed_step(bool three_bits, const mixed_tables *t, rq_vi bytes, rq_vi low, mixed_past *p,
                           int32_t j) {
  rq_vi index = j == 0 ? rv_or(rv_and(rv_shl16(bytes, 2), t->upper), rv_and(rv_shr16(p->last, 2), t->two))
                       : rv_and(j == 1 ? bytes : rv_shr16(bytes, 2 * j - 2), t->four);
  rq_vi other = three_bits ? rv_xor(rv_and(j == 3 ? low : rv_shr16(low, 3 - j), t->four), p->last)
                           : rv_xor(rv_lookup(t->turn, index), p->older);
  p->older = p->last;
  p->last = index;
  return rv_add8(rv_lookup(t->a, index), rv_lookup(t->b, other));
}

#endif
#endif
