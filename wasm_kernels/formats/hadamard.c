/* hadamard.c: the randomised Walsh-Hadamard transform, y = H S x, in blocks that cut any width into
 * powers of two. Butterflies in one fixed order, so that every kernel gives the same bits. */
#include "../base/fpenv.h"
#include "blocks.h"
#include "simd_kernels.h"

enum { HADAMARD_MAX = 256 };

/* Size of the next piece: the largest power of two that fits, at most 256. */
static int32_t piece_size(int32_t left) {
  int32_t size = HADAMARD_MAX;
  while (size > left) size /= 2;
  return size;
}

/* 1 / sqrt(size), correctly rounded: 2^-m, or sqrt(1/2) * 2^-m which scaling by a power of two keeps. */
static float normaliser(int32_t size) {
  float factor = 1.0f;
  for (; size >= 4; size /= 4) factor *= 0.5f;
  return size == 2 ? factor * 0x1.6a09e6p-1f : factor;
}

uint64_t rq_splitmix(uint64_t seed, int32_t i) {
  uint64_t z = seed + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

/* Without a branch, which would be guessed wrong half the time. */
static float sign_of(uint64_t seed, int32_t i) {
  return (float)(1 - 2 * (int32_t)(rq_splitmix(seed, i) >> 63));
}

/* Those of positions start and on. */
static void make_signs(uint64_t seed, int32_t start, int32_t count, float *signs) {
#pragma clang loop vectorize(disable) /* vectors have no product of 64 bits */
  for (int32_t i = 0; i < count; i++) signs[i] = sign_of(seed, start + i);
}

void rq_hadamard_signs(uint32_t seed_low, uint32_t seed_high, int32_t width, float *signs) {
  make_signs((uint64_t)seed_high << 32 | seed_low, 0, width, signs);
}

/* Butterflies of distance 1, 2, 4, ... size / 2, in that order. */
static void butterflies_scalar(float *x, int32_t size) {
  for (int32_t h = 1; h < size; h *= 2)
    for (int32_t start = 0; start < size; start += 2 * h)
      for (int32_t i = start; i < start + h; i++) {
        float a = x[i], b = x[i + h];
        x[i] = a + b;
        x[i + h] = a - b;
      }
}

static void apply_piece(float *x, const float *signs, int32_t size, bool inverse, int32_t variant) {
  float factor = normaliser(size);
#if RQ_HAVE_SIMD
  if (variant != RQ_SCALAR && size >= 16) {
    rq_hadamard_piece_simd(x, signs, size, factor, inverse);
    return;
  }
#endif
  (void)variant;
  if (!inverse)
    for (int32_t i = 0; i < size; i++) x[i] = x[i] * signs[i];
  butterflies_scalar(x, size);
  for (int32_t i = 0; i < size; i++) x[i] = x[i] * factor;
  if (inverse)
    for (int32_t i = 0; i < size; i++) x[i] = x[i] * signs[i];
}

void rq_hadamard_apply(float *x, const float *signs, int32_t width, bool inverse, int32_t variant) {
  for (int32_t start = 0; start < width;) {
    int32_t size = piece_size(width - start);
    apply_piece(x + start, signs + start, size, inverse, variant);
    start += size;
  }
}

/* Piece by piece, so that the signs fit on the stack. */
static RQ_NOINLINE void transform_rows(float *x, int32_t rows, int32_t width, uint64_t seed, bool inverse,
                                       int32_t variant) {
  float signs[HADAMARD_MAX];
  for (int32_t start = 0; start < width;) {
    int32_t size = piece_size(width - start);
    make_signs(seed, start, size, signs);
    for (int32_t row = 0; row < rows; row++)
      apply_piece(x + (size_t)row * (size_t)width + start, signs, size, inverse, variant);
    start += size;
  }
}

int32_t RQ_EXPORT rq_hadamard(rq_error *error, float *x, int32_t rows, int32_t width, uint32_t seed_low,
                              uint32_t seed_high, int32_t inverse, int32_t variant) {
  if (rows < 0 || width < 1 || width > RQ_MAX_WIDTH) {
    rq_fail(error, RQ_E_ARGUMENT, "hadamard");
    rq_expected(error, "rows of at least 0 and a width of 1 to %d", (int32_t)RQ_MAX_WIDTH);
    rq_actual(error, "%d rows of %d", rows, width);
    return RQ_E_ARGUMENT;
  }
  uint32_t saved = rq_fp_enter();
  transform_rows(x, rows, width, (uint64_t)seed_high << 32 | seed_low, inverse != 0, variant);
  rq_fp_leave(saved);
  return RQ_OK;
}
