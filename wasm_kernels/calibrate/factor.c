/* factor.c: the factorisation of second moments for rounding with error feedback, and the weights that are
 * best under them (least squares). Plain f32 in a fixed order: the same bits on every machine. */
#include "../base/fpenv.h"
#include "../base/math.h"
#include "../formats/x86.h"

enum { PANEL = 32, STRIP = 512, COLUMNS = 16 };

typedef struct factoring {
  float *h;      /* (n, n) */
  float *pivots; /* (n) */
  float *panel;  /* (PANEL, n): columns of U as rows */
  size_t n;
  int32_t begin, end; /* columns of the panel */
} factoring;

static int32_t refuse(rq_error *error, int32_t column) {
  rq_fail(error, RQ_E_DATA, "second moments, column %d", column);
  rq_expected(error, "a positive definite matrix");
  rq_actual(error, "a pivot that is not above 0");
  rq_hint(error, "calibrate on more text, or raise the damping");
  return RQ_E_DATA;
}

/* Column k of U for all rows above, from H with the panel's later columns taken off. */
static int32_t factor_column(rq_error *error, factoring *f, int32_t k) {
  size_t n = f->n;
  float *column = f->panel + (size_t)(k - f->begin) * n;
  for (int32_t i = 0; i <= k; i++) column[i] = f->h[(size_t)i * n + (size_t)k];
  for (int32_t m = f->end - 1; m > k; m--) {
    const float *later = f->panel + (size_t)(m - f->begin) * n;
    float a = later[k] * f->pivots[m];
    for (int32_t i = 0; i <= k; i++) column[i] = column[i] - a * later[i];
  }
  float pivot = column[k];
  if (!(pivot > 0.0f) || !(pivot < 0x1p126f)) return refuse(error, k);
  f->pivots[k] = pivot;
  for (int32_t i = 0; i < k; i++) column[i] = column[i] / pivot;
  column[k] = 1.0f;
  for (int32_t i = 0; i < k; i++) f->h[(size_t)i * n + (size_t)k] = column[i];
  return RQ_OK;
}

/* Takes the panel off COUNT rows from i of what lies left of it: columns [from, from + count). */
static inline __attribute__((always_inline)) void update_tile(const factoring *f, int32_t i, int32_t rows,
                                                              int32_t from, int32_t count) {
  float sum[4][COLUMNS];
  for (int32_t r = 0; r < rows; r++)
    for (int32_t c = 0; c < count; c++) sum[r][c] = f->h[(size_t)(i + r) * f->n + (size_t)(from + c)];
  for (int32_t m = f->end - 1; m >= f->begin; m--) {
    const float *column = f->panel + (size_t)(m - f->begin) * f->n;
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++) {
      float a = column[i + r] * f->pivots[m];
#pragma GCC unroll 16
      for (int32_t c = 0; c < count; c++) sum[r][c] = sum[r][c] - a * column[from + c];
    }
  }
  for (int32_t r = 0; r < rows; r++)
    for (int32_t c = 0; c < count; c++) f->h[(size_t)(i + r) * f->n + (size_t)(from + c)] = sum[r][c];
}

/* Rows [0, to) of columns [from, to), and of them the upper half; what lies below it is never read. */
static inline __attribute__((always_inline)) void update(const factoring *f, int32_t from, int32_t to,
                                                         int32_t rows) {
  for (int32_t i = 0; i < to; i += rows) {
    int32_t j = rq_max_i32(from, i - i % COLUMNS);
    bool whole = i + rows <= to;
    for (; whole && j + COLUMNS <= to; j += COLUMNS) update_tile(f, i, rows, j, COLUMNS);
    for (; j < to; j++)
      for (int32_t r = i; r < rq_min_i32(i + rows, to); r++) update_tile(f, r, 1, j, 1);
  }
}

typedef void update_kernel(const factoring *f, int32_t from, int32_t to);

static void update_plain(const factoring *f, int32_t from, int32_t to) { update(f, from, to, 2); }
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static void update_avx2(const factoring *f, int32_t from, int32_t to) { update(f, from, to, 4); }
RQ_TARGET_END
#endif

static update_kernel *kernel(void) {
#if RQ_HAVE_X86
  if (rq_has_avx2(rq_variant(RQ_SIMD))) return update_avx2;
#endif
  return update_plain;
}

static int32_t factor_panels(rq_error *error, factoring *f) {
  update_kernel *rest = kernel();
  for (f->end = (int32_t)f->n; f->end > 0; f->end = f->begin) {
    f->begin = rq_max_i32(0, f->end - PANEL);
    for (int32_t k = f->end - 1; k >= f->begin; k--) {
      int32_t code = factor_column(error, f, k);
      if (code < 0) return code;
    }
    for (int32_t strip = 0; strip < f->begin; strip += STRIP) /* so that the panel's piece stays cached */
      rest(f, strip, rq_min_i32(strip + STRIP, f->begin));
  }
  return RQ_OK;
}

int32_t RQ_EXPORT rq_moment_factor_scratch(int32_t width) { return 64 + 4 * PANEL * width; }

int32_t RQ_EXPORT rq_moment_factor(rq_error *error, float *moment, float *pivots, int32_t width,
                                   float damping, void *scratch, void *scratch_end) {
  if (width < 1 || width > 1 << 20 || !(damping >= 0.0f)) {
    rq_fail(error, RQ_E_ARGUMENT, "second moments");
    rq_expected(error, "a width from 1 to 2^20 and a damping of at least 0");
    rq_actual(error, "width %d", width);
    return RQ_E_ARGUMENT;
  }
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  if (!scratch || (uint8_t *)scratch_end - begin < (ptrdiff_t)(4 * PANEL * (size_t)width)) {
    rq_fail(error, RQ_E_MEMORY, "scratch of the factorisation");
    rq_expected(error, "%d bytes", rq_moment_factor_scratch(width));
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  uint32_t saved = rq_fp_enter();
  factoring f = {moment, pivots, (float *)begin, (size_t)width, 0, 0};
  double trace = 0.0;
  for (int32_t i = 0; i < width; i++) trace += (double)moment[(size_t)i * f.n + (size_t)i];
  float added = (float)(trace / (double)width * (double)damping);
  for (int32_t i = 0; i < width; i++) moment[(size_t)i * f.n + (size_t)i] += added;
  int32_t code = factor_panels(error, &f);
  rq_fp_leave(saved);
  return code;
}

/* ---- least squares ---- */

enum { LANES = 16 }; /* rows that are solved for side by side */

/* x (width, LANES): x <- x ((U + I) diag(pivots) (U + I)^T)^-1, for every lane. */
static inline __attribute__((always_inline)) void solve_lanes(const float *u, const float *pivots,
                                                              int32_t width, float *x) {
  size_t n = (size_t)width;
  for (int32_t j = width - 1; j >= 0; j--) {
    float sum[LANES];
    const float *row = u + (size_t)j * n;
    for (int32_t l = 0; l < LANES; l++) sum[l] = x[j * LANES + l];
    for (int32_t i = j + 1; i < width; i++)
      for (int32_t l = 0; l < LANES; l++) sum[l] = sum[l] - row[i] * x[i * LANES + l];
    for (int32_t l = 0; l < LANES; l++) x[j * LANES + l] = sum[l];
  }
  for (int32_t j = 0; j < width; j++)
    for (int32_t l = 0; l < LANES; l++) x[j * LANES + l] = x[j * LANES + l] / pivots[j];
  for (int32_t i = 0; i < width; i++) {
    const float *row = u + (size_t)i * n;
    float t[LANES];
    for (int32_t l = 0; l < LANES; l++) t[l] = x[i * LANES + l];
    for (int32_t j = i + 1; j < width; j++)
      for (int32_t l = 0; l < LANES; l++) x[j * LANES + l] = x[j * LANES + l] - row[j] * t[l];
  }
}

typedef void solve_kernel(const float *u, const float *pivots, int32_t width, float *x);

static void solve_plain(const float *u, const float *pivots, int32_t width, float *x) {
  solve_lanes(u, pivots, width, x);
}
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static void solve_avx2(const float *u, const float *pivots, int32_t width, float *x) {
  solve_lanes(u, pivots, width, x);
}
RQ_TARGET_END
#endif

static solve_kernel *solve_kernel_of(int32_t variant) {
#if RQ_HAVE_X86
  if (rq_has_avx2(variant)) return solve_avx2;
#endif
  (void)variant;
  return solve_plain;
}

int32_t RQ_EXPORT rq_moment_solve_scratch(int32_t width) { return 64 + 4 * LANES * width; }

int32_t RQ_EXPORT rq_moment_solve(rq_error *error, const float *factor, const float *pivots, float *rows,
                                  int32_t count, int32_t width, void *scratch, void *scratch_end) {
  if (width < 1 || width > 1 << 20 || count < 0) {
    rq_fail(error, RQ_E_ARGUMENT, "least squares");
    rq_expected(error, "a width from 1 to 2^20 and at least 0 rows");
    rq_actual(error, "width %d, %d rows", width, count);
    return RQ_E_ARGUMENT;
  }
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  if (!scratch || (uint8_t *)scratch_end - begin < (ptrdiff_t)(4 * LANES * (size_t)width)) {
    rq_fail(error, RQ_E_MEMORY, "scratch of least squares");
    rq_expected(error, "%d bytes", rq_moment_solve_scratch(width));
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  solve_kernel *solve = solve_kernel_of(rq_variant(RQ_SIMD));
  float *x = (float *)begin;
  uint32_t saved = rq_fp_enter();
  for (int32_t first = 0; first < count; first += LANES) {
    int32_t lanes = rq_min_i32(LANES, count - first);
    float *block = rows + (size_t)first * (size_t)width;
    for (int32_t j = 0; j < width; j++)
      for (int32_t l = 0; l < LANES; l++)
        x[j * LANES + l] = l < lanes ? block[(size_t)l * (size_t)width + (size_t)j] : 0.0f;
    solve(factor, pivots, width, x);
    for (int32_t l = 0; l < lanes; l++)
      for (int32_t j = 0; j < width; j++) block[(size_t)l * (size_t)width + (size_t)j] = x[j * LANES + l];
  }
  rq_fp_leave(saved);
  return RQ_OK;
}
