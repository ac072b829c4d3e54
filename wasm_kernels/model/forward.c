/* forward.c: one step of a model: embedding, then in each layer attention and SwiGLU, each
 * behind an RMS norm and added to the residual stream, then the logits. Every token's numbers are the
 * same whether it comes alone or in a batch. */
#include "../base/math.h"
#include "lanes.h"
#include "model.h"

/* out = x / rms(x) * weight for every row of (rows, width); `out` may be x */
static void rms_norm(const rq_model *model, const float *weight, const float *x, int32_t rows, int32_t width,
                     float *out) {
  for (int32_t r = 0; r < rows; r++, x += width, out += width) {
    float mean = rq_dot_f32(x, x, width, model->variant) / (float)width;
    float factor = 1.0f / rq_sqrtf(mean + model->hyper.info.rms_epsilon);
    for (int32_t i = 0; i < width; i++) out[i] = x[i] * factor * weight[i];
  }
}

/* gate <- silu(gate) * up */
static void swiglu(float *gate, const float *up, size_t count, int32_t variant) {
  if (variant == RQ_SCALAR) {
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1.0f + rq_expf(-gate[i])) * up[i];
    return;
  }
  enum { PIECE = 64 };
  float e[PIECE];
  for (size_t i = 0; i < count; i += PIECE) {
    int32_t n = (int32_t)(count - i < PIECE ? count - i : PIECE);
    for (int32_t l = 0; l < n; l++) e[l] = -gate[i + (size_t)l];
    rq_expf_each(e, n);
    float *g = gate + i;
    const float *u = up + i;
    for (int32_t l = 0; l < n; l++) g[l] = g[l] / (1.0f + e[l]) * u[l];
  }
}

/* Rows of the embedding, back from the transform where the file holds them so. */
static void embed(rq_model *model, int32_t tokens) {
  const rq_matrix *w = &model->weights.embedding;
  for (int32_t t = 0; t < tokens; t++) {
    float *x = model->x + (size_t)t * (size_t)w->width;
    size_t token = (size_t)model->tokens[model->position + t];
    w->format->decode(w->data + token * (size_t)w->row_bytes, w->width, x, model->variant);
    if (w->turned) rq_turn(model, x, 0, w->width, true);
  }
  RQ_LAP(model, RQ_OP_EMBEDDING);
}

/* Every failure inside a layer names it. */
static int32_t fail_in_layer(rq_error *error, int32_t layer, const char *part) {
  rq_fail(error, RQ_E_NONFINITE, "layer %d, %s", layer, part);
  rq_expected(error, "finite activations");
  rq_actual(error, "NaN or infinity");
  rq_hint(error, "the weights are damaged or too large: verify the file");
  return RQ_E_NONFINITE;
}

/* From queries, keys and values to the residual stream. */
static int32_t attend(rq_error *error, rq_model *model, int32_t n, int32_t tokens) {
  const rq_matrix *matrix = &model->weights.layers[n].attention_out;
  rq_needs needs = {false, false, false, false};
  rq_needs_add(&needs, matrix);
  rq_inputs_job reader;
  rq_inputs_begin(&reader, model, &model->inputs, model->attended, tokens, matrix->width, needs);
  int32_t code = rq_attend(error, model, n, tokens, tokens == 1 ? &reader : NULL);
  if (code < 0) return code;
  if (rq_collect(model, RQ_INPUT_ATTENTION_OUT, model->attended, tokens)) return RQ_OK;
  code = tokens == 1 ? rq_inputs_code(&reader)
                     : rq_inputs_set(model, model->attended, tokens, matrix->width, needs);
  if (code < 0) return fail_in_layer(error, n, "attention");
  const rq_product product = {matrix, model->branch, model->x};
  rq_multiply(model, &model->inputs, &product, 1, tokens);
  return RQ_OK;
}

static int32_t attention(rq_error *error, rq_model *model, int32_t n, int32_t tokens) {
  const rq_layer *layer = &model->weights.layers[n];
  const rq_model_info *i = &model->hyper.info;
  rms_norm(model, layer->attention_norm, model->x, tokens, i->width, model->normed);
  if (rq_collect(model, RQ_INPUT_ATTENTION, model->normed, tokens)) return RQ_OK;
  RQ_LAP(model, RQ_OP_NORM);
  rq_needs needs = {false, false, false, false};
  rq_needs_add(&needs, &layer->query);
  rq_needs_add(&needs, &layer->key);
  rq_needs_add(&needs, &layer->value);
  if (rq_inputs_set(model, model->normed, tokens, i->width, needs) < 0)
    return fail_in_layer(error, n, "attention input");
  const rq_product products[] = {{&layer->query, model->query, NULL},
                                 {&layer->key, model->key, NULL},
                                 {&layer->value, model->value, NULL}};
  rq_multiply(model, &model->inputs, products, RQ_COUNT(products), tokens);
  int32_t kw = model->hyper.key_width;
  if (layer->query_norm)
    rms_norm(model, layer->query_norm, model->query, tokens * i->heads, kw, model->query);
  if (layer->key_norm) rms_norm(model, layer->key_norm, model->key, tokens * i->kv_heads, kw, model->key);
  RQ_LAP(model, RQ_OP_NORM);
  return attend(error, model, n, tokens);
}

typedef struct gated_job {
  rq_model *model;
  rq_product gate, up;
  int32_t tokens;
  rq_inputs_job *reader; /* is told what is there, unless NULL */
} gated_job;

/* Both products and the gate for units of rows. */
static void multiply_gated_units(void *data, int32_t first, int32_t last, int32_t thread) {
  const gated_job *job = data;
  int32_t rows = job->gate.matrix->rows, from = first * RQ_UNIT_ROWS;
  int32_t to = rq_min_i32(last * RQ_UNIT_ROWS, rows);
  (void)thread;
  rq_multiply_rows(job->model, &job->model->inputs, &job->gate, job->tokens, from, to);
  RQ_LAP_ALONE(job->model, RQ_OP_GATE);
  rq_multiply_rows(job->model, &job->model->inputs, &job->up, job->tokens, from, to);
  RQ_LAP_ALONE(job->model, RQ_OP_UP);
  for (int32_t t = 0; t < job->tokens; t++) {
    size_t at = (size_t)t * (size_t)rows + (size_t)from;
    swiglu(job->gate.y + at, job->up.y + at, (size_t)(to - from), job->model->variant);
  }
  RQ_LAP_ALONE(job->model, RQ_OP_SWIGLU);
  if (job->reader) rq_inputs_done(job->reader, from, to);
}

/* gate <- silu(gate x) * (up x) */
static void multiply_gated(rq_model *model, const rq_layer *layer, int32_t tokens, rq_inputs_job *reader) {
  const rq_product gate = {&layer->gate, model->gate, NULL}, up = {&layer->up, model->up, NULL};
  rq_adapters_begin(model, &model->inputs, &gate, 1, tokens);
  rq_adapters_begin(model, &model->inputs, &up, 1, tokens);
  gated_job job = {model, gate, up, tokens, reader};
  int32_t units = (layer->gate.rows + RQ_UNIT_ROWS - 1) / RQ_UNIT_ROWS;
  uint64_t work = 2 * (uint64_t)tokens * RQ_UNIT_ROWS * (uint64_t)layer->gate.width;
  rq_pool_run(model->pool, multiply_gated_units, &job, units, work);
  RQ_LAP(model, RQ_OP_GATE); /* with a pool: up, SwiGLU and the next activations too */
}

static int32_t feed_forward(rq_error *error, rq_model *model, int32_t n, int32_t tokens) {
  const rq_layer *layer = &model->weights.layers[n];
  const rq_model_info *i = &model->hyper.info;
  rms_norm(model, layer->ff_norm, model->x, tokens, i->width, model->normed);
  if (rq_collect(model, RQ_INPUT_FF, model->normed, tokens)) return RQ_OK;
  RQ_LAP(model, RQ_OP_NORM);
  rq_needs needs = {false, false, false, false};
  rq_needs_add(&needs, &layer->gate);
  rq_needs_add(&needs, &layer->up);
  if (rq_inputs_set(model, model->normed, tokens, i->width, needs) < 0)
    return fail_in_layer(error, n, "feed-forward input");
  rq_needs out = {false, false, false, false};
  rq_needs_add(&out, &layer->down);
  rq_inputs *inputs = tokens == 1 ? &model->gated_inputs : &model->inputs;
  rq_inputs_job reader;
  int32_t code;
  if (tokens == 1) {
    rq_inputs_begin(&reader, model, inputs, model->gate, 1, i->ff_width, out);
    multiply_gated(model, layer, 1, &reader);
    code = rq_inputs_code(&reader);
  } else {
    multiply_gated(model, layer, tokens, NULL);
    code = rq_inputs_set(model, model->gate, tokens, i->ff_width, out);
  }
  if (code < 0) return fail_in_layer(error, n, "feed-forward");
  if (rq_collect(model, RQ_INPUT_DOWN, model->gate, tokens)) return RQ_OK;
  const rq_product product = {&layer->down, model->branch, model->x};
  rq_multiply(model, inputs, &product, 1, tokens);
  return RQ_OK;
}

static void hash(rq_model *model, int32_t entry, const float *x, size_t count) {
  if (model->hashes) model->hashes[entry] = rq_hash_floats(model->hashes[entry], x, count);
}

/* Logits of `tokens` tokens of the step from `first` on, into the first rows of `logits`. */
static int32_t compute_logits(rq_error *error, rq_model *model, int32_t first, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  size_t count = (size_t)tokens * (size_t)i->vocab_size;
  const float *x = model->x + (size_t)first * (size_t)i->width;
  rms_norm(model, model->weights.output_norm, x, tokens, i->width, model->normed);
  RQ_LAP(model, RQ_OP_NORM);
  rq_needs needs = {false, false, false, false};
  rq_needs_add(&needs, &model->weights.output);
  if (rq_inputs_set(model, model->normed, tokens, i->width, needs) < 0)
    return fail_in_layer(error, i->layers, "output norm");
  const rq_product product = {&model->weights.output, model->logits, NULL};
  rq_multiply(model, &model->inputs, &product, 1, tokens);
  for (int32_t t = 0; t < tokens; t++)
    if (!rq_all_finite(model->logits + (size_t)t * (size_t)i->vocab_size, i->vocab_size))
      return fail_in_layer(error, i->layers, "logits");
  model->logits_rows = tokens;
  hash(model, i->layers + 1, model->logits, count);
  RQ_LAP(model, RQ_OP_REST);
  return RQ_OK;
}

/* Adds the states behind the last norm to their sum. */
static int32_t sum_states(rq_error *error, rq_model *model, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  rms_norm(model, model->weights.output_norm, model->x, tokens, i->width, model->normed);
  if (!rq_all_finite(model->normed, tokens * i->width)) return fail_in_layer(error, i->layers, "output norm");
  for (int32_t t = 0; t < tokens; t++)
    for (int32_t n = 0; n < i->width; n++)
      model->state_sum[n] += (double)model->normed[(size_t)t * (size_t)i->width + (size_t)n];
  model->states += tokens;
  return RQ_OK;
}

/* All rows, or only the last: a prompt's other logits are computed where a hash asks for them. */
static int32_t output(rq_error *error, rq_model *model, int32_t tokens) {
  if (model->keep_states) return sum_states(error, model, tokens);
  if (model->all_logits) return compute_logits(error, model, 0, tokens);
  if (model->hashes)
    for (int32_t t = 0; t < tokens - 1; t++) {
      int32_t code = compute_logits(error, model, t, 1);
      if (code < 0) return code;
    }
  if (!model->hashes && model->position + tokens < model->fed) return RQ_OK;
  return compute_logits(error, model, tokens - 1, 1);
}

#if !defined(__wasm__)
/* One layer, or behind the last the output's norm; see collect.c. */
static int32_t stage_forward(rq_error *error, rq_model *model, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  size_t count = (size_t)tokens * (size_t)i->width, at = (size_t)model->position * (size_t)i->width;
  int32_t n = model->stage_layer;
  if (n == 0)
    embed(model, tokens);
  else
    rq_copy(model->x, model->stage_rows + at, count * sizeof(float));
  if (n == i->layers) {
    rms_norm(model, model->weights.output_norm, model->x, tokens, i->width, model->normed);
    rq_collect(model, RQ_INPUT_OUTPUT, model->normed, tokens);
    return rq_all_finite(model->normed, (int32_t)count) ? RQ_OK : fail_in_layer(error, n, "output norm");
  }
  int32_t code = attention(error, model, n, tokens);
  if (code < 0 || model->stage_until < RQ_INPUT_FF) return code;
  if ((code = feed_forward(error, model, n, tokens)) < 0 || model->stage_until < RQ_INPUT_RESIDUAL)
    return code;
  if (!rq_all_finite(model->x, (int32_t)count)) return fail_in_layer(error, n, "output");
  rq_copy(model->stage_rows + at, model->x, count * sizeof(float));
  return RQ_OK;
}
#endif

int32_t rq_forward(rq_error *error, rq_model *model, int32_t tokens) {
  const rq_model_info *i = &model->hyper.info;
  size_t count = (size_t)tokens * (size_t)i->width;
  model->logits_rows = 0;
#if !defined(__wasm__)
  if (model->stage_rows) return stage_forward(error, model, tokens);
#endif
  embed(model, tokens);
  hash(model, 0, model->x, count);
  for (int32_t n = 0; n < i->layers; n++) {
    int32_t code = attention(error, model, n, tokens);
    if (code < 0) return code;
    if ((code = feed_forward(error, model, n, tokens)) < 0) return code;
    if (!rq_all_finite(model->x, (int32_t)count)) return fail_in_layer(error, n, "output");
    hash(model, n + 1, model->x, count);
    RQ_LAP(model, RQ_OP_REST);
  }
  return output(error, model, tokens);
}
