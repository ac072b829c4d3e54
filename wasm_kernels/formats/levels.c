/* levels.c: the product kernels of each level, and what this machine has. */
#include "levels.h"

#include "simd_kernels.h"

#if RQ_HAVE_SIMD
#define DEFINE_OWN(name)                                                                                     \
  static void name##_product(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a,   \
                             int32_t count, float *y, size_t stride) {                                       \
    if (count == 1) {                                                                                        \
      rq_##name##_rows_simd(data, row_bytes, rows, a, y);                                                    \
      return;                                                                                                \
    }                                                                                                        \
    for (int32_t r = 0; r < rows; r += 2) {                                                                  \
      int32_t other = rq_min_i32(r + 1, rows - 1);                                                           \
      rq_##name##_pair_simd(data + (size_t)r * row_bytes, data + (size_t)other * row_bytes, a, count, y + r, \
                            y + other, stride);                                                              \
    }                                                                                                        \
  }
DEFINE_OWN(pi_q3)
DEFINE_OWN(pi_q2)
DEFINE_OWN(pi_t3)
DEFINE_OWN(pi_t2)
DEFINE_OWN(ternary)

static rq_product_kernel kernel_128(int32_t format) {
  switch (format) {
    case RQ_FORMAT_PI_Q3: return pi_q3_product;
    case RQ_FORMAT_PI_Q2: return pi_q2_product;
    case RQ_FORMAT_PI_T3: return pi_t3_product;
    case RQ_FORMAT_PI_T2: return pi_t2_product;
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY: return ternary_product;
    default: return NULL;
  }
}
#endif

rq_product_kernel rq_product_kernel_of(int32_t format, int32_t variant) {
#if RQ_HAVE_SIMD
  if (variant != RQ_SCALAR) return kernel_128(format);
#endif
  (void)format;
  (void)variant;
  return NULL;
}

int32_t rq_variant_resolve(int32_t variant) { return variant; }
