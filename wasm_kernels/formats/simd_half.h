/* simd_half.h: f16 to f32 in vectors. */
#ifndef RQ_SIMD_HALF_H
#define RQ_SIMD_HALF_H
#include "simd.h"

#if RQ_HAVE_SIMD

/* Four f16, each in the upper half of 32 bits, to f32: exactly, subnormal numbers and special values too. */
RV_INLINE rq_vf rf_from_f16(rq_vi h) {
#if defined(RQ_F16C)
  return _mm_cvtph_ps(_mm_packus_epi32(_mm_srli_epi32(h, 16), rv_zero()));
#else
  /* Sign to its place, exponent and fraction to theirs: a f32 that is too small by 2^112. */
  rq_vi bits = rv_and(rv_sar32(h, 3), rv_splat32((int32_t)0x8FFFE000u));
  rq_vi special = rv_less32(rv_splat32(0x0F7FE000), rv_and(bits, rv_splat32(0x0FFFE000)));
  rq_vi exact = rv_bits_of(rf_mul(rf_of_bits(bits), rf_splat(0x1p112f)));
  return rf_of_bits(rv_or(exact, rv_and(special, rv_splat32(0x7F800000))));
#endif
}

#endif
#endif
