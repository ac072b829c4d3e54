/* orthogonal.c: a dense rotation for small widths, Q = H_n ... H_3 H_2, each H_m a Householder reflection of
 * the first m numbers: uniform over all rotations where the vectors are Gaussian (Stewart, 1980). The vectors
 * come from integers of the seed, their lengths from correctly rounded operations on doubles, and sums have
 * one order: the same bits on every machine. */
#include "../base/fpenv.h"
#include "../base/math.h"
#include "formats.h"

enum { LANES = 16 };

static int32_t padded(int32_t width) { return (width + LANES - 1) / LANES * LANES; }

/* The sum of the eight bytes of an output of SplitMix64, less its mean: nearly Gaussian. */
static int32_t draw(uint64_t seed, int32_t i) {
  int32_t sum = -1020;
  for (uint64_t z = rq_splitmix(seed, i); z; z >>= 8) sum += (int32_t)(z & 255);
  return sum;
}

/* u (stride): H_m = I - u u^T maps the last of m numbers' axis to a random direction. */
static void make_vector(uint64_t seed, int32_t m, float *u, int32_t stride) {
  int32_t squares = 0, last = 0;
  double v[RQ_ORTHOGONAL_MAX];
  for (int32_t j = 0; j < m; j++) {
    last = draw(seed, m * (m - 1) / 2 + j);
    squares += last * last;
    v[j] = last;
  }
  double length = rq_sqrt(squares > 0 ? squares : 1), magnitude = last < 0 ? -last : last;
  v[m - 1] = last < 0 ? last - length : last + length;
  double divisor = rq_sqrt(length * (length + magnitude)); /* of v, to the length of root two */
  for (int32_t j = 0; j < stride; j++) u[j] = j < m ? (float)(v[j] / divisor) : 0.0f;
}

int32_t rq_orthogonal_numbers(int32_t width) { return width * padded(width); }

void rq_orthogonal_vectors(uint32_t seed_low, uint32_t seed_high, int32_t width, float *vectors) {
  uint64_t seed = (uint64_t)seed_high << 32 | seed_low;
  int32_t stride = padded(width);
  for (int32_t m = 1; m <= width; m++)
    make_vector(seed, m, vectors + (size_t)(m - 1) * (size_t)stride, stride);
}

/* x <- x - (u . x) u over `numbers`, a multiple of LANES. */
static void reflect(float *x, const float *u, int32_t numbers) {
  float sum[LANES] = {0.0f};
  for (int32_t i = 0; i < numbers; i += LANES)
    for (int32_t l = 0; l < LANES; l++) sum[l] = sum[l] + u[i + l] * x[i + l];
  for (int32_t half = LANES / 2; half > 0; half /= 2)
    for (int32_t l = 0; l < half; l++) sum[l] = sum[l] + sum[l + half];
  for (int32_t i = 0; i < numbers; i++) x[i] = x[i] - sum[0] * u[i];
}

void rq_orthogonal_apply(float *x, const float *vectors, int32_t table_width, int32_t width, bool inverse) {
  float y[RQ_ORTHOGONAL_MAX] = {0.0f}; /* zeros behind the vector, so that all is whole lanes */
  rq_copy(y, x, (size_t)width * sizeof(float));
  for (int32_t n = 2; n <= width; n++) {
    int32_t m = inverse ? width + 2 - n : n;
    reflect(y, vectors + (size_t)(m - 1) * (size_t)padded(table_width), padded(m));
  }
  rq_copy(x, y, (size_t)width * sizeof(float));
}

int32_t RQ_EXPORT rq_orthogonal_scratch(int32_t width) {
  return width < 1 || width > RQ_ORTHOGONAL_MAX ? 0 : rq_orthogonal_numbers(width) * (int32_t)sizeof(float);
}

int32_t RQ_EXPORT rq_orthogonal(rq_error *error, float *x, int32_t rows, int32_t width, uint32_t seed_low,
                                uint32_t seed_high, int32_t inverse, void *scratch, void *scratch_end) {
  if (rows < 0 || width < 1 || width > RQ_ORTHOGONAL_MAX) {
    rq_fail(error, RQ_E_ARGUMENT, "orthogonal rotation");
    rq_expected(error, "rows of at least 0 and a width of 1 to %d", (int32_t)RQ_ORTHOGONAL_MAX);
    rq_actual(error, "%d rows of %d", rows, width);
    rq_hint(error, "the Hadamard transform takes every width");
    return RQ_E_ARGUMENT;
  }
  if (!scratch || (uint8_t *)scratch_end - (uint8_t *)scratch < rq_orthogonal_scratch(width)) {
    rq_fail(error, RQ_E_MEMORY, "scratch of the rotation");
    rq_expected(error, "%d bytes", rq_orthogonal_scratch(width));
    return RQ_E_MEMORY;
  }
  uint32_t saved = rq_fp_enter();
  rq_orthogonal_vectors(seed_low, seed_high, width, scratch);
  for (int32_t row = 0; row < rows; row++)
    rq_orthogonal_apply(x + (size_t)row * (size_t)width, scratch, width, width, inverse != 0);
  rq_fp_leave(saved);
  return RQ_OK;
}
