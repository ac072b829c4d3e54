/* moment.c: second moments of a product's inputs, H = sum of x x^T over tokens, and their factorisation for
 * rounding with error feedback. Plain f32 in a fixed order: the same bits on every machine and for any
 * number of threads, which share out the rows of H. */
#include "moment.h"

#include "../base/fpenv.h"
#include "../base/math.h"

/* ---- collecting ---- */

enum { COLUMNS = 16, TOKENS = 64 };

/* Rows i and i + 1 (or i twice) and COLUMNS columns from j: sums over the tokens in order. */
static void add_tile(float *h, const float *x, int32_t tokens, size_t width, int32_t i, int32_t pair,
                     int32_t j, int32_t columns, const float *packed) {
  float a[COLUMNS] = {0.0f}, b[COLUMNS] = {0.0f};
  for (int32_t t = 0; t < tokens; t++) {
    float u = x[(size_t)t * width + (size_t)i], v = x[(size_t)t * width + (size_t)(i + pair)];
    const float *p = packed + t * COLUMNS;
    for (int32_t c = 0; c < COLUMNS; c++) a[c] = a[c] + u * p[c];
    for (int32_t c = 0; c < COLUMNS; c++) b[c] = b[c] + v * p[c];
  }
  for (int32_t row = 0; row <= pair; row++) {
    float *target = h + (size_t)(i + row) * width + (size_t)j;
    const float *sums = row ? b : a;
    for (int32_t c = 0; c < columns; c++)
      if (j + c >= i + row) target[c] = target[c] + sums[c];
  }
}

/* One batch of at most TOKENS tokens. */
static void add_batch(float *h, const float *x, int32_t tokens, int32_t width, int32_t first, int32_t last) {
  float packed[TOKENS * COLUMNS];
  for (int32_t j = first - first % COLUMNS; j < width; j += COLUMNS) {
    int32_t columns = rq_min_i32(COLUMNS, width - j);
    for (int32_t t = 0; t < tokens; t++)
      for (int32_t c = 0; c < COLUMNS; c++)
        packed[t * COLUMNS + c] = c < columns ? x[(size_t)t * (size_t)width + (size_t)(j + c)] : 0.0f;
    int32_t end = rq_min_i32(last, j + columns); /* rows below the diagonal have nothing here */
    for (int32_t i = first; i < end; i += 2)
      add_tile(h, x, tokens, (size_t)width, i, i + 1 < end ? 1 : 0, j, columns, packed);
  }
}

void rq_moment_add_rows(float *moment, const float *x, int32_t tokens, int32_t width, int32_t first,
                        int32_t last) {
  for (int32_t t = 0; t < tokens; t += TOKENS)
    add_batch(moment, x + (size_t)t * (size_t)width, rq_min_i32(TOKENS, tokens - t), width, first, last);
}

int32_t RQ_EXPORT rq_moment_add(rq_error *error, float *moment, const float *x, int32_t tokens, int32_t width,
                                int32_t first, int32_t last) {
  if (width < 1 || tokens < 0 || first < 0 || last < first || last > width) {
    rq_fail(error, RQ_E_ARGUMENT, "second moments");
    rq_expected(error, "rows within 0 and the width, at least 0 tokens");
    rq_actual(error, "rows %d to %d of width %d, %d tokens", first, last, width, tokens);
    return RQ_E_ARGUMENT;
  }
  uint32_t saved = rq_fp_enter();
  rq_moment_add_rows(moment, x, tokens, width, first, last);
  rq_fp_leave(saved);
  return RQ_OK;
}

/* ---- factorisation ---- */

enum { PANEL = 32, STRIP = 512 };

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

/* Takes the panel off row i of what lies left of it. */
static void update_row(const factoring *f, int32_t i, int32_t from, int32_t to) {
  float *row = f->h + (size_t)i * f->n;
  for (int32_t m = f->end - 1; m >= f->begin; m--) {
    const float *column = f->panel + (size_t)(m - f->begin) * f->n;
    float a = column[i] * f->pivots[m];
    for (int32_t j = from; j < to; j++) row[j] = row[j] - a * column[j];
  }
}

static int32_t factor(rq_error *error, factoring *f) {
  for (f->end = (int32_t)f->n; f->end > 0; f->end = f->begin) {
    f->begin = rq_max_i32(0, f->end - PANEL);
    for (int32_t k = f->end - 1; k >= f->begin; k--) {
      int32_t code = factor_column(error, f, k);
      if (code < 0) return code;
    }
    for (int32_t strip = 0; strip < f->begin; strip += STRIP) { /* so that the panel's piece stays cached */
      int32_t to = rq_min_i32(strip + STRIP, f->begin);
      for (int32_t i = 0; i < to; i++) update_row(f, i, rq_max_i32(strip, i), to);
    }
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
  int32_t code = factor(error, &f);
  rq_fp_leave(saved);
  return code;
}
