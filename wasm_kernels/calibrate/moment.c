/* moment.c: sums over tokens of products of two vectors, out += sum of a b^T: the second moments of a
 * product's inputs, H = sum of x x^T, and those of two models' inputs with each other. Plain f32 in a fixed
 * order: the same bits on every machine and for any number of threads, which share out the rows of the
 * result. */
#include "moment.h"

#include "../base/fpenv.h"
#include "../base/math.h"
#include "../formats/x86.h"

enum { COLUMNS = 16, TOKENS = 64, ROWS = 96, TILE = 6 };

/* a (tokens, a_width), b (tokens, b_width) -> out (a_width, b_width); with `upper` a is b, and only columns
 * from the diagonal on are summed. */
typedef struct sums {
  float *out;
  const float *a, *b;
  int32_t tokens, a_width, b_width;
  bool upper;
} sums;

/* Some rows of `out`, and the numbers of a batch that they need, TILE rows of one token side by side. */
typedef struct row_block {
  int32_t first, rows;
  float packed[ROWS / TILE][TOKENS][TILE];
} row_block;

static void pack_rows(const sums *s, row_block *block) {
  for (int32_t t = 0; t < s->tokens; t++)
    for (int32_t r = 0; r < ROWS; r++)
      block->packed[r / TILE][t][r % TILE] =
          r < block->rows ? s->a[(size_t)t * (size_t)s->a_width + (size_t)(block->first + r)] : 0.0f;
}

typedef float f8 __attribute__((vector_size(32))); /* elementwise: two registers where eight don't fit one */
enum { EIGHTS = COLUMNS / 8 };

/* `count` rows of tile n of the block, from `begin` on, and COLUMNS columns: sums over the tokens of a batch.
 */
static inline __attribute__((always_inline)) void sum_tile(const row_block *block, int32_t n, int32_t begin,
                                                           int32_t count, const f8 *columns, int32_t tokens,
                                                           float (*out)[COLUMNS]) {
  f8 sum[TILE][EIGHTS] = {{{0.0f}}};
  for (int32_t t = 0; t < tokens; t++, columns += EIGHTS)
#pragma GCC unroll 6
    for (int32_t r = 0; r < count; r++) {
      float x = block->packed[n][t][begin + r];
      f8 a = {x, x, x, x, x, x, x, x};
#pragma GCC unroll 2
      for (int32_t c = 0; c < EIGHTS; c++) sum[r][c] = sum[r][c] + a * columns[c];
    }
  rq_copy(out + begin, sum, (size_t)count * sizeof *sum);
}

/* Adds a row of a tile to `target`: columns [first, count) of it. */
static inline __attribute__((always_inline)) void add_row(float *target, const float *sum, int32_t first,
                                                          int32_t count) {
  typedef float anywhere __attribute__((vector_size(32), aligned(4)));
  if (first == 0 && count == COLUMNS)
    for (int32_t c = 0; c < COLUMNS; c += 8)
      *(anywhere *)(target + c) = *(const anywhere *)(target + c) + *(const anywhere *)(sum + c);
  else
    for (int32_t c = first; c < count; c++) target[c] = target[c] + sum[c];
}

/* Tile n and columns from j; `half` of the tile's rows at a time where there are registers for no more. */
static inline __attribute__((always_inline)) void add_tile(const sums *s, const row_block *block, int32_t n,
                                                           int32_t half, int32_t j, const f8 *columns) {
  float sum[TILE][COLUMNS];
  for (int32_t begin = 0; begin < TILE; begin += half)
    sum_tile(block, n, begin, half, columns, s->tokens, sum);
  int32_t count = rq_min_i32(COLUMNS, s->b_width - j);
  for (int32_t r = 0; r < rq_min_i32(TILE, block->rows - n * TILE); r++) {
    int32_t i = block->first + n * TILE + r;
    add_row(s->out + (size_t)i * (size_t)s->b_width + (size_t)j, sum[r], s->upper ? rq_max_i32(0, i - j) : 0,
            count);
  }
}

typedef union column_block {
  f8 vectors[TOKENS * EIGHTS];
  float numbers[TOKENS * COLUMNS];
} column_block;

/* COLUMNS columns of b (tokens, width) from j on, with zeros beyond the end. */
static inline __attribute__((always_inline)) void pack_columns(const float *b, int32_t tokens, int32_t width,
                                                               int32_t j, column_block *columns) {
  int32_t count = rq_min_i32(COLUMNS, width - j);
  for (int32_t t = 0; t < tokens; t++) {
    const float *from = b + (size_t)t * (size_t)width + (size_t)j;
    float *to = columns->numbers + t * COLUMNS;
    if (count == COLUMNS)
      __builtin_memcpy(to, from, COLUMNS * sizeof *to);
    else
      for (int32_t c = 0; c < COLUMNS; c++) to[c] = c < count ? from[c] : 0.0f;
  }
}

static inline __attribute__((always_inline)) void add_block(const sums *s, const row_block *block,
                                                            int32_t half) {
  column_block columns;
  for (int32_t j = s->upper ? block->first - block->first % COLUMNS : 0; j < s->b_width; j += COLUMNS) {
    int32_t count = rq_min_i32(COLUMNS, s->b_width - j);
    pack_columns(s->b, s->tokens, s->b_width, j, &columns);
    for (int32_t n = 0; n * TILE < block->rows; n++)
      if (!s->upper || block->first + n * TILE < j + count) /* below the diagonal there is nothing */
        add_tile(s, block, n, half, j, columns.vectors);
  }
}

typedef void add_kernel(const sums *s, const row_block *block);

static void add_plain(const sums *s, const row_block *block) { add_block(s, block, 2); }
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static void add_avx2(const sums *s, const row_block *block) { add_block(s, block, 6); }
RQ_TARGET_END
#endif

static add_kernel *kernel(void) {
#if RQ_HAVE_X86
  if (rq_has_avx2(rq_variant(RQ_SIMD))) return add_avx2;
#endif
  return add_plain;
}

/* In batches, so that a long sum stays as exact as many short ones. */
static void add_all(sums s, int32_t first, int32_t last) {
  add_kernel *add = kernel();
  row_block block;
  for (int32_t left = s.tokens; left > 0; left -= TOKENS) {
    s.tokens = rq_min_i32(TOKENS, left);
    for (block.first = first; block.first < last; block.first += ROWS) {
      block.rows = rq_min_i32(ROWS, last - block.first);
      pack_rows(&s, &block);
      add(&s, &block);
    }
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

/* ---- what errors in rows cost: r H r^T ---- */

typedef struct energy {
  const float *moment, *rows; /* (width, width), (count, width) */
  int32_t count, width;
} energy;

/* Rows of the block with rows [begin, begin + tokens) of H: the square on the diagonal, and twice what lies
 * right of it. */
static inline __attribute__((always_inline)) double block_energy(const energy *e, const row_block *block,
                                                                 int32_t begin, int32_t tokens,
                                                                 int32_t half) {
  column_block columns;
  double total = 0.0;
  for (int32_t j = begin; j < e->width; j += COLUMNS) {
    int32_t count = rq_min_i32(COLUMNS, e->width - j);
    pack_columns(e->moment + (size_t)begin * (size_t)e->width, tokens, e->width, j, &columns);
    for (int32_t n = 0; n * TILE < block->rows; n++) {
      float sum[TILE][COLUMNS];
      for (int32_t at = 0; at < TILE; at += half) sum_tile(block, n, at, half, columns.vectors, tokens, sum);
      double twice = j < begin + tokens ? 1.0 : 2.0;
      for (int32_t r = 0; r < rq_min_i32(TILE, block->rows - n * TILE); r++) {
        const float *row = e->rows + (size_t)(block->first + n * TILE + r) * (size_t)e->width + (size_t)j;
        float part = 0.0f;
        for (int32_t c = 0; c < count; c++) part = part + sum[r][c] * row[c];
        total += twice * (double)part;
      }
    }
  }
  return total;
}

typedef double energy_kernel(const energy *e, const row_block *block, int32_t begin, int32_t tokens);

static double energy_plain(const energy *e, const row_block *block, int32_t begin, int32_t tokens) {
  return block_energy(e, block, begin, tokens, 2);
}
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static double energy_avx2(const energy *e, const row_block *block, int32_t begin, int32_t tokens) {
  return block_energy(e, block, begin, tokens, 6);
}
RQ_TARGET_END
#endif

static RQ_NOINLINE double energy_of(const energy *e) {
  row_block block;
  double total = 0.0;
  energy_kernel *add = energy_plain;
#if RQ_HAVE_X86
  if (rq_has_avx2(rq_variant(RQ_SIMD))) add = energy_avx2;
#endif
  for (block.first = 0; block.first < e->count; block.first += ROWS) {
    block.rows = rq_min_i32(ROWS, e->count - block.first);
    const float *rows = e->rows + (size_t)block.first * (size_t)e->width;
    for (int32_t begin = 0; begin < e->width; begin += TOKENS) {
      int32_t tokens = rq_min_i32(TOKENS, e->width - begin);
      for (int32_t r = 0; r < ROWS; r++)
        for (int32_t t = 0; t < tokens; t++)
          block.packed[r / TILE][t][r % TILE] =
              r < block.rows ? rows[(size_t)r * (size_t)e->width + (size_t)(begin + t)] : 0.0f;
      total += add(e, &block, begin, tokens);
    }
  }
  return total;
}

int32_t RQ_EXPORT rq_moment_energy(rq_error *error, const float *moment, const float *rows, int32_t count,
                                   int32_t width, double *out) {
  const energy e = {moment, rows, count, width};
  if (width < 1 || count < 0) {
    rq_fail(error, RQ_E_ARGUMENT, "energy of rows");
    rq_expected(error, "a width of at least 1 and at least 0 rows");
    rq_actual(error, "width %d, %d rows", width, count);
    return RQ_E_ARGUMENT;
  }
  uint32_t saved = rq_fp_enter();
  *out = energy_of(&e);
  rq_fp_leave(saved);
  return RQ_OK;
}
