/* model.c: the exported model: measuring and laying out its memory, feeding tokens, stepping,
 * rewinding. */
#include "model.h"

#include "../base/fpenv.h"
#include "../formats/levels.h"

int32_t rq_largest_input(const rq_hyper *hyper) {
  int32_t attended = hyper->info.heads * hyper->value_width;
  return rq_max_i32(rq_max_i32(hyper->info.width, attended), hyper->info.ff_width);
}

static float *take_floats(rq_arena *arena, int32_t rows, int32_t width) {
  return rq_arena_take(arena, (uint64_t)rows * (uint64_t)width * sizeof(float));
}

static rq_activations *lay_out_activations(rq_arena *arena, int32_t batch, int32_t width) {
  rq_activations *all = rq_arena_take(arena, (uint64_t)batch * sizeof(rq_activations));
  for (int32_t t = 0; t < batch; t++) {
    rq_activations one;
    rq_activations_layout(arena, width, &one);
    if (all) all[t] = one;
  }
  return all;
}

static void lay_out_inputs(rq_arena *arena, const rq_hyper *hyper, int32_t batch, rq_inputs *out) {
  int32_t width = rq_largest_input(hyper);
  out->stride = width;
  out->left = rq_arena_take(arena, (uint64_t)(width + RQ_BLOCK - 1) / RQ_BLOCK * sizeof(_Atomic int32_t));
  out->plain = lay_out_activations(arena, batch, width);
  if (hyper->info.hadamard_tensors == 0) return;
  out->turned = lay_out_activations(arena, batch, width);
  out->turned_x = take_floats(arena, batch, width);
}

static void lay_out_buffers(rq_arena *arena, rq_model *m) {
  const rq_hyper *h = &m->hyper;
  const rq_model_info *i = &h->info;
  int32_t batch = i->batch_tokens, group = i->heads / i->kv_heads;
  m->rope_cos = take_floats(arena, i->context_tokens, i->rope_width / 2);
  m->rope_sin = take_floats(arena, i->context_tokens, i->rope_width / 2);
  m->tokens = rq_arena_take(arena, (uint64_t)i->context_tokens * sizeof(int32_t));
  m->x = take_floats(arena, batch, i->width);
  m->normed = take_floats(arena, batch, i->width);
  m->branch = take_floats(arena, batch, i->width);
  m->state_sum = rq_arena_take(arena, (uint64_t)i->width * sizeof(double));
  m->query = take_floats(arena, batch, i->heads * h->key_width);
  m->key = take_floats(arena, batch, i->kv_heads * h->key_width);
  m->value = take_floats(arena, batch, i->kv_heads * h->value_width);
  m->attended = take_floats(arena, batch, i->heads * h->value_width);
  m->gate = take_floats(arena, batch, i->ff_width);
  m->up = take_floats(arena, batch, i->ff_width);
  int32_t parallel = rq_min_i32(h->threads, i->kv_heads); /* heads that may be computed at once */
  m->scores = take_floats(arena, parallel * batch * group, i->context_tokens);
  m->inverses = take_floats(arena, parallel * batch, group);
  m->key_block = take_floats(arena, h->threads * RQ_KEY_BLOCK, rq_max_i32(h->key_width, h->value_width));
  m->logits = take_floats(arena, h->flags & RQ_MODEL_ALL_LOGITS ? batch : 1, i->vocab_size);
  if (h->flags & RQ_MODEL_HASHES) {
    m->hashes = rq_arena_take(arena, ((uint64_t)i->layers + 2) * sizeof(uint32_t));
    m->hashes_before = rq_arena_take(arena, ((uint64_t)i->layers + 2) * sizeof(uint32_t));
  }
}

static void lay_out_cache(rq_arena *arena, rq_model *m) {
  const rq_model_info *i = &m->hyper.info;
  uint64_t rows = (uint64_t)i->layers * (uint64_t)i->kv_heads * (uint64_t)i->context_tokens;
  uint64_t bytes = m->hyper.flags & RQ_MODEL_KV_F32 ? 4 : 2, before = arena->used;
  m->keys = rq_arena_take(arena, rows * (uint64_t)m->hyper.key_width * bytes);
  m->values = rq_arena_take(arena, rows * (uint64_t)m->hyper.value_width * bytes);
  m->hyper.info.kv_bytes = arena->used - before;
}

/* Reads the file and lays out the model, the rq_model itself first. While counting, *out is only read
 * for its hyper-parameters. */
static int32_t lay_out(rq_error *error, const rq_gguf *index, const uint8_t *file,
                       const rq_model_options *options, rq_arena *arena, rq_model *out) {
  rq_zero(out, sizeof *out);
  int32_t code = rq_hyper_read(error, index, file, options, &out->hyper);
  if (code < 0) return code;
  rq_arena_take(arena, sizeof(rq_model));
  if ((code = rq_weights_bind(error, index, file, &out->hyper, arena, &out->weights)) < 0) return code;
  code = rq_weights_bind_hadamard(error, index, file, &out->hyper, arena, &out->weights);
  if (code < 0) return code;
  lay_out_inputs(arena, &out->hyper, out->hyper.info.batch_tokens, &out->inputs);
  lay_out_inputs(arena, &out->hyper, 1, &out->gated_inputs);
  lay_out_buffers(arena, out);
  lay_out_cache(arena, out);
  out->hyper.info.memory_bytes = arena->used;
  out->index = index;
  out->file = file;
  out->all_logits = (out->hyper.flags & RQ_MODEL_ALL_LOGITS) != 0;
  int32_t flags = out->hyper.flags;
  out->variant = rq_variant(flags & RQ_MODEL_SCALAR    ? RQ_SCALAR
                            : flags & RQ_MODEL_SIMD128 ? RQ_SIMD128
                            : flags & RQ_MODEL_AVX2    ? RQ_AVX2
                                                       : RQ_SIMD);
  bool chosen = (flags & (RQ_MODEL_SCALAR | RQ_MODEL_SIMD128 | RQ_MODEL_AVX2)) != 0;
  for (int32_t f = 0; f < RQ_FORMAT_COUNT; f++)
    out->variant_alone[f] = chosen ? out->variant : rq_variant_alone(f, out->variant);
  return RQ_OK;
}

static const rq_model_options defaults = {0, 0, 0, 0};

static RQ_NOINLINE int32_t measure(rq_error *error, const rq_gguf *index, const uint8_t *file,
                                   const rq_model_options *options, uint64_t *bytes) {
  rq_arena arena = rq_arena_of(NULL, NULL);
  rq_model model;
  int32_t code = lay_out(error, index, file, options ? options : &defaults, &arena, &model);
  if (code == RQ_OK) *bytes = arena.used;
  return code;
}

int32_t RQ_EXPORT rq_model_measure(rq_error *error, const void *index, const uint8_t *data,
                                   const rq_model_options *options, uint64_t *bytes) {
  uint32_t saved = rq_fp_enter();
  int32_t code = measure(error, index, data, options, bytes);
  rq_fp_leave(saved);
  return code;
}

static RQ_NOINLINE int32_t open(rq_error *error, const rq_gguf *index, const uint8_t *file,
                                const rq_model_options *options, uint8_t *memory, uint8_t *memory_end) {
  uint64_t needed = 0, given = memory_end > memory ? (uint64_t)(memory_end - memory) : 0;
  int32_t code = measure(error, index, file, options, &needed);
  if (code < 0) return code;
  if (given < needed) {
    rq_fail(error, RQ_E_MEMORY, "model");
    rq_expected(error, "%U bytes, as rq_model_measure says", needed);
    rq_actual(error, "%U bytes", given);
    rq_hint(error, "give more memory, or a shorter context or batch");
    return RQ_E_MEMORY;
  }
  rq_arena arena = rq_arena_of(memory, memory_end);
  rq_model model;
  if ((code = lay_out(error, index, file, options ? options : &defaults, &arena, &model)) < 0) return code;
  rq_rope_table(&model.weights, &model.hyper, model.rope_cos, model.rope_sin);
  model.magic = RQ_MODEL_MAGIC;
  rq_copy(memory, &model, sizeof model);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_open(rq_error *error, const void *index, const uint8_t *data,
                                const rq_model_options *options, void *model, void *model_end) {
  uint32_t saved = rq_fp_enter();
  int32_t code = open(error, index, data, options, model, model_end);
  rq_fp_leave(saved);
  return code;
}

int32_t RQ_EXPORT rq_model_describe(const void *model, rq_model_info *info) {
  const rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return RQ_E_ARGUMENT;
  *info = m->hyper.info;
  return RQ_OK;
}

static int32_t not_open(rq_error *error) {
  rq_fail(error, RQ_E_ARGUMENT, "model");
  rq_expected(error, "a model that rq_model_open has opened");
  rq_actual(error, "other memory");
  rq_hint(error, "open the model first");
  return RQ_E_ARGUMENT;
}

static int32_t bad_token(rq_error *error, int32_t at, int32_t token, int32_t vocab_size) {
  rq_fail(error, RQ_E_TOKEN, "token %d of those fed", at);
  rq_expected(error, "an id of 0 to %d", vocab_size - 1);
  rq_actual(error, "%d", token);
  rq_hint(error, "use the tokenizer of the same file");
  return RQ_E_TOKEN;
}

int32_t RQ_EXPORT rq_model_feed(rq_error *error, void *model, const int32_t *tokens, int32_t count) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  int32_t room = m->hyper.info.context_tokens - m->fed;
  if (count < 0 || count > room) {
    rq_fail(error, count < 0 ? RQ_E_ARGUMENT : RQ_E_CONTEXT, "tokens");
    rq_expected(error, "at most %d, what is left of a context of %d", room, m->hyper.info.context_tokens);
    rq_actual(error, "%d", count);
    rq_hint(error, "shorten the prompt, open the model with a longer context, or rewind it");
    return count < 0 ? RQ_E_ARGUMENT : RQ_E_CONTEXT;
  }
  for (int32_t t = 0; t < count; t++)
    if (tokens[t] < 0 || tokens[t] >= m->hyper.info.vocab_size)
      return bad_token(error, t, tokens[t], m->hyper.info.vocab_size);
  rq_copy(m->tokens + m->fed, tokens, (size_t)count * sizeof(int32_t));
  m->fed += count;
  return RQ_OK;
}

static RQ_NOINLINE int32_t step(rq_error *error, rq_model *m) {
  int32_t tokens = rq_min_i32(m->fed - m->position, m->hyper.info.batch_tokens);
  if (tokens == 0) return 0;
  size_t hash_bytes = ((size_t)m->hyper.info.layers + 2) * sizeof(uint32_t);
  if (m->hashes) rq_copy(m->hashes_before, m->hashes, hash_bytes);
  int32_t code = rq_forward(error, m, tokens);
  if (code < 0) { /* nothing was computed: the tokens still wait */
    if (m->hashes) rq_copy(m->hashes, m->hashes_before, hash_bytes);
    m->logits_rows = 0;
    return code;
  }
  m->position += tokens;
  return m->fed - m->position;
}

int32_t RQ_EXPORT rq_model_step(rq_error *error, void *model) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  RQ_LAP_START(m);
  uint32_t saved = rq_fp_enter();
  int32_t code = step(error, m);
  rq_fp_leave(saved);
  RQ_LAP(m, RQ_OP_REST);
  return code;
}

int32_t RQ_EXPORT rq_model_keep_logits(rq_error *error, void *model, int32_t all) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  if (all && !(m->hyper.flags & RQ_MODEL_ALL_LOGITS)) {
    rq_fail(error, RQ_E_ARGUMENT, "all");
    rq_expected(error, "a model opened with RQ_MODEL_ALL_LOGITS");
    rq_actual(error, "one with room for a single row of logits");
    rq_hint(error, "open the model with that flag");
    return RQ_E_ARGUMENT;
  }
  m->all_logits = all != 0;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_keep_states(rq_error *error, void *model, int32_t on) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  m->keep_states = on != 0;
  if (!on) return RQ_OK;
  m->states = 0;
  rq_zero(m->state_sum, (size_t)m->hyper.info.width * sizeof(double));
  return RQ_OK;
}

static RQ_NOINLINE int32_t embedding(rq_error *error, const rq_model *m, bool normalize, float *out) {
  if (m->states == 0) {
    rq_fail(error, RQ_E_ARGUMENT, "model");
    rq_expected(error, "steps with rq_model_keep_states on");
    rq_actual(error, "none");
    rq_hint(error, "feed at least one token");
    return RQ_E_ARGUMENT;
  }
  double squares = 0.0, factor = 1.0 / m->states;
  for (int32_t i = 0; i < m->hyper.info.width; i++) squares += m->state_sum[i] * m->state_sum[i];
  if (normalize) factor = squares > 0.0 ? 1.0 / __builtin_sqrt(squares) : 0.0;
  for (int32_t i = 0; i < m->hyper.info.width; i++) out[i] = (float)(m->state_sum[i] * factor);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_embedding(rq_error *error, void *model, int32_t normalize, float *out) {
  const rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  uint32_t saved = rq_fp_enter();
  int32_t code = embedding(error, m, normalize != 0, out);
  rq_fp_leave(saved);
  return code;
}

int32_t RQ_EXPORT rq_model_logits_rows(const void *model) { return ((const rq_model *)model)->logits_rows; }
RQ_EXPORT float *rq_model_logits(void *model) { return ((rq_model *)model)->logits; }
int32_t RQ_EXPORT rq_model_position(const void *model) { return ((const rq_model *)model)->position; }
RQ_EXPORT const uint32_t *rq_model_hashes(const void *model) { return ((const rq_model *)model)->hashes; }

int32_t RQ_EXPORT rq_model_truncate(rq_error *error, void *model, int32_t position) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  if (position < 0 || position > m->fed) {
    rq_fail(error, RQ_E_ARGUMENT, "position");
    rq_expected(error, "0 to %d, the tokens fed", m->fed);
    rq_actual(error, "%d", position);
    rq_hint(error, "a model can only be rewound");
    return RQ_E_ARGUMENT;
  }
  m->fed = position;
  m->position = rq_min_i32(m->position, position);
  m->logits_rows = 0;
  if (position == 0 && m->hashes) rq_zero(m->hashes, ((size_t)m->hyper.info.layers + 2) * sizeof(uint32_t));
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_use_pool(rq_error *error, void *model, void *pool) {
  rq_model *m = model;
  rq_pool *p = pool;
  if (m->magic != RQ_MODEL_MAGIC) return not_open(error);
  if (p && (p->magic != RQ_POOL_MAGIC || p->threads > m->hyper.threads)) {
    rq_fail(error, RQ_E_ARGUMENT, "pool");
    rq_expected(error, "a pool of at most %d threads, as the model was opened for", m->hyper.threads);
    if (p->magic == RQ_POOL_MAGIC)
      rq_actual(error, "one of %d", p->threads);
    else
      rq_actual(error, "memory that is no pool, or a closed one");
    rq_hint(error, "open the model with the pool's number of threads");
    return RQ_E_ARGUMENT;
  }
  m->pool = p;
  return RQ_OK;
}
