/* attention.c: RoPE, the KV cache and grouped-query attention. For one query: the exact maximum of
 * all scores, exp of the differences, their sum in 16 lanes, and values weighted key by key in blocks
 * of RQ_KEY_BLOCK. The order depends on the query's position alone, so that batches change nothing. */
#include "../base/math.h"
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

static void rotate_all(rq_model *model, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  int32_t pairs = i->rope_width / 2, width = model->hyper.key_width;
  bool neox = i->rope_neox != 0;
  for (int32_t t = 0; t < tokens; t++) {
    size_t at = (size_t)(model->position + t) * (size_t)pairs;
    const float *cosine = model->rope_cos + at, *sine = model->rope_sin + at;
    for (int32_t h = 0; h < i->heads; h++)
      rotate(model->query + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)width, cosine, sine, pairs,
             neox);
    for (int32_t h = 0; h < i->kv_heads; h++)
      rotate(model->key + ((size_t)t * (size_t)i->kv_heads + (size_t)h) * (size_t)width, cosine, sine, pairs,
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

/* Finite f16 to f32, exactly and without a branch: normal numbers get another exponent, subnormal
 * ones are their integer minus the implied bit. */
static float widen(uint16_t h) {
  uint32_t bits = (uint32_t)(h & 0x7FFFu) << 13, sign = (uint32_t)(h & 0x8000u) << 16;
  uint32_t normal = bits + (112u << 23), raised = bits + (113u << 23), subnormal;
  float value;
  __builtin_memcpy(&value, &raised, sizeof value);
  value = value - 0x1p-14f;
  __builtin_memcpy(&subnormal, &value, sizeof value);
  uint32_t is_subnormal = 0u - (uint32_t)(bits < (1u << 23));
  uint32_t result = sign | (normal & ~is_subnormal) | (subnormal & is_subnormal);
  __builtin_memcpy(&value, &result, sizeof value);
  return value;
}

/* Rows [first, last) as f32: in place, or widened into `buffer` (RQ_KEY_BLOCK, width). */
static const float *load(const cache_view *view, int32_t first, int32_t last, float *buffer) {
  size_t at = (size_t)first * (size_t)view->width, n = (size_t)(last - first) * (size_t)view->width;
  if (view->f32) return (const float *)(const void *)view->data + at;
  const uint16_t *in = (const uint16_t *)(const void *)view->data + at;
  for (size_t i = 0; i < n; i++) buffer[i] = widen(in[i]);
  return buffer;
}

static int32_t store_all(rq_error *error, rq_model *model, int32_t layer, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  int32_t kw = model->hyper.key_width, vw = model->hyper.value_width;
  bool fits = true;
  for (int32_t h = 0; h < i->kv_heads; h++) {
    cache_view keys = view_of(model, model->keys, kw, layer, h);
    cache_view values = view_of(model, model->values, vw, layer, h);
    for (int32_t t = 0; t < tokens; t++) {
      size_t at = (size_t)t * (size_t)i->kv_heads + (size_t)h;
      fits &= store(&keys, model->position + t, model->key + at * (size_t)kw);
      fits &= store(&values, model->position + t, model->value + at * (size_t)vw);
    }
  }
  if (fits) return RQ_OK;
  rq_fail(error, RQ_E_NONFINITE, "layer %d, attention", layer);
  rq_expected(error, "keys and values within the range of f16");
  rq_actual(error, "a magnitude above 65504");
  rq_hint(error, "open the model with an f32 KV cache, and verify the file");
  return RQ_E_NONFINITE;
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

static void add_values_simd(float *total, const float *rows, const float *p, int32_t keys, int32_t width) {
  int32_t d = 0;
  for (; d + 16 <= width; d += 16) {
    rq_vec_value s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    for (int32_t j = 0; j < keys; j++) {
      const rq_vec *row = (const rq_vec *)(rows + (size_t)j * (size_t)width + d);
      s0 = s0 + row[0] * p[j];
      s1 = s1 + row[1] * p[j];
      s2 = s2 + row[2] * p[j];
      s3 = s3 + row[3] * p[j];
    }
    rq_vec *out = (rq_vec *)(total + d);
    out[0] = out[0] + s0;
    out[1] = out[1] + s1;
    out[2] = out[2] + s2;
    out[3] = out[3] + s3;
  }
  for (; d + 4 <= width; d += 4) {
    rq_vec_value sum = {0};
    for (int32_t j = 0; j < keys; j++)
      sum = sum + *(const rq_vec *)(rows + (size_t)j * (size_t)width + d) * p[j];
    *(rq_vec *)(total + d) = *(rq_vec *)(total + d) + sum;
  }
  for (; d < width; d++) {
    float sum = 0.0f;
    for (int32_t j = 0; j < keys; j++) sum = sum + p[j] * rows[(size_t)j * (size_t)width + (size_t)d];
    total[d] = total[d] + sum;
  }
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

/* The attention of one kv head and the query heads that share it, for every token of the step. */
static void attend_head(rq_model *model, int32_t layer, int32_t head, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  int32_t kw = model->hyper.key_width, vw = model->hyper.value_width;
  int32_t group = i->heads / i->kv_heads, queries = tokens * group, all = model->position + tokens;
  size_t context = (size_t)i->context_tokens;
  float scale = 1.0f / rq_sqrtf((float)kw);
  cache_view keys = view_of(model, model->keys, kw, layer, head);
  cache_view values = view_of(model, model->values, vw, layer, head);

  /* query n belongs to token n / group and to head head * group + n % group */
  for (int32_t first = 0; first < all; first += RQ_KEY_BLOCK) {
    int32_t last = rq_min_i32(all, first + RQ_KEY_BLOCK);
    const float *rows = load(&keys, first, last, model->key_block);
    for (int32_t n = 0; n < queries; n++) {
      int32_t t = n / group, h = head * group + n % group;
      int32_t visible = rq_min_i32(last, model->position + t + 1);
      const float *query = model->query + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)kw;
      float *scores = model->scores + (size_t)n * context;
      int32_t j = first;
      if (model->variant != RQ_SCALAR)
        for (; j + 4 <= visible; j += 4)
          rq_dot_four(query, rows + (size_t)(j - first) * (size_t)kw, kw, scale, scores + j);
      for (; j < visible; j++)
        scores[j] = rq_dot_f32(query, rows + (size_t)(j - first) * (size_t)kw, kw, model->variant) * scale;
    }
  }
  for (int32_t n = 0; n < queries; n++) {
    int32_t t = n / group, h = head * group + n % group;
    float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
    model->inverses[n] = soften(model->scores + (size_t)n * context, model->position + t + 1, model->variant);
    rq_zero(out, (size_t)vw * sizeof(float));
  }
  for (int32_t first = 0; first < all; first += RQ_KEY_BLOCK) {
    int32_t last = rq_min_i32(all, first + RQ_KEY_BLOCK);
    const float *rows = load(&values, first, last, model->key_block);
    for (int32_t n = 0; n < queries; n++) {
      int32_t t = n / group, h = head * group + n % group;
      int32_t visible = rq_min_i32(last, model->position + t + 1) - first;
      if (visible <= 0) continue;
      float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
      const float *p = model->scores + (size_t)n * context + first;
      if (model->variant == RQ_SCALAR)
        add_values_scalar(out, rows, p, visible, vw);
      else
        add_values_simd(out, rows, p, visible, vw);
    }
  }
  for (int32_t n = 0; n < queries; n++) {
    int32_t t = n / group, h = head * group + n % group;
    float *out = model->attended + ((size_t)t * (size_t)i->heads + (size_t)h) * (size_t)vw;
    for (int32_t d = 0; d < vw; d++) out[d] = out[d] * model->inverses[n];
  }
}

int32_t rq_attend(rq_error *error, rq_model *model, int32_t layer, int32_t tokens) {
  rotate_all(model, tokens);
  int32_t code = store_all(error, model, layer, tokens);
  if (code < 0) return code;
  for (int32_t h = 0; h < model->hyper.info.kv_heads; h++) attend_head(model, layer, h, tokens);
  return RQ_OK;
}
