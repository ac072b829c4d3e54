/* encode_feedback.c: rq_encode_feedback, LDLQ rounding (Chee et al., QuIP, 2023; with U from H this is GPTQ's
 * rule in natural column order). With H = (U + I) D (U + I)^T and the errors e = w - decoded(w) of a row,
 *   x_j = w_j + sum of e_i U_ij over all i before j,    decoded(w_j) = the level nearest to x_j
 * makes the error of the product, e H e^T = sum of D_j (x_j - decoded(w_j))^2, small one column at a time.
 * Blocks before the present one enter as one product for a few rows at once; inside the block the
 * format rounds one weight after the other, with the header that the plain encoder finds for x. */
#include "../base/fpenv.h"
#include "encode.h"
#include "ggml.h" /* rq_is_ggml */

enum { ROWS = 16, TILE = 32 }; /* rows that share the reading of U; its rows that stay in the cache */

typedef struct feedback {
  const rq_format *entry;
  const rq_own *own;
  rq_encode_settings settings;
  const float *factor, *pivots; /* (width, width), (width) */
  const float *importance;      /* (width): pivots, scaled */
  int32_t width, variant;
  float *scaled; /* (width) */
  float *errors; /* (ROWS, width) */
  float (*x)[RQ_BLOCK];
  rq_encode_block block;
  void *trellis;   /* rq_trellis_scratch */
  void *survivors; /* RQ_MIXED_FEEDBACK_SCRATCH, the larger one */
  void *points;    /* rq_ggml_encode_scratch */
} feedback;

static feedback *lay_out(rq_arena *arena, int32_t format, int32_t width) {
  feedback *f = rq_arena_take(arena, sizeof *f);
  float *scaled = rq_arena_take(arena, 4 * (uint64_t)width);
  float *errors = rq_arena_take(arena, 4 * ROWS * (uint64_t)width);
  float(*x)[RQ_BLOCK] = rq_arena_take(arena, 4 * ROWS * RQ_BLOCK);
  void *trellis = rq_arena_take(arena, rq_trellis_scratch(format));
  void *survivors = rq_arena_take(arena, RQ_MIXED_FEEDBACK_SCRATCH);
  void *points = rq_arena_take(arena, (uint64_t)rq_ggml_encode_scratch(format));
  if (!points) return NULL;
  f->width = width;
  f->scaled = scaled;
  f->errors = errors;
  f->x = x;
  f->trellis = trellis;
  f->survivors = survivors;
  f->points = points;
  return f;
}

/* x += e[begin, end) U, columns [start, start + r): one weight's terms in the order of i. */
static void add_terms(const feedback *f, const float *e, int32_t begin, int32_t end, int32_t start, int32_t r,
                      float *x) {
  size_t stride = (size_t)f->width;
  const float *u = f->factor + (size_t)begin * stride + (size_t)start;
  int32_t i = begin;
  for (; i + 4 <= end; i += 4, u += 4 * stride) {
    float e0 = e[i], e1 = e[i + 1], e2 = e[i + 2], e3 = e[i + 3];
    for (int32_t j = 0; j < r; j++) {
      float sum = x[j] + e0 * u[j];
      sum = sum + e1 * u[stride + (size_t)j];
      sum = sum + e2 * u[2 * stride + (size_t)j];
      x[j] = sum + e3 * u[3 * stride + (size_t)j];
    }
  }
  for (; i < end; i++, u += stride)
    for (int32_t j = 0; j < r; j++) x[j] = x[j] + e[i] * u[j];
}

/* The corrections that all blocks before `start` cause in this one. */
static void correct_block(feedback *f, int32_t rows, int32_t start, int32_t r) {
  for (int32_t i = 0; i < start; i += TILE)
    for (int32_t row = 0; row < rows; row++)
      add_terms(f, f->errors + (size_t)row * (size_t)f->width, i, rq_min_i32(i + TILE, start), start, r,
                f->x[row]);
}

/* The nearest level of each weight in turn, and what its error does to those that follow. */
static int32_t round_grid(const feedback *f, const rq_feedback_block *b, float *x, uint8_t *out) {
  const rq_grid *grid = rq_encode_grid(f->settings.format);
  uint16_t bits = rq_grid_step(&f->settings, grid, &f->block);
  float d = rq_f16_to_f32(bits);
  rq_encode_block one = {.r = 1, .padded = RQ_LANES};
  int8_t q[RQ_BLOCK] = {0}, level[RQ_LANES];
  for (int32_t i = 0; i < b->r; i++) {
    one.x[0] = x[i];
    rq_grid_levels(grid, &one, bits, level);
    q[i] = level[0];
    rq_feed_back(b, i, (float)q[i] * d, x);
  }
  return rq_pack_grid(f->settings.format, q, b->r, bits, out);
}

/* Codes under a header, and their cost; a mixed trellis has as many ways as it has. */
static float find_codes(const feedback *f, const rq_feedback_block *b, const float *x, const uint8_t *header,
                        int32_t ways, uint8_t *codes) {
  if (f->own->mixed) return rq_mixed_feedback(f->own, b, x, header, codes, f->survivors);
  return rq_trellis_feedback(f->own, b, x, header, ways, codes, f->survivors);
}

/* A search over the header of one block, by what a search for its codes with few survivors costs. */
typedef struct header_search {
  const feedback *f;
  const rq_feedback_block *b;
  const float *x;
  int32_t ways;
  uint8_t best[2];
  float least;
} header_search;

/* Takes the header when it costs less. */
static bool try_header(header_search *s, int32_t alpha, int32_t ks) {
  uint8_t codes[RQ_BLOCK], header[2] = {(uint8_t)alpha, (uint8_t)ks};
  if (alpha < 1 || alpha > RQ_ALPHA_BYTE_MAX) return false;
  float cost = find_codes(s->f, s->b, s->x, header, s->ways, codes);
  if (!(cost < s->least)) return false;
  s->least = cost;
  rq_copy(s->best, header, sizeof header);
  return true;
}

/* Downhill along alpha. */
static bool search_alpha(header_search *s) {
  int32_t before = s->best[0];
  for (int32_t side = -1; side <= 1 && s->best[0] == before; side += 2)
    while (try_header(s, s->best[0] + side, s->best[1])) continue;
  return s->best[0] != before;
}

/* The best k of each group, one group after the other. */
static bool search_ks(header_search *s) {
  bool better = false;
  int32_t group = RQ_GROUP_LANES * rq_block_steps(s->b->r);
  for (int32_t g = 0; g * group < s->b->r; g++)
    for (int32_t k = 0; k < 4; k++)
      better |= try_header(s, s->best[0], (s->best[1] & ~(3 << 2 * g)) | k << 2 * g);
  return better;
}

/* The header that suits x suits the corrected weights nearly: its neighbours in alpha are tried as well, or,
 * thoroughly, alpha and the ks until neither gets better. The widest search then finds the codes. */
static int32_t round_trellis(const feedback *f, const rq_feedback_block *b, const float *x, uint8_t *out) {
  uint8_t codes[RQ_BLOCK], header[2];
  bool thorough = f->settings.effort >= RQ_THOROUGH_EFFORT;
  rq_trellis_encode(&f->settings, f->own, &f->block, codes, header, f->trellis);
  if (header[0] == 0) return rq_pack_own(f->own, codes, b->r, header, out);
  header_search s = {f, b, x, thorough ? RQ_FEEDBACK_SOME_WAYS : 1, {0, 0}, 0x1p120f};
  try_header(&s, header[0], header[1]);
  search_alpha(&s);
  if (thorough && !f->settings.k)
    while (search_ks(&s) && search_alpha(&s)) continue;
  rq_trellis_feedback(f->own, b, x, s.best, RQ_FEEDBACK_WAYS, codes, f->survivors);
  return rq_pack_own(f->own, codes, b->r, s.best, out);
}

/* The same of a mixed trellis, whose searches take long: whole blocks have other alphas tried only
 * thoroughly. */
static int32_t round_mixed(const feedback *f, const rq_feedback_block *b, const float *x, uint8_t *out) {
  uint8_t codes[RQ_BLOCK], header[2];
  rq_encode_settings plain = f->settings;
  bool tail = b->r < RQ_BLOCK, thorough = f->settings.effort >= RQ_THOROUGH_EFFORT;
  plain.effort = rq_min_i32(plain.effort, RQ_MIXED_EFFORT);
  rq_mixed_encode(&plain, f->own, &f->block, codes, header, f->trellis);
  if (header[0] == 0) return rq_pack_own(f->own, codes, b->r, header, out);
  header_search s = {f, b, x, RQ_FEEDBACK_WAYS, {header[0], header[1]}, 0x1p120f};
  if (tail || thorough) {
    try_header(&s, header[0], header[1]);
    search_alpha(&s);
    if (tail && thorough && !f->settings.k)
      while (search_ks(&s) && search_alpha(&s)) continue;
  }
  rq_mixed_feedback(f->own, b, x, s.best, codes, f->survivors);
  return rq_pack_own(f->own, codes, b->r, s.best, out);
}

/* The bytes of a block, and how many. */
static int32_t round_block(feedback *f, const rq_feedback_block *b, float *x, uint8_t *out) {
  if (!rq_is_ggml(f->settings.format))
    return !f->own || !f->own->trellis ? round_grid(f, b, x, out)
           : f->own->mixed             ? round_mixed(f, b, x, out)
                                       : round_trellis(f, b, x, out);
  rq_ggml_encode_block(&f->settings, &f->block, b, out, f->points);
  return f->entry->info.block_bytes;
}

/* Up to ROWS rows. */
static void encode_rows(feedback *f, const float *weights, int32_t rows, uint8_t *out) {
  int32_t step = rq_min_i32(f->entry->info.block_weights, RQ_BLOCK),
          row_bytes = f->entry->row_bytes(f->width), at = 0;
  for (int32_t start = 0; start < f->width; start += step) {
    int32_t r = rq_min_i32(step, f->width - start), bytes = 0;
    for (int32_t row = 0; row < rows; row++)
      rq_copy(f->x[row], weights + (size_t)row * (size_t)f->width + start, (size_t)r * sizeof(float));
    correct_block(f, rows, start, r);
    for (int32_t row = 0; row < rows; row++) {
      const float *w = weights + (size_t)row * (size_t)f->width + start;
      const float *factor = f->factor + (size_t)start * (size_t)f->width + start;
      rq_feedback_block b = {w, f->importance + start, factor, (size_t)f->width, r, f->variant};
      uint8_t *target = out + (size_t)row * (size_t)row_bytes + at;
      rq_encode_set_block(&f->block, f->x[row], f->importance + start, r);
      bytes = round_block(f, &b, f->x[row], target);
      float decoded[RQ_BLOCK], *e = f->errors + (size_t)row * (size_t)f->width + start;
      f->entry->decode(target, r, decoded, RQ_SCALAR);
      for (int32_t i = 0; i < r; i++) e[i] = w[i] - decoded[i];
    }
    at += bytes;
  }
}

static int32_t check_factor(rq_error *error, const feedback *f) {
  for (int32_t i = 0; i < f->width; i++) {
    if (f->pivots[i] > 0.0f && f->pivots[i] < 0x1p126f) continue;
    rq_fail(error, RQ_E_ARGUMENT, "pivot %d", i);
    rq_expected(error, "a finite number above 0");
    rq_actual(error, "another");
    return RQ_E_ARGUMENT;
  }
  return RQ_OK;
}

int32_t RQ_EXPORT rq_encode_feedback_scratch(int32_t format, int32_t width) {
  int32_t row_bytes = rq_format_row_bytes(format, width);
  if (row_bytes < 0) return row_bytes;
  rq_arena arena = rq_arena_of(NULL, NULL);
  lay_out(&arena, format, width);
  return (int32_t)arena.used + 64;
}

/* Everything before the first row. */
static int32_t prepare(rq_error *error, feedback *f, const rq_format *entry, const rq_encode_options *options,
                       const float *factor, const float *pivots) {
  f->entry = entry;
  f->variant = rq_variant(RQ_SIMD);
  f->own = rq_own_of(entry->info.format);
  f->factor = factor;
  f->pivots = pivots;
  int32_t code = rq_encode_settle(error, entry, options, &f->settings);
  if (code < 0) return code;
  if ((code = check_factor(error, f)) < 0) return code;
  if ((code = rq_encode_set_importance(error, pivots, f->width, f->scaled, &f->importance)) < 0) return code;
  if (!f->importance) f->importance = pivots; /* all of them denormal */
  if (rq_is_ggml(entry->info.format)) rq_ggml_encode_begin(entry->info.format, f->points);
  return RQ_OK;
}

static RQ_NOINLINE int32_t encode_all(rq_error *error, feedback *f, const float *weights, int32_t rows,
                                      uint8_t *out) {
  size_t row_bytes = (size_t)f->entry->row_bytes(f->width), width = (size_t)f->width;
  for (int32_t r = 0; r < rows; r++) {
    int32_t code = rq_encode_check_weights(error, f->entry, weights + (size_t)r * width, f->width, r);
    if (code < 0) return code;
  }
  for (int32_t r = 0; r < rows; r += ROWS)
    encode_rows(f, weights + (size_t)r * width, rq_min_i32(ROWS, rows - r), out + (size_t)r * row_bytes);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_encode_feedback(rq_error *error, int32_t format, const rq_encode_options *options,
                                     const float *weights, const float *factor, const float *pivots,
                                     int32_t rows, int32_t width, uint8_t *out, void *scratch,
                                     void *scratch_end) {
  const rq_format *entry = rq_format_get(format);
  bool takes = entry && entry->info.writable && entry->quantized;
  if (!takes || rows < 0) {
    rq_fail(error, RQ_E_ARGUMENT, takes ? "rows" : "format");
    rq_expected(error, takes ? "at least 0" : "a format of blocks with a scale that can be written");
    rq_actual(error, "%d", takes ? rows : format);
    return RQ_E_ARGUMENT;
  }
  int32_t needed = rq_encode_feedback_scratch(format, width);
  if (needed < 0) return rq_format_refuse_width(error, needed, entry, width);
  if (!scratch || (uint8_t *)scratch_end - (uint8_t *)scratch < needed) {
    rq_fail(error, RQ_E_MEMORY, "scratch of encode");
    rq_expected(error, "%d bytes", needed);
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  rq_arena arena = rq_arena_of(begin, scratch_end);
  feedback *f = lay_out(&arena, format, width);
  uint32_t saved = rq_fp_enter();
  int32_t code = prepare(error, f, entry, options, factor, pivots);
  if (code >= 0) code = encode_all(error, f, weights, rows, out);
  rq_fp_leave(saved);
  return code;
}
