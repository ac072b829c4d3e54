/* compare.c: how far a matrix is from the one it stands for, in double, in one fixed order.
 *
 * spectral_distortion_db is the energy of the 2-D spectrum of a - b over that of a, summed over all bins. By
 * Parseval's theorem that ratio is the one of the sums of squares, so no transform is run and the figure
 * is always -snr_db; it stands here under the name in which such results are often quoted. */
#include "../base/fpenv.h"
#include "../base/math.h"
#include "formats.h"

/* The largest 1 % by magnitude are found by their bits: three passes of counting, from the highest digit
 * of |a| as an integer to the lowest. */
enum { DIGIT_BITS = 11, DIGITS = 3, BINS = 1 << DIGIT_BITS, OUTLIERS_OF = 100, MAGNITUDE_BITS = 0x7FFFFFFF };

static uint32_t magnitude_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits & MAGNITUDE_BITS;
}

/* The bits of the magnitude of rank `count` (1: the largest); *equal is how many that large belong to the
 * first `count`. */
static uint32_t threshold_bits(const float *a, uint64_t n, uint64_t count, uint64_t *bins, uint64_t *equal) {
  uint32_t prefix = 0;
  for (int32_t digit = DIGITS - 1; digit >= 0; digit--) {
    int32_t shift = digit * DIGIT_BITS;
    rq_zero(bins, BINS * sizeof *bins);
    for (uint64_t i = 0; i < n; i++) {
      uint32_t bits = magnitude_bits(a[i]);
      if (digit == DIGITS - 1 || bits >> (shift + DIGIT_BITS) == prefix) bins[bits >> shift & (BINS - 1)]++;
    }
    int32_t bin = BINS - 1;
    while (bins[bin] < count) count -= bins[bin--];
    prefix = prefix << DIGIT_BITS | (uint32_t)bin;
  }
  *equal = count;
  return prefix;
}

static double outlier_retention(const float *a, const float *b, uint64_t n, uint64_t *bins) {
  uint64_t count = n / OUTLIERS_OF ? n / OUTLIERS_OF : 1, equal;
  uint32_t threshold = threshold_bits(a, n, count, bins, &equal);
  double sum = 0.0;
  for (uint64_t i = 0; i < n; i++) {
    uint32_t bits = magnitude_bits(a[i]);
    if (bits < threshold || (bits == threshold && equal == 0)) continue;
    if (bits == threshold) equal--; /* the first ones, where more are equal than fit */
    double of = a[i] < 0.0f ? -(double)a[i] : (double)a[i], kept = b[i] < 0.0f ? -(double)b[i] : (double)b[i];
    sum += kept < of ? kept / of : 1.0;
  }
  return sum / (double)count;
}

static double decibels(double ratio) { return 10.0 * (rq_log(ratio) / rq_log(10.0)); }

static int32_t refuse(rq_error *error, const char *which, uint64_t position, int32_t width) {
  rq_fail(error, RQ_E_DATA, "%s matrix, row %U, column %U", which, position / (uint64_t)width,
          position % (uint64_t)width);
  rq_expected(error, "finite numbers");
  rq_actual(error, "NaN or infinity");
  return RQ_E_DATA;
}

static RQ_NOINLINE int32_t compare(rq_error *error, const float *a, const float *b, uint64_t n, int32_t width,
                                   rq_comparison *out, uint64_t *bins) {
  double aa = 0.0, bb = 0.0, ab = 0.0, difference = 0.0;
  for (uint64_t i = 0; i < n; i++) {
    double x = (double)a[i], y = (double)b[i], e = x - y;
    aa += x * x;
    bb += y * y;
    ab += x * y;
    difference += e * e;
  }
  if (!(aa + bb < __builtin_inf())) { /* squares of floats and their sums stay finite in double */
    for (uint64_t i = 0; i < n; i++) {
      if (magnitude_bits(a[i]) >= 0x7F800000) return refuse(error, "first", i, width);
      if (magnitude_bits(b[i]) >= 0x7F800000) return refuse(error, "second", i, width);
    }
  }
  out->mse = difference / (double)n;
  if (difference == 0.0) {
    out->snr_db = __builtin_inf();
    out->cosine = 1.0;
  } else {
    out->snr_db = aa > 0.0 ? decibels(aa / difference) : -__builtin_inf();
    out->cosine = aa > 0.0 && bb > 0.0 ? ab / (rq_sqrt(aa) * rq_sqrt(bb)) : 0.0;
  }
  out->spectral_distortion_db = -out->snr_db;
  out->outlier_retention = outlier_retention(a, b, n, bins);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_compare_scratch(int32_t rows, int32_t width) {
  if (rows < 1 || width < 1) return RQ_E_ARGUMENT;
  return BINS * (int32_t)sizeof(uint64_t) + 64; /* it may start anywhere */
}

int32_t RQ_EXPORT rq_compare(rq_error *error, const float *a, const float *b, int32_t rows, int32_t width,
                             rq_comparison *out, void *scratch, void *scratch_end) {
  int32_t needed = rq_compare_scratch(rows, width);
  if (needed < 0) {
    rq_fail(error, RQ_E_ARGUMENT, "matrices to compare");
    rq_expected(error, "at least one row and one column");
    rq_actual(error, "%d rows of %d", rows, width);
    return needed;
  }
  if (!scratch || (uint8_t *)scratch_end - (uint8_t *)scratch < needed) {
    rq_fail(error, RQ_E_MEMORY, "scratch of compare");
    rq_expected(error, "%d bytes", needed);
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  uint32_t saved = rq_fp_enter();
  int32_t code =
      compare(error, a, b, (uint64_t)rows * (uint64_t)width, width, out, (uint64_t *)(void *)begin);
  rq_fp_leave(saved);
  return code;
}
