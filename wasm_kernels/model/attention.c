/* attention.c: RoPE, the KV cache and grouped-query attention. For one query: the exact maximum of
 * all scores, exp of the differences, their sum in 16 lanes, and values weighted key by key in blocks
 * of RQ_KEY_BLOCK. The order depends on the query's position alone, so that batches change nothing. */
#include "../base/math.h"
#include "attention_avx2.h"
#include "attention_simd.h"
#include "lanes.h"
#include "model.h"

/* ---- RoPE ---- */

void rq_rope_table(const rq_weights *weights, const rq_hyper *hyper, float *cosine, float *sine) {
  const rq_model_info *i = &hyper->info;
  int32_t pairs = i->rope_width / 2;
  for (int32_t p = 0; p < pairs; p++) {
    double frequency = rq_pow((double)i->rope_base, -2.0 * (double)p / (double)i->rope_width);
    if (weights->rope_factors) frequency /= (double)rq_load_f32(weights->rope_factors + 4 * (size_t)p);
    frequency *= (double)i->rope_scale;
    for (int32_t t = 0; t < i->context_tokens; t++) {
      double angle = (double)t * frequency;
      size_t at = (size_t)t * (size_t)pairs + (size_t)p;
      cosine[at] = rq_cosf(angle);
      sine[at] = rq_sinf(angle);
    }
  }
}

/* Rotates one head; neighbours are a pair, or with `neox` elements half the width apart. */
static void rotate(float *head, const float *cosine, const float *sine, int32_t pairs, bool neox) {
  int32_t step = neox ? 1 : 2, apart = neox ? pairs : 1;
  for (int32_t p = 0; p < pairs; p++) {
    float *a = head + p * step, *b = a + apart;
    float x = *a, y = *b;
    *a = x * cosine[p] - y * sine[p];
    *b = x * sine[p] + y * cosine[p];
  }
}

/* One kv head's keys and the queries that read it, for every token of the step. */
static void rotate_head(rq_model *model, int32_t head, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  int32_t pairs = i->rope_width / 2, width = model->hyper.key_width, group = i->heads / i->kv_heads;
  bool neox = i->rope_neox != 0;
  for (int32_t t = 0; t < tokens; t++) {
    size_t at = (size_t)(model->position + t) * (size_t)pairs;
    const float *cosine = model->rope_cos + at, *sine = model->rope_sin + at;
    for (int32_t h = head * group; h < (head + 1) * group; h++)
      rotate(model->query + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)width, cosine, sine, pairs,
             neox);
    rotate(model->key + ((size_t)t * (size_t)i->kv_heads + (size_t)head) * (size_t)width, cosine, sine, pairs,
           neox);
  }
}

/* ---- KV cache ---- */

/* One side of the cache, keys or values: a head's part of a layer. */
typedef struct cache_view {
  uint8_t *data; /* (context, width) */
  int32_t width;
  bool f32;
} cache_view;

static cache_view view_of(rq_model *model, uint8_t *cache, int32_t width, int32_t layer, int32_t head) {
  const rq_model_info *i = &model->hyper.info;
  bool f32 = (model->hyper.flags & RQ_MODEL_KV_F32) != 0;
  size_t rows = ((size_t)layer * (size_t)i->kv_heads + (size_t)head) * (size_t)i->context_tokens;
  cache_view view = {cache + rows * (size_t)width * (f32 ? 4 : 2), width, f32};
  return view;
}

/* Stores one row; false when an f16 can't hold a value. */
static bool store(const cache_view *view, int32_t position, const float *x) {
  size_t at = (size_t)position * (size_t)view->width;
  if (view->f32) {
    rq_copy(view->data + at * 4, x, (size_t)view->width * 4);
    return true;
  }
  uint16_t *out = (uint16_t *)(void *)view->data + at;
  uint32_t bad = 0;
  for (int32_t d = 0; d < view->width; d++) {
    out[d] = rq_f32_to_f16(x[d]);
    bad |= (out[d] & 0x7C00u) == 0x7C00u;
  }
  return bad == 0;
}

/* Finite f16 to f32, exactly: sign, exponent and fraction to their places make a f32 that is too small by
 * 2^112. */
static float widen(uint16_t h) {
  uint32_t bits = (uint32_t)(h & 0x8000u) << 16 | (uint32_t)(h & 0x7FFFu) << 13;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value * 0x1p112f;
}

#if RQ_HAVE_X86
/* Whether the loops for AVX2 run: they take whole vectors only. */
static bool wide_loops(const rq_model *model, int32_t width) {
  return rq_has_avx2(model->variant) && width % 16 == 0;
}
#endif

/* Rows [first, last) as f32: in place, or widened into `buffer` (RQ_KEY_BLOCK, width). */
static const float *load(const rq_model *model, const cache_view *view, int32_t first, int32_t last,
                         float *buffer) {
  size_t at = (size_t)first * (size_t)view->width, n = (size_t)(last - first) * (size_t)view->width;
  if (view->f32) return (const float *)(const void *)view->data + at;
  const uint16_t *in = (const uint16_t *)(const void *)view->data + at;
  size_t done = 0;
#if RQ_HAVE_X86
  if (wide_loops(model, view->width)) {
    rq_widen_avx2(in, buffer, n);
    return buffer;
  }
#endif
  if (model->variant != RQ_SCALAR) done = rq_widen_simd(in, buffer, n);
  for (size_t i = done; i < n; i++) buffer[i] = widen(in[i]);
  return buffer;
}

/* Stores a kv head's keys and values of the step; false when one doesn't fit. */
static bool store_head(rq_model *model, int32_t layer, int32_t head, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  int32_t kw = model->hyper.key_width, vw = model->hyper.value_width;
  cache_view keys = view_of(model, model->keys, kw, layer, head);
  cache_view values = view_of(model, model->values, vw, layer, head);
  bool fits = true;
  for (int32_t t = 0; t < tokens; t++) {
    size_t at = (size_t)t * (size_t)i->kv_heads + (size_t)head;
    fits &= store(&keys, model->position + t, model->key + at * (size_t)kw);
    fits &= store(&values, model->position + t, model->value + at * (size_t)vw);
  }
  return fits;
}

/* ---- attention ---- */

/* Adds p[j] * rows[j] to total, for one block of keys: the block's own sum first. */
static void add_values_scalar(float *total, const float *rows, const float *p, int32_t keys, int32_t width) {
  for (int32_t d = 0; d < width; d++) {
    float sum = 0.0f;
    for (int32_t j = 0; j < keys; j++) sum = sum + p[j] * rows[(size_t)j * (size_t)width + (size_t)d];
    total[d] = total[d] + sum;
  }
}

/* For `count` queries of one token: totals lie `width` apart, weights `stride`. */
static void add_values(const rq_model *model, float *totals, const float *rows, const float *p, size_t stride,
                       int32_t count, int32_t keys, int32_t width) {
#if RQ_HAVE_X86
  if (wide_loops(model, width)) {
    for (int32_t n = 0; n < count; n++)
      rq_add_values_avx2(totals + (size_t)n * (size_t)width, rows, p + (size_t)n * stride, keys, width);
    return;
  }
#endif
  if (model->variant != RQ_SCALAR) {
    rq_add_values_simd(totals, rows, p, stride, count, keys, width);
    return;
  }
  for (int32_t n = 0; n < count; n++)
    add_values_scalar(totals + (size_t)n * (size_t)width, rows, p + (size_t)n * stride, keys, width);
}

static void dot_four(const rq_model *model, const float *query, const float *rows, int32_t width, float scale,
                     float *out) {
#if RQ_HAVE_X86
  if (wide_loops(model, width)) {
    rq_dot_four_avx2(query, rows, width, scale, out);
    return;
  }
#endif
  (void)model;
  rq_dot_four_simd(query, rows, width, scale, out);
}

/* Scores to weights in place: exp(score - maximum); returns 1 / their sum. */
static float soften(float *scores, int32_t keys, int32_t variant) {
  float maximum = scores[0];
  for (int32_t j = 1; j < keys; j++) maximum = rq_max_f32(maximum, scores[j]);
  for (int32_t j = 0; j < keys; j++) scores[j] = scores[j] - maximum;
  if (variant == RQ_SCALAR)
    for (int32_t j = 0; j < keys; j++) scores[j] = rq_expf(scores[j]);
  else
    rq_expf_each(scores, keys);
  return 1.0f / rq_sum_f32(scores, keys);
}

/* What a thread needs for itself. */
typedef struct attention_scratch {
  float *scores;   /* (queries of a kv head, context) */
  float *inverses; /* (queries of a kv head) */
  float *block;    /* (RQ_KEY_BLOCK, max(key_width, value_width)) */
} attention_scratch;

/* Queries [from, to) of those that read one kv head: query n belongs to token n / group and to head
 * head * group + n % group. Threads share out queries; nothing within one is split. */
static void attend_queries(rq_model *model, int32_t layer, int32_t head, int32_t from, int32_t to,
                           const attention_scratch *scratch) {
  const rq_model_info *i = &model->hyper.info;
  int32_t kw = model->hyper.key_width, vw = model->hyper.value_width;
  int32_t group = i->heads / i->kv_heads, all = model->position + (to - 1) / group + 1;
  size_t context = (size_t)i->context_tokens;
  float scale = 1.0f / rq_sqrtf((float)kw);
  cache_view keys = view_of(model, model->keys, kw, layer, head);
  cache_view values = view_of(model, model->values, vw, layer, head);

  for (int32_t first = 0; first < all; first += RQ_KEY_BLOCK) {
    int32_t last = rq_min_i32(all, first + RQ_KEY_BLOCK);
    const float *rows = load(model, &keys, first, last, scratch->block);
    for (int32_t n = from; n < to; n++) {
      int32_t t = n / group, h = head * group + n % group;
      int32_t visible = rq_min_i32(last, model->position + t + 1);
      const float *query = model->query + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)kw;
      float *scores = scratch->scores + (size_t)n * context;
      int32_t j = first;
      if (model->variant != RQ_SCALAR)
        for (; j + 4 <= visible; j += 4)
          dot_four(model, query, rows + (size_t)(j - first) * (size_t)kw, kw, scale, scores + j);
      for (; j < visible; j++)
        scores[j] = rq_dot_f32(query, rows + (size_t)(j - first) * (size_t)kw, kw, model->variant) * scale;
    }
  }
  for (int32_t n = from; n < to; n++) {
    int32_t t = n / group, h = head * group + n % group;
    float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
    scratch->inverses[n] =
        soften(scratch->scores + (size_t)n * context, model->position + t + 1, model->variant);
    rq_zero(out, (size_t)vw * sizeof(float));
  }
  for (int32_t first = 0; first < all; first += RQ_KEY_BLOCK) {
    int32_t last = rq_min_i32(all, first + RQ_KEY_BLOCK);
    const float *rows = load(model, &values, first, last, scratch->block);
    for (int32_t n = from, next; n < to; n = next) {
      int32_t t = n / group, h = head * group + n % group;
      int32_t visible = rq_min_i32(last, model->position + t + 1) - first;
      next = rq_min_i32(to, (t + 1) * group); /* those of one token see the same keys */
      if (visible <= 0) continue;
      float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
      const float *p = scratch->scores + (size_t)n * context + first;
      add_values(model, out, rows, p, context, next - n, visible, vw);
    }
  }
  for (int32_t n = from; n < to; n++) {
    int32_t t = n / group, h = head * group + n % group;
    float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
    for (int32_t d = 0; d < vw; d++) out[d] = out[d] * scratch->inverses[n];
  }
}

/* ---- as jobs ---- */

typedef struct attention_job {
  rq_model *model;
  int32_t layer, tokens;
  int32_t whole; /* kv heads that aren't cut */
  int32_t parts; /* that the queries of each of the others are cut into */
  rq_inputs_job *reader;
  _Atomic uint32_t overflow; /* a key or value was beyond f16 */
} attention_job;

static void prepare_heads(void *data, int32_t first, int32_t last, int32_t thread) {
  attention_job *job = data;
  (void)thread;
  for (int32_t head = first; head < last; head++) {
    rotate_head(job->model, head, job->tokens);
    if (!store_head(job->model, job->layer, head, job->tokens))
      atomic_store_explicit(&job->overflow, 1, memory_order_relaxed);
  }
}

/* With more threads than kv heads the scratch memory of scores is a head's, otherwise a thread's. */
static attention_scratch scratch_of(rq_model *model, int32_t head, int32_t thread) {
  const rq_hyper *h = &model->hyper;
  const rq_model_info *i = &h->info;
  size_t queries = (size_t)i->batch_tokens * (size_t)(i->heads / i->kv_heads);
  size_t slot = (size_t)(h->threads < i->kv_heads ? thread : head);
  size_t block = RQ_KEY_BLOCK * (size_t)rq_max_i32(h->key_width, h->value_width);
  attention_scratch scratch = {model->scores + slot * queries * (size_t)i->context_tokens,
                               model->inverses + slot * queries, model->key_block + (size_t)thread * block};
  return scratch;
}

static void attend_parts(void *data, int32_t first, int32_t last, int32_t thread) {
  const attention_job *job = data;
  const rq_model_info *i = &job->model->hyper.info;
  int32_t group = i->heads / i->kv_heads, queries = job->tokens * group;
  int32_t width = job->model->hyper.value_width;
  for (int32_t unit = first; unit < last; unit++) {
    bool whole = unit < job->whole;
    int32_t head = whole ? unit : job->whole + (unit - job->whole) / job->parts;
    int32_t part = whole ? 0 : (unit - job->whole) % job->parts, parts = whole ? 1 : job->parts;
    attention_scratch scratch = scratch_of(job->model, head, thread);
    int32_t from = (int32_t)((int64_t)queries * part / parts);
    int32_t to = (int32_t)((int64_t)queries * (part + 1) / parts);
    attend_queries(job->model, job->layer, head, from, to, &scratch);
    RQ_LAP_ALONE(job->model, RQ_OP_ATTENTION);
    if (job->reader) rq_inputs_done(job->reader, (head * group + from) * width, (head * group + to) * width);
  }
}

/* Every part reads the head's keys and values again, so that only those heads are cut that don't go evenly
 * into the threads; for a batch, where that is little beside the rest, all. */
static void cut_heads(attention_job *job) {
  const rq_model_info *i = &job->model->hyper.info;
  int32_t threads = rq_pool_threads(job->model->pool), queries = job->tokens * (i->heads / i->kv_heads);
  job->whole = job->tokens > 1 || threads > i->kv_heads ? 0 : i->kv_heads - i->kv_heads % threads;
  int32_t cut = i->kv_heads - job->whole, units = job->whole > 0 ? threads : 2 * threads;
  job->parts = threads == 1 || cut == 0 ? 1 : rq_min_i32(queries, (units + cut - 1) / cut);
}

static int32_t too_large(rq_error *error, int32_t layer) {
  rq_fail(error, RQ_E_NONFINITE, "layer %d, attention", layer);
  rq_expected(error, "keys and values within the range of f16");
  rq_actual(error, "a magnitude above 65504");
  rq_hint(error, "open the model with an f32 KV cache, and verify the file");
  return RQ_E_NONFINITE;
}

/* One number rotated and stored, or read by a query, in multiplications of a product. */
enum { PREPARE_WORK = 32, ATTENTION_WORK = 4 };

int32_t rq_attend(rq_error *error, rq_model *model, int32_t layer, int32_t tokens, rq_inputs_job *reader) {
  const rq_model_info *i = &model->hyper.info;
  rq_pool *pool = model->pool;
  int32_t group = i->heads / i->kv_heads, width = model->hyper.key_width + model->hyper.value_width;
  attention_job job = {model, layer, tokens, i->kv_heads, 1, reader, 0};
  uint64_t numbers = (uint64_t)tokens * (uint64_t)width * (uint64_t)(group + 1) / 2;
  rq_pool_run(pool, prepare_heads, &job, i->kv_heads, numbers * PREPARE_WORK);
  if (atomic_load_explicit(&job.overflow, memory_order_relaxed)) return too_large(error, layer);
  RQ_LAP(model, RQ_OP_ROPE);

  cut_heads(&job);
  int32_t units = job.whole + (i->kv_heads - job.whole) * job.parts;
  uint64_t numbers_read = (uint64_t)(model->position + tokens) * (uint64_t)width;
  uint64_t all = numbers_read * (uint64_t)(tokens * i->heads) * ATTENTION_WORK;
  rq_pool_run(pool, attend_parts, &job, units, all / (uint64_t)units);
  RQ_LAP(model, RQ_OP_ATTENTION);
  return RQ_OK;
}
