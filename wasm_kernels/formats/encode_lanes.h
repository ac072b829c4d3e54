/* encode_lanes.h: what the searches of trellis codes share: four values of k side by side in the lanes of a
 * vector. Every operation is elementwise, so vectors and scalars give the same bits. */
#ifndef RQ_ENCODE_LANES_H
#define RQ_ENCODE_LANES_H
#include "encode.h"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

typedef float rq_f4 __attribute__((vector_size(16)));

static inline rq_f4 rq_splat(float x) { return (rq_f4){x, x, x, x}; }

/* a < b ? a : b in every lane; no NaN comes here. */
static inline rq_f4 rq_smaller(rq_f4 a, rq_f4 b) {
#if defined(__SSE__)
  return (rq_f4)_mm_min_ps((__m128)a, (__m128)b);
#elif defined(__wasm_simd128__)
  return (rq_f4)__builtin_wasm_pmin_f32x4(b, a);
#else
  for (int32_t i = 0; i < 4; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
#endif
}

/* First weight of group f of a block of r. */
static inline int32_t rq_group_begin(int32_t r, int32_t f) {
  return rq_min_i32(r, f * RQ_GROUP_LANES * rq_block_steps(r));
}

#endif
