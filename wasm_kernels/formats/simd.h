/* simd.h: 128-bit vectors under one set of names for WebAssembly, SSE (up to SSE4.1) and NEON, only what
 * the kernels need. Where the target has none, RQ_HAVE_SIMD is 0 and the scalar reference runs.
 * rv_ works on integers, rf_ on four floats; each operation gives the same bits on all targets. */
#ifndef RQ_SIMD_H
#define RQ_SIMD_H
#include <stdbool.h>
#include <stdint.h>

#define RV_INLINE static inline __attribute__((always_inline, unused))
/* In front of a loop: leave it one. */
#if defined(__clang__)
#define RV_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define RV_ROLLED
#endif

/* RQ_LANES_WIDE: activations in lanes are int16, because the target multiplies no bytes. A step's first
 * vector has the even lanes e, its second o - 256 e with the odd lanes o: then pairs of weights (low, high)
 * give (low + 256 high) e + high (o - 256 e), which spares taking the low one out. */
#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define RQ_HAVE_SIMD 1
#if defined(__wasm_relaxed_simd__)
#define RQ_LANES_WIDE 0
#else
#define RQ_LANES_WIDE 1
#endif
typedef v128_t rq_vi;
typedef v128_t rq_vf;

RV_INLINE rq_vi rv_load(const void *p) { return wasm_v128_load(p); }
RV_INLINE rq_vi rv_load8(const void *p) { return wasm_v128_load64_zero(p); }
RV_INLINE void rv_store(void *p, rq_vi v) { wasm_v128_store(p, v); }
RV_INLINE rq_vi rv_zero(void) { return wasm_i32x4_const(0, 0, 0, 0); }
RV_INLINE rq_vi rv_splat8(int8_t x) { return wasm_i8x16_splat(x); }
RV_INLINE rq_vi rv_splat16(int16_t x) { return wasm_i16x8_splat(x); }
RV_INLINE rq_vi rv_splat32(int32_t x) { return wasm_i32x4_splat(x); }
RV_INLINE rq_vi rv_and(rq_vi a, rq_vi b) { return wasm_v128_and(a, b); }
RV_INLINE rq_vi rv_or(rq_vi a, rq_vi b) { return wasm_v128_or(a, b); }
RV_INLINE rq_vi rv_xor(rq_vi a, rq_vi b) { return wasm_v128_xor(a, b); }
RV_INLINE rq_vi rv_add8(rq_vi a, rq_vi b) { return wasm_i8x16_add(a, b); }
RV_INLINE rq_vi rv_sub8(rq_vi a, rq_vi b) { return wasm_i8x16_sub(a, b); }
RV_INLINE rq_vi rv_add32(rq_vi a, rq_vi b) { return wasm_i32x4_add(a, b); }
RV_INLINE rq_vi rv_sub16(rq_vi a, rq_vi b) { return wasm_i16x8_sub(a, b); }
RV_INLINE rq_vi rv_sub32(rq_vi a, rq_vi b) { return wasm_i32x4_sub(a, b); }
RV_INLINE rq_vi rv_less32(rq_vi a, rq_vi b) { return wasm_i32x4_lt(a, b); }
RV_INLINE rq_vi rv_equal8(rq_vi a, rq_vi b) { return wasm_i8x16_eq(a, b); }
RV_INLINE rq_vi rv_add16(rq_vi a, rq_vi b) { return wasm_i16x8_add(a, b); }
#define rv_shr16(v, n) wasm_u16x8_shr(v, n)
#define rv_sar16(v, n) wasm_i16x8_shr(v, n)
#define rv_shl16(v, n) wasm_i16x8_shl(v, n)
#define rv_shl32(v, n) wasm_i32x4_shl(v, n)
#define rv_sar32(v, n) wasm_i32x4_shr(v, n)
#if defined(__wasm_relaxed_simd__)
RV_INLINE rq_vi rv_lookup(rq_vi table, rq_vi index) { return wasm_i8x16_relaxed_swizzle(table, index); }
#else
RV_INLINE rq_vi rv_lookup(rq_vi table, rq_vi index) { return wasm_i8x16_swizzle(table, index); }
#endif
RV_INLINE rq_vi rv_lookup_or_zero(rq_vi table, rq_vi index) { return wasm_i8x16_swizzle(table, index); }
RV_INLINE rq_vi rv_lane_up(rq_vi v) {
  return wasm_i8x16_shuffle(rv_zero(), v, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
}
RV_INLINE rq_vi rv_zip_low8(rq_vi a, rq_vi b) {
  return wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
RV_INLINE rq_vi rv_zip_high8(rq_vi a, rq_vi b) {
  return wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
RV_INLINE rq_vi rv_zip_low16(rq_vi a, rq_vi b) { return wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
RV_INLINE rq_vi rv_zip_high16(rq_vi a, rq_vi b) {
  return wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
RV_INLINE rq_vi rv_zip_low32(rq_vi a, rq_vi b) { return wasm_i32x4_shuffle(a, b, 0, 4, 1, 5); }
RV_INLINE rq_vi rv_zip_high32(rq_vi a, rq_vi b) { return wasm_i32x4_shuffle(a, b, 2, 6, 3, 7); }
RV_INLINE rq_vi rv_zip_low64(rq_vi a, rq_vi b) { return wasm_i64x2_shuffle(a, b, 0, 2); }
RV_INLINE rq_vi rv_zip_high64(rq_vi a, rq_vi b) { return wasm_i64x2_shuffle(a, b, 1, 3); }
RV_INLINE rq_vi rv_widen_low8(rq_vi v) { return wasm_i16x8_extend_low_i8x16(v); }
RV_INLINE rq_vi rv_widen_high8(rq_vi v) { return wasm_i16x8_extend_high_i8x16(v); }
RV_INLINE rq_vi rv_widen_low16(rq_vi v) { return wasm_i32x4_extend_low_i16x8(v); }
RV_INLINE rq_vi rv_widen_high16(rq_vi v) { return wasm_i32x4_extend_high_i16x8(v); }
RV_INLINE rq_vi rv_pack32(rq_vi a, rq_vi b) { return wasm_i16x8_narrow_i32x4(a, b); }
RV_INLINE rq_vi rv_pack16(rq_vi a, rq_vi b) { return wasm_i8x16_narrow_i16x8(a, b); }
RV_INLINE rq_vi rv_dot16(rq_vi a, rq_vi b) { return wasm_i32x4_dot_i16x8(a, b); }

RV_INLINE rq_vf rf_load(const float *p) { return wasm_v128_load(p); }
RV_INLINE void rf_store(float *p, rq_vf v) { wasm_v128_store(p, v); }
RV_INLINE rq_vf rf_splat(float x) { return wasm_f32x4_splat(x); }
RV_INLINE rq_vf rf_add(rq_vf a, rq_vf b) { return wasm_f32x4_add(a, b); }
RV_INLINE rq_vf rf_sub(rq_vf a, rq_vf b) { return wasm_f32x4_sub(a, b); }
RV_INLINE rq_vf rf_mul(rq_vf a, rq_vf b) { return wasm_f32x4_mul(a, b); }
RV_INLINE rq_vf rf_div(rq_vf a, rq_vf b) { return wasm_f32x4_div(a, b); }
RV_INLINE rq_vf rf_min(rq_vf a, rq_vf b) { return wasm_f32x4_pmin(b, a); } /* a < b ? a : b */
RV_INLINE rq_vf rf_max(rq_vf a, rq_vf b) { return wasm_f32x4_pmax(b, a); } /* a > b ? a : b */
RV_INLINE rq_vf rf_from_i32(rq_vi v) { return wasm_f32x4_convert_i32x4(v); }
RV_INLINE rq_vf rf_of_bits(rq_vi v) { return v; }
RV_INLINE rq_vi rv_bits_of(rq_vf v) { return v; }
RV_INLINE rq_vf rf_swap_pairs(rq_vf v) { return wasm_i32x4_shuffle(v, v, 1, 0, 3, 2); }
RV_INLINE rq_vf rf_swap_halves(rq_vf v) { return wasm_i32x4_shuffle(v, v, 2, 3, 0, 1); }

#elif defined(__SSE4_1__)
#include <smmintrin.h>
#define RQ_HAVE_SIMD 1
#define RQ_LANES_WIDE 0
typedef __m128i rq_vi;
typedef __m128 rq_vf;

RV_INLINE rq_vi rv_load(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
RV_INLINE rq_vi rv_load8(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }
RV_INLINE void rv_store(void *p, rq_vi v) { _mm_storeu_si128((__m128i *)p, v); }
RV_INLINE rq_vi rv_zero(void) { return _mm_setzero_si128(); }
RV_INLINE rq_vi rv_splat8(int8_t x) { return _mm_set1_epi8(x); }
RV_INLINE rq_vi rv_splat16(int16_t x) { return _mm_set1_epi16(x); }
RV_INLINE rq_vi rv_splat32(int32_t x) { return _mm_set1_epi32(x); }
RV_INLINE rq_vi rv_and(rq_vi a, rq_vi b) { return _mm_and_si128(a, b); }
RV_INLINE rq_vi rv_or(rq_vi a, rq_vi b) { return _mm_or_si128(a, b); }
RV_INLINE rq_vi rv_xor(rq_vi a, rq_vi b) { return _mm_xor_si128(a, b); }
RV_INLINE rq_vi rv_add8(rq_vi a, rq_vi b) { return _mm_add_epi8(a, b); }
RV_INLINE rq_vi rv_sub8(rq_vi a, rq_vi b) { return _mm_sub_epi8(a, b); }
RV_INLINE rq_vi rv_add32(rq_vi a, rq_vi b) { return _mm_add_epi32(a, b); }
RV_INLINE rq_vi rv_sub32(rq_vi a, rq_vi b) { return _mm_sub_epi32(a, b); }
RV_INLINE rq_vi rv_less32(rq_vi a, rq_vi b) { return _mm_cmplt_epi32(a, b); }
RV_INLINE rq_vi rv_equal8(rq_vi a, rq_vi b) { return _mm_cmpeq_epi8(a, b); }
RV_INLINE rq_vi rv_add16(rq_vi a, rq_vi b) { return _mm_add_epi16(a, b); }
#define rv_shr16(v, n) _mm_srli_epi16(v, n)
#define rv_sar16(v, n) _mm_srai_epi16(v, n)
#define rv_shl16(v, n) _mm_slli_epi16(v, n)
#define rv_shl32(v, n) _mm_slli_epi32(v, n)
#define rv_sar32(v, n) _mm_srai_epi32(v, n)
RV_INLINE rq_vi rv_lookup(rq_vi table, rq_vi index) { return _mm_shuffle_epi8(table, index); }
RV_INLINE rq_vi rv_lookup_or_zero(rq_vi table, rq_vi index) {
  return _mm_shuffle_epi8(table, _mm_adds_epu8(index, _mm_set1_epi8(0x70)));
}
RV_INLINE rq_vi rv_lane_up(rq_vi v) { return _mm_slli_si128(v, 1); }
RV_INLINE rq_vi rv_zip_low8(rq_vi a, rq_vi b) { return _mm_unpacklo_epi8(a, b); }
RV_INLINE rq_vi rv_zip_high8(rq_vi a, rq_vi b) { return _mm_unpackhi_epi8(a, b); }
RV_INLINE rq_vi rv_zip_low16(rq_vi a, rq_vi b) { return _mm_unpacklo_epi16(a, b); }
RV_INLINE rq_vi rv_zip_high16(rq_vi a, rq_vi b) { return _mm_unpackhi_epi16(a, b); }
RV_INLINE rq_vi rv_zip_low32(rq_vi a, rq_vi b) { return _mm_unpacklo_epi32(a, b); }
RV_INLINE rq_vi rv_zip_high32(rq_vi a, rq_vi b) { return _mm_unpackhi_epi32(a, b); }
RV_INLINE rq_vi rv_zip_low64(rq_vi a, rq_vi b) { return _mm_unpacklo_epi64(a, b); }
RV_INLINE rq_vi rv_zip_high64(rq_vi a, rq_vi b) { return _mm_unpackhi_epi64(a, b); }
RV_INLINE rq_vi rv_widen_low8(rq_vi v) { return _mm_cvtepi8_epi16(v); }
RV_INLINE rq_vi rv_widen_high8(rq_vi v) { return _mm_srai_epi16(_mm_unpackhi_epi8(v, v), 8); }
RV_INLINE rq_vi rv_widen_low16(rq_vi v) { return _mm_cvtepi16_epi32(v); }
RV_INLINE rq_vi rv_widen_high16(rq_vi v) { return _mm_srai_epi32(_mm_unpackhi_epi16(v, v), 16); }
RV_INLINE rq_vi rv_pack32(rq_vi a, rq_vi b) { return _mm_packs_epi32(a, b); }
RV_INLINE rq_vi rv_pack16(rq_vi a, rq_vi b) { return _mm_packs_epi16(a, b); }
RV_INLINE rq_vi rv_dot16(rq_vi a, rq_vi b) { return _mm_madd_epi16(a, b); }

RV_INLINE rq_vf rf_load(const float *p) { return _mm_loadu_ps(p); }
RV_INLINE void rf_store(float *p, rq_vf v) { _mm_storeu_ps(p, v); }
RV_INLINE rq_vf rf_splat(float x) { return _mm_set1_ps(x); }
RV_INLINE rq_vf rf_add(rq_vf a, rq_vf b) { return _mm_add_ps(a, b); }
RV_INLINE rq_vf rf_sub(rq_vf a, rq_vf b) { return _mm_sub_ps(a, b); }
RV_INLINE rq_vf rf_mul(rq_vf a, rq_vf b) { return _mm_mul_ps(a, b); }
RV_INLINE rq_vf rf_div(rq_vf a, rq_vf b) { return _mm_div_ps(a, b); }
RV_INLINE rq_vf rf_min(rq_vf a, rq_vf b) { return _mm_min_ps(a, b); }
RV_INLINE rq_vf rf_max(rq_vf a, rq_vf b) { return _mm_max_ps(a, b); }
RV_INLINE rq_vf rf_from_i32(rq_vi v) { return _mm_cvtepi32_ps(v); }
RV_INLINE rq_vf rf_of_bits(rq_vi v) { return _mm_castsi128_ps(v); }
RV_INLINE rq_vi rv_bits_of(rq_vf v) { return _mm_castps_si128(v); }
RV_INLINE rq_vf rf_swap_pairs(rq_vf v) { return _mm_shuffle_ps(v, v, _MM_SHUFFLE(2, 3, 0, 1)); }
RV_INLINE rq_vf rf_swap_halves(rq_vf v) { return _mm_shuffle_ps(v, v, _MM_SHUFFLE(1, 0, 3, 2)); }

#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define RQ_HAVE_SIMD 1
#define RQ_LANES_WIDE 0
typedef uint8x16_t rq_vi;
typedef float32x4_t rq_vf;

#define RV_S8(v) vreinterpretq_s8_u8(v)
#define RV_S16(v) vreinterpretq_s16_u8(v)
#define RV_U16(v) vreinterpretq_u16_u8(v)
#define RV_S32(v) vreinterpretq_s32_u8(v)
#define RV_U64(v) vreinterpretq_u64_u8(v)
#define RV_OF_S8(v) vreinterpretq_u8_s8(v)
#define RV_OF_S16(v) vreinterpretq_u8_s16(v)
#define RV_OF_U16(v) vreinterpretq_u8_u16(v)
#define RV_OF_S32(v) vreinterpretq_u8_s32(v)
RV_INLINE rq_vi rv_load(const void *p) { return vld1q_u8((const uint8_t *)p); }
RV_INLINE rq_vi rv_load8(const void *p) { return vcombine_u8(vld1_u8((const uint8_t *)p), vdup_n_u8(0)); }
RV_INLINE void rv_store(void *p, rq_vi v) { vst1q_u8((uint8_t *)p, v); }
RV_INLINE rq_vi rv_zero(void) { return vdupq_n_u8(0); }
RV_INLINE rq_vi rv_splat8(int8_t x) { return RV_OF_S8(vdupq_n_s8(x)); }
RV_INLINE rq_vi rv_splat16(int16_t x) { return RV_OF_S16(vdupq_n_s16(x)); }
RV_INLINE rq_vi rv_splat32(int32_t x) { return RV_OF_S32(vdupq_n_s32(x)); }
RV_INLINE rq_vi rv_and(rq_vi a, rq_vi b) { return vandq_u8(a, b); }
RV_INLINE rq_vi rv_or(rq_vi a, rq_vi b) { return vorrq_u8(a, b); }
RV_INLINE rq_vi rv_xor(rq_vi a, rq_vi b) { return veorq_u8(a, b); }
RV_INLINE rq_vi rv_add8(rq_vi a, rq_vi b) { return vaddq_u8(a, b); }
RV_INLINE rq_vi rv_sub8(rq_vi a, rq_vi b) { return vsubq_u8(a, b); }
RV_INLINE rq_vi rv_add32(rq_vi a, rq_vi b) { return RV_OF_S32(vaddq_s32(RV_S32(a), RV_S32(b))); }
RV_INLINE rq_vi rv_sub32(rq_vi a, rq_vi b) { return RV_OF_S32(vsubq_s32(RV_S32(a), RV_S32(b))); }
RV_INLINE rq_vi rv_less32(rq_vi a, rq_vi b) { return vreinterpretq_u8_u32(vcltq_s32(RV_S32(a), RV_S32(b))); }
RV_INLINE rq_vi rv_equal8(rq_vi a, rq_vi b) { return vceqq_u8(a, b); }
RV_INLINE rq_vi rv_add16(rq_vi a, rq_vi b) { return RV_OF_S16(vaddq_s16(RV_S16(a), RV_S16(b))); }
/* Shifts by a negative amount, because the immediate form refuses 0. */
#define rv_shr16(v, n) RV_OF_U16(vshlq_u16(RV_U16(v), vdupq_n_s16(-(n))))
#define rv_sar16(v, n) RV_OF_S16(vshlq_s16(RV_S16(v), vdupq_n_s16(-(n))))
#define rv_shl16(v, n) RV_OF_S16(vshlq_s16(RV_S16(v), vdupq_n_s16(n)))
#define rv_shl32(v, n) RV_OF_S32(vshlq_s32(RV_S32(v), vdupq_n_s32(n)))
#define rv_sar32(v, n) RV_OF_S32(vshlq_s32(RV_S32(v), vdupq_n_s32(-(n))))
RV_INLINE rq_vi rv_lookup(rq_vi table, rq_vi index) { return vqtbl1q_u8(table, index); }
RV_INLINE rq_vi rv_lookup_or_zero(rq_vi table, rq_vi index) { return vqtbl1q_u8(table, index); }
RV_INLINE rq_vi rv_lane_up(rq_vi v) { return vextq_u8(vdupq_n_u8(0), v, 15); }
RV_INLINE rq_vi rv_zip_low8(rq_vi a, rq_vi b) { return vzip1q_u8(a, b); }
RV_INLINE rq_vi rv_zip_high8(rq_vi a, rq_vi b) { return vzip2q_u8(a, b); }
RV_INLINE rq_vi rv_zip_low16(rq_vi a, rq_vi b) { return RV_OF_U16(vzip1q_u16(RV_U16(a), RV_U16(b))); }
RV_INLINE rq_vi rv_zip_high16(rq_vi a, rq_vi b) { return RV_OF_U16(vzip2q_u16(RV_U16(a), RV_U16(b))); }
RV_INLINE rq_vi rv_zip_low32(rq_vi a, rq_vi b) { return RV_OF_S32(vzip1q_s32(RV_S32(a), RV_S32(b))); }
RV_INLINE rq_vi rv_zip_high32(rq_vi a, rq_vi b) { return RV_OF_S32(vzip2q_s32(RV_S32(a), RV_S32(b))); }
RV_INLINE rq_vi rv_zip_low64(rq_vi a, rq_vi b) {
  return vreinterpretq_u8_u64(vzip1q_u64(RV_U64(a), RV_U64(b)));
}
RV_INLINE rq_vi rv_zip_high64(rq_vi a, rq_vi b) {
  return vreinterpretq_u8_u64(vzip2q_u64(RV_U64(a), RV_U64(b)));
}
RV_INLINE rq_vi rv_widen_low8(rq_vi v) { return RV_OF_S16(vmovl_s8(vget_low_s8(RV_S8(v)))); }
RV_INLINE rq_vi rv_widen_high8(rq_vi v) { return RV_OF_S16(vmovl_s8(vget_high_s8(RV_S8(v)))); }
RV_INLINE rq_vi rv_widen_low16(rq_vi v) { return RV_OF_S32(vmovl_s16(vget_low_s16(RV_S16(v)))); }
RV_INLINE rq_vi rv_widen_high16(rq_vi v) { return RV_OF_S32(vmovl_s16(vget_high_s16(RV_S16(v)))); }
RV_INLINE rq_vi rv_pack32(rq_vi a, rq_vi b) {
  return RV_OF_S16(vcombine_s16(vqmovn_s32(RV_S32(a)), vqmovn_s32(RV_S32(b))));
}
RV_INLINE rq_vi rv_pack16(rq_vi a, rq_vi b) {
  return RV_OF_S8(vcombine_s8(vqmovn_s16(RV_S16(a)), vqmovn_s16(RV_S16(b))));
}
RV_INLINE rq_vi rv_dot16(rq_vi a, rq_vi b) {
  int32x4_t low = vmull_s16(vget_low_s16(RV_S16(a)), vget_low_s16(RV_S16(b)));
  int32x4_t high = vmull_s16(vget_high_s16(RV_S16(a)), vget_high_s16(RV_S16(b)));
  return RV_OF_S32(vpaddq_s32(low, high));
}

RV_INLINE rq_vf rf_load(const float *p) { return vld1q_f32(p); }
RV_INLINE void rf_store(float *p, rq_vf v) { vst1q_f32(p, v); }
RV_INLINE rq_vf rf_splat(float x) { return vdupq_n_f32(x); }
RV_INLINE rq_vf rf_add(rq_vf a, rq_vf b) { return vaddq_f32(a, b); }
RV_INLINE rq_vf rf_sub(rq_vf a, rq_vf b) { return vsubq_f32(a, b); }
RV_INLINE rq_vf rf_mul(rq_vf a, rq_vf b) { return vmulq_f32(a, b); }
RV_INLINE rq_vf rf_div(rq_vf a, rq_vf b) { return vdivq_f32(a, b); }
RV_INLINE rq_vf rf_min(rq_vf a, rq_vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
RV_INLINE rq_vf rf_max(rq_vf a, rq_vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
RV_INLINE rq_vf rf_from_i32(rq_vi v) { return vcvtq_f32_s32(RV_S32(v)); }
RV_INLINE rq_vf rf_of_bits(rq_vi v) { return vreinterpretq_f32_u8(v); }
RV_INLINE rq_vi rv_bits_of(rq_vf v) { return vreinterpretq_u8_f32(v); }
RV_INLINE rq_vf rf_swap_pairs(rq_vf v) { return vrev64q_f32(v); }
RV_INLINE rq_vf rf_swap_halves(rq_vf v) { return vextq_f32(v, v, 2); }

#else
#define RQ_HAVE_SIMD 0
#define RQ_LANES_WIDE 0
#endif

#if RQ_HAVE_SIMD

/* Constants that WebAssembly's compiler doesn't see as such. Seen, they become immediates of every use, which
 * a browser builds anew from two words in each round of a loop. */
#if defined(__wasm__)
#define RV_HIDE(x) __asm__("" : "+r"(x))
#else
#define RV_HIDE(x) (void)(x)
#endif
/* An address that it knows nothing about: what is loaded at constant distances then takes no arithmetic. */
RV_INLINE const void *rv_address(const void *p) {
  RV_HIDE(p);
  return p;
}
RV_INLINE rq_vi rv_fixed(const void *p /* (16) */) { return rv_load(rv_address(p)); }
RV_INLINE rq_vi rv_fixed8(int32_t x) {
  RV_HIDE(x);
  return rv_splat8((int8_t)x);
}
RV_INLINE rq_vi rv_fixed16(int32_t x) {
  RV_HIDE(x);
  return rv_splat16((int16_t)x);
}
RV_INLINE rq_vi rv_fixed32(int32_t x) {
  RV_HIDE(x);
  return rv_splat32(x);
}

/* Bytes of one step of activations in lanes. */
enum { RQ_STEP_BYTES = RQ_LANES_WIDE ? 32 : 16, RQ_STEP_VECTORS = RQ_STEP_BYTES / 16 };

/* acc + sum over each four adjacent lanes of weight * activation: one exact i32 for each group of lanes.
 * Weights are 0..127, activations -127..127, both in the form of RQ_LANES_WIDE; a step takes RQ_STEP_VECTORS
 * of each, and only the sum of all of them is right. */
RV_INLINE rq_vi rv_multiply_add(rq_vi acc, rq_vi weights, rq_vi activations) {
#if RQ_LANES_WIDE
  return rv_add32(acc, rv_dot16(weights, activations));
#elif defined(__wasm_relaxed_simd__)
  return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(activations, weights, acc);
#elif defined(__SSE4_1__)
  /* Pairs stay below 2 * 127 * 127 < 2^15. */
  __m128i pairs = _mm_maddubs_epi16(weights, activations);
  return _mm_add_epi32(acc, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
#elif defined(__ARM_FEATURE_DOTPROD)
  return RV_OF_S32(vdotq_s32(RV_S32(acc), RV_S8(weights), RV_S8(activations)));
#else
  int8x16_t w = RV_S8(weights), q = RV_S8(activations);
  int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(q)), vmull_high_s8(w, q));
  return RV_OF_S32(vpadalq_s16(RV_S32(acc), pairs));
#endif
}

/* Products of bytes in two instructions instead of one: pairs in 16 bits (rv_pairs8), then their sums with
 * rv_dot16. That is what the one of relaxed SIMD is made of on x86 without VNNI, where it also makes its
 * constant anew each time; and small weights can be summed in 16 bits first. What it does with an operand
 * beyond 7 bits tells the machine: pairs saturate, all others don't. Both ways are exact for 7 bits. */
#if defined(__wasm_relaxed_simd__)
RV_INLINE bool rv_in_pairs(void) {
  rq_vi sum = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(rv_splat8(127), rv_splat8(-1), rv_zero());
  return wasm_i32x4_extract_lane(sum, 0) == 2 * INT16_MAX;
}
RV_INLINE rq_vi rv_pairs8(rq_vi weights, rq_vi activations) {
  return wasm_i16x8_relaxed_dot_i8x16_i7x16(activations, weights);
}
#else
RV_INLINE bool rv_in_pairs(void) { return false; }
RV_INLINE rq_vi rv_pairs8(rq_vi weights, rq_vi activations) {
  return rv_dot16(weights, activations);
} /* unused */
#endif

/* Unsigned bytes of one step in the form of RQ_LANES_WIDE. */
RV_INLINE void rv_widen_step(rq_vi weights, rq_vi *out /* (RQ_STEP_VECTORS) */) {
  out[0] = weights;
#if RQ_LANES_WIDE
  out[1] = rv_shr16(weights, 8);
#endif
}

/* Adds a step's products to a sum, its weights below 128; `pairs`: rv_in_pairs(), a constant; `ones`: of 16
 * bits. */
RV_INLINE rq_vi rv_add_step(bool pairs, rq_vi ones, rq_vi sum, rq_vi weights,
                            const rq_vi *x /* (RQ_STEP_VECTORS) */) {
  if (pairs) return rv_add32(sum, rv_dot16(rv_pairs8(weights, x[0]), ones));
  rq_vi wide[RQ_STEP_VECTORS];
  rv_widen_step(weights, wide);
  for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) sum = rv_multiply_add(sum, wide[v], x[v]);
  return sum;
}

/* A 16x16 matrix of bytes, rows in `rows`, turned over its diagonal. */
RV_INLINE void rv_transpose8(rq_vi *rows /* (16) */) {
  rq_vi other[16];
  for (int32_t round = 0; round < 4; round++) { /* each round interleaves row i with row i + 8 */
    for (int32_t i = 0; i < 8; i++) {
      other[2 * i] = rv_zip_low8(rows[i], rows[i + 8]);
      other[2 * i + 1] = rv_zip_high8(rows[i], rows[i + 8]);
    }
    for (int32_t i = 0; i < 16; i++) rows[i] = other[i];
  }
}

/* (sum of a, sum of b, sum of c, sum of d), each of four i32. */
RV_INLINE rq_vi rv_sums32(rq_vi a, rq_vi b, rq_vi c, rq_vi d) {
  rq_vi ab = rv_add32(rv_zip_low32(a, b), rv_zip_high32(a, b)); /* a0+a2, b0+b2, a1+a3, b1+b3 */
  rq_vi cd = rv_add32(rv_zip_low32(c, d), rv_zip_high32(c, d));
  return rv_add32(rv_zip_low64(ab, cd), rv_zip_high64(ab, cd));
}

/* The same of eight i16 each, of which two may be added in 16 bits; `ones` is 1 in each i16. */
RV_INLINE rq_vi rv_sums16(rq_vi a, rq_vi b, rq_vi c, rq_vi d, rq_vi ones) {
  rq_vi ab = rv_add16(rv_zip_low32(a, b), rv_zip_high32(a, b));
  rq_vi cd = rv_add16(rv_zip_low32(c, d), rv_zip_high32(c, d));
  return rv_add32(rv_dot16(rv_zip_low64(ab, cd), ones), rv_dot16(rv_zip_high64(ab, cd), ones));
}

/* (acc_0 + acc_1) + (acc_2 + acc_3). */
RV_INLINE float rf_sum4(rq_vf acc) {
  rq_vf pairs = rf_add(acc, rf_swap_pairs(acc));
  float lanes[4];
  rf_store(lanes, rf_add(pairs, rf_swap_halves(pairs)));
  return lanes[0];
}

#endif
#endif
