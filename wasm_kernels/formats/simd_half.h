/* simd_half.h: f16 to f32 in vectors. */
#ifndef RQ_SIMD_HALF_H
#define RQ_SIMD_HALF_H
#include "simd.h"

#if RQ_HAVE_SIMD

/* What the conversion needs, for loops to keep in registers. */
typedef struct half_bits {
  rq_vi kept, infinite, all, top; /* sign, exponent and fraction; the exponent from which on; all of it */
  rq_vf scale;
} half_bits;
RV_INLINE half_bits half_bits_of(void) {
  half_bits b = {rv_fixed32((int32_t)0x8FFFE000u), rv_fixed32(0x0F7FE000), rv_fixed32(0x0FFFE000),
                 rv_fixed32(0x7F800000), rf_of_bits(rv_fixed32(0x77800000))};
  return b;
}

/* Four f16, each in the upper half of 32 bits, to f32: exactly, subnormal numbers and special values too. */
RV_INLINE rq_vf rf_from_f16_by(rq_vi h, const half_bits *b) {
#if defined(RQ_F16C)
  (void)b;
  return _mm_cvtph_ps(_mm_packus_epi32(_mm_srli_epi32(h, 16), rv_zero()));
#else
  /* Sign to its place, exponent and fraction to theirs: a f32 that is too small by 2^112. */
  rq_vi bits = rv_and(rv_sar32(h, 3), b->kept);
  rq_vi special = rv_less32(b->infinite, rv_and(bits, b->all));
  rq_vi exact = rv_bits_of(rf_mul(rf_of_bits(bits), b->scale));
  return rf_of_bits(rv_or(exact, rv_and(special, b->top)));
#endif
}
RV_INLINE rq_vf rf_from_f16(rq_vi h) {
  const half_bits b = {rv_splat32((int32_t)0x8FFFE000u), rv_splat32(0x0F7FE000), rv_splat32(0x0FFFE000),
                       rv_splat32(0x7F800000), rf_splat(0x1p112f)};
  return rf_from_f16_by(h, &b);
}

#endif
#endif
