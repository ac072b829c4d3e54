/* levels.c: the product kernels of each level, and what this machine has. */
#include "levels.h"

#include "simd_kernels.h"
#include "x86.h"
#if RQ_HAVE_X86
#include <cpuid.h>
#endif

#if RQ_HAVE_SIMD
#define DEFINE_ROWS(name)                                                                                    \
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
DEFINE_ROWS(pi_q3)
DEFINE_ROWS(pi_q2)
DEFINE_ROWS(pi_t3)
DEFINE_ROWS(pi_t2)
DEFINE_ROWS(ternary)
DEFINE_ROWS(pi_x3)
DEFINE_ROWS(pi_x2)
DEFINE_ROWS(q8_0)
DEFINE_ROWS(q4_0)
DEFINE_ROWS(q4_1)
DEFINE_ROWS(q5_0)
DEFINE_ROWS(q5_1)
DEFINE_ROWS(iq4_nl)
DEFINE_ROWS(mxfp4)

static rq_product_kernel kernel_128(int32_t format) {
  switch (format) {
    case RQ_FORMAT_Q8_0: return q8_0_product;
    case RQ_FORMAT_Q4_0: return q4_0_product;
    case RQ_FORMAT_Q4_1: return q4_1_product;
    case RQ_FORMAT_Q5_0: return q5_0_product;
    case RQ_FORMAT_Q5_1: return q5_1_product;
    case RQ_FORMAT_IQ4_NL: return iq4_nl_product;
    case RQ_FORMAT_MXFP4: return mxfp4_product;
    case RQ_FORMAT_PI_Q3: return pi_q3_product;
    case RQ_FORMAT_PI_Q2: return pi_q2_product;
    case RQ_FORMAT_PI_T3: return pi_t3_product;
    case RQ_FORMAT_PI_T2: return pi_t2_product;
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY: return ternary_product;
    case RQ_FORMAT_PI_X3: return pi_x3_product;
    case RQ_FORMAT_PI_X2: return pi_x2_product;
    default: return NULL;
  }
}
#endif

#if RQ_HAVE_X86
static rq_product_kernel kernel_avx512(int32_t format) {
  switch (format) {
    case RQ_FORMAT_PI_Q3: return rq_pi_q3_avx512;
    case RQ_FORMAT_PI_Q2: return rq_pi_q2_avx512;
    case RQ_FORMAT_PI_T3: return rq_pi_t3_avx512;
    case RQ_FORMAT_PI_T2: return rq_pi_t2_avx512;
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY: return rq_ternary_avx512;
    default: return NULL;
  }
}

static rq_product_kernel kernel_avx2(int32_t format) {
  switch (format) {
    case RQ_FORMAT_F32: return rq_f32_avx2;
    case RQ_FORMAT_F16: return rq_f16_avx2;
    case RQ_FORMAT_BF16: return rq_bf16_avx2;
    case RQ_FORMAT_Q8_0: return rq_q8_0_avx2;
    case RQ_FORMAT_Q4_0: return rq_q4_0_avx2;
    case RQ_FORMAT_Q4_1: return rq_q4_1_avx2;
    case RQ_FORMAT_Q5_0: return rq_q5_0_avx2;
    case RQ_FORMAT_Q5_1: return rq_q5_1_avx2;
    case RQ_FORMAT_IQ4_NL: return rq_iq4_nl_avx2;
    case RQ_FORMAT_MXFP4: return rq_mxfp4_avx2;
    case RQ_FORMAT_Q2_K: return rq_q2_k_avx2;
    case RQ_FORMAT_Q3_K: return rq_q3_k_avx2;
    case RQ_FORMAT_Q4_K: return rq_q4_k_avx2;
    case RQ_FORMAT_Q5_K: return rq_q5_k_avx2;
    case RQ_FORMAT_Q6_K: return rq_q6_k_avx2;
    case RQ_FORMAT_IQ4_XS: return rq_iq4_xs_avx2;
    case RQ_FORMAT_PI_Q3: return rq_pi_q3_avx2;
    case RQ_FORMAT_PI_Q2: return rq_pi_q2_avx2;
    case RQ_FORMAT_PI_T3: return rq_pi_t3_avx2;
    case RQ_FORMAT_PI_T2: return rq_pi_t2_avx2;
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY: return rq_ternary_avx2;
    case RQ_FORMAT_PI_X3: return rq_pi_x3_avx2;
    case RQ_FORMAT_PI_X2: return rq_pi_x2_avx2;
    default: return NULL;
  }
}

/* Bits of cpuid and xgetbv, as Intel and AMD number them. */
enum {
  LEAF1_ECX = 1 << 28 | 1 << 27 | 1 << 29, /* AVX, OSXSAVE, F16C */
  LEAF7_EBX_AVX2 = 1 << 5,
  LEAF7_ECX_AVX512 = 1 << 1 | 1 << 11, /* VBMI, VNNI */
  XCR0_AVX = 6,                        /* the system saves 256-bit registers */
  XCR0_AVX512 = 0xE6,                  /* and all of AVX-512 */
};
#define LEAF7_EBX_AVX512 (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) /* F, DQ, BW, VL */

static int32_t best_variant(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & LEAF1_ECX) != LEAF1_ECX) return RQ_SIMD128;
  uint32_t saved, saved_high;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(saved_high) : "c"(0));
  if ((saved & XCR0_AVX) != XCR0_AVX) return RQ_SIMD128;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & LEAF7_EBX_AVX2)) return RQ_SIMD128;
  bool wide = (b & LEAF7_EBX_AVX512) == LEAF7_EBX_AVX512 && (c & LEAF7_ECX_AVX512) == LEAF7_ECX_AVX512;
  return wide && (saved & XCR0_AVX512) == XCR0_AVX512 ? RQ_AVX512 : RQ_AVX2;
}

/* Processors that know AVX2 but work on 128 bits at a time: AMD before Zen 2, and Hygon's, by family and
 * model. */
static bool works_in_halves(void) {
  enum { AMD = 0x444D4163, HYGON = 0x656E6975, ZEN = 0x17, ZEN_2_MODEL = 0x30 }; /* ends of the names */
  uint32_t a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d) || (c != AMD && c != HYGON)) return false;
  if (c == HYGON) return true;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  uint32_t family = (a >> 8 & 15) + (a >> 20 & 255), number = (a >> 4 & 15) | (a >> 12 & 0xF0);
  return family < ZEN || (family == ZEN && number < ZEN_2_MODEL);
}

int32_t rq_variant_alone(int32_t format, int32_t variant) {
  if (variant != RQ_AVX2 || !works_in_halves()) return variant;
  switch (format) {
    case RQ_FORMAT_PI_Q3:
    case RQ_FORMAT_PI_Q2:
    case RQ_FORMAT_PI_T3:
    case RQ_FORMAT_PI_T2:
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY:
    case RQ_FORMAT_PI_X3:
    case RQ_FORMAT_PI_X2: return RQ_SIMD128;
    default: return variant;
  }
}
#else
static int32_t best_variant(void) { return RQ_HAVE_SIMD ? RQ_SIMD128 : RQ_SCALAR; }
int32_t rq_variant_alone(int32_t format, int32_t variant) {
  (void)format;
  return variant;
}
#endif

int32_t RQ_EXPORT rq_variant(int32_t variant) {
  if (variant == RQ_SCALAR) return RQ_SCALAR;
  int32_t best = best_variant();
  return variant > RQ_SCALAR && variant < best ? variant : best;
}

rq_product_kernel rq_product_kernel_of(int32_t format, int32_t variant) {
#if RQ_HAVE_X86
  if (variant == RQ_AVX512) {
    rq_product_kernel kernel = kernel_avx512(format);
    if (kernel) return kernel;
  }
  if (rq_has_avx2(variant)) {
    rq_product_kernel kernel = kernel_avx2(format);
    if (kernel) return kernel;
  }
#endif
#if RQ_HAVE_SIMD
  if (variant != RQ_SCALAR) return kernel_128(format);
#endif
  (void)format;
  (void)variant;
  return NULL;
}
