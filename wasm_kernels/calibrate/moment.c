/* moment.c: sums over tokens of products of two vectors, out += sum of a b^T: the second moments of a product's
 * inputs, H = sum of x x^T, and those of two models' inputs with each other. Plain f32 in a fixed order: the
 * same bits on every machine and for any number of threads, which share out the rows of the result. */
#include "moment.h"

#include "../base/fpenv.h"
#include "../base/math.h"
#include "../formats/x86.h"

enum { COLUMNS = 16, TOKENS = 64 };

/* a (tokens, a_width), b (tokens, b_width) -> out (a_width, b_width); with `upper` a is b, and only columns
 * from the diagonal on are summed. */
typedef struct sums {
  float *out;
  const float *a, *b;
  int32_t tokens, a_width, b_width;
  bool upper;
} sums;

/* COUNT rows from i and COLUMNS columns from j: sums over the tokens of a batch in order, then added. */
static inline __attribute__((always_inline)) void add_tile(const sums *s, int32_t i, int32_t count, int32_t j,
                                                           const float *packed) {
  float sum[4][COLUMNS] = {{0.0f}};
  const float *a = s->a + i;
  for (int32_t t = 0; t < s->tokens; t++, a += s->a_width)
#pragma GCC unroll 4
    for (int32_t r = 0; r < count; r++)
#pragma GCC unroll 16
      for (int32_t c = 0; c < COLUMNS; c++) sum[r][c] = sum[r][c] + a[r] * packed[t * COLUMNS + c];
  int32_t columns = rq_min_i32(COLUMNS, s->b_width - j);
  for (int32_t r = 0; r < count; r++) {
    float *target = s->out + (size_t)(i + r) * (size_t)s->b_width + (size_t)j;
    int32_t begin = s->upper ? rq_max_i32(0, i + r - j) : 0;
    for (int32_t c = begin; c < columns; c++) target[c] = target[c] + sum[r][c];
  }
}

/* Rows [first, last), COUNT at a time. */
static inline __attribute__((always_inline)) void add_rows(const sums *s, int32_t first, int32_t last,
                                                           int32_t count) {
  float packed[TOKENS * COLUMNS];
  int32_t start = s->upper ? first - first % COLUMNS : 0;
  for (int32_t j = start; j < s->b_width; j += COLUMNS) {
    int32_t columns = rq_min_i32(COLUMNS, s->b_width - j), i = first;
    for (int32_t t = 0; t < s->tokens; t++)
      for (int32_t c = 0; c < COLUMNS; c++)
        packed[t * COLUMNS + c] = c < columns ? s->b[(size_t)t * (size_t)s->b_width + (size_t)(j + c)] : 0.0f;
    int32_t end = s->upper ? rq_min_i32(last, j + columns) : last; /* below the diagonal there is nothing */
    for (; i + count <= end; i += count) add_tile(s, i, count, j, packed);
    for (; i < end; i++) add_tile(s, i, 1, j, packed);
  }
}

typedef void add_kernel(const sums *s, int32_t first, int32_t last);

static void add_plain(const sums *s, int32_t first, int32_t last) { add_rows(s, first, last, 2); }
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static void add_avx2(const sums *s, int32_t first, int32_t last) { add_rows(s, first, last, 4); }
RQ_TARGET_END
#endif

static add_kernel *kernel(void) {
#if RQ_HAVE_X86
  int32_t variant = rq_variant(RQ_SIMD);
  if (variant == RQ_AVX512 || variant == RQ_AVX2) return add_avx2;
#endif
  return add_plain;
}

/* In batches, so that a long sum stays as exact as many short ones. */
static void add_all(sums s, int32_t first, int32_t last) {
  add_kernel *add = kernel();
  for (int32_t left = s.tokens; left > 0; left -= TOKENS) {
    s.tokens = rq_min_i32(TOKENS, left);
    add(&s, first, last);
    s.a += (size_t)TOKENS * (size_t)s.a_width;
    s.b += (size_t)TOKENS * (size_t)s.b_width;
  }
}

void rq_moment_add_rows(float *moment, const float *x, int32_t tokens, int32_t width, int32_t first,
                        int32_t last) {
  add_all((sums){moment, x, x, tokens, width, width, true}, first, last);
}

static int32_t check(rq_error *error, const sums *s, int32_t first, int32_t last) {
  if (s->a_width >= 1 && s->b_width >= 1 && s->tokens >= 0 && first >= 0 && last >= first &&
      last <= s->a_width)
    return RQ_OK;
  rq_fail(error, RQ_E_ARGUMENT, "second moments");
  rq_expected(error, "rows within 0 and the width, at least 0 tokens");
  rq_actual(error, "rows %d to %d of width %d, %d tokens", first, last, s->a_width, s->tokens);
  return RQ_E_ARGUMENT;
}

int32_t RQ_EXPORT rq_moment_add(rq_error *error, float *moment, const float *x, int32_t tokens, int32_t width,
                                int32_t first, int32_t last) {
  return rq_moment_cross(error, moment, x, width, x, width, tokens, first, last, 1);
}

int32_t RQ_EXPORT rq_moment_cross(rq_error *error, float *out, const float *a, int32_t a_width,
                                  const float *b, int32_t b_width, int32_t tokens, int32_t first,
                                  int32_t last, int32_t upper) {
  const sums s = {out, a, b, tokens, a_width, b_width, upper != 0};
  int32_t code = check(error, &s, first, last);
  if (code < 0) return code;
  uint32_t saved = rq_fp_enter();
  add_all(s, first, last);
  rq_fp_leave(saved);
  return RQ_OK;
}
