/* hyper.c: a model's hyper-parameters from GGUF metadata, every one checked against named limits and
 * against the others before any memory is sized by it. */
#include "model.h"

rq_key_name rq_model_key(const rq_architecture *architecture, const char *suffix) {
  rq_key_name key;
  rq_zero(&key, sizeof key);
  size_t n = rq_length(architecture->name), m = rq_length(suffix), room = sizeof key.text - 2 - n;
  rq_copy(key.text, architecture->name, n);
  key.text[n] = '.';
  rq_copy(key.text + n + 1, suffix, m < room ? m : room);
  return key;
}

/* What every reader below needs. */
typedef struct source {
  rq_error *error;
  const rq_gguf *index;
  const uint8_t *file;
  const rq_architecture *architecture;
} source;

static rq_key_name key_of(const source *s, const char *suffix) {
  return rq_model_key(s->architecture, suffix);
}

static bool present(const source *s, const char *suffix) {
  return rq_gguf_key(s->index, s->file, key_of(s, suffix).text) != NULL;
}

/* An integer of [low, high]; `fallback` where the key is absent, which must be -1 for required keys. */
static int32_t read_int(const source *s, const char *suffix, int32_t low, int32_t high, int32_t fallback,
                        int32_t *out) {
  rq_key_name key = key_of(s, suffix);
  uint32_t value = (uint32_t)fallback;
  int32_t code = rq_gguf_read_u32(s->error, s->index, s->file, key.text, fallback < 0, &value);
  if (code < 0) return code;
  if (value < (uint32_t)low || value > (uint32_t)high) {
    rq_fail(s->error, RQ_E_HYPERPARAMETER, "%s", key.text);
    rq_expected(s->error, "an integer of %d to %d", low, high);
    rq_actual(s->error, "%u", value);
    rq_hint(s->error, "convert the model again from its source");
    return RQ_E_HYPERPARAMETER;
  }
  *out = (int32_t)value;
  return RQ_OK;
}

/* A float above `low` and up to `high`; required when fallback is 0. */
static int32_t read_float(const source *s, const char *suffix, float low, float high, float fallback,
                          const char *expected, float *out) {
  rq_key_name key = key_of(s, suffix);
  float value = fallback;
  int32_t code = rq_gguf_read_f32(s->error, s->index, s->file, key.text, fallback == 0.0f, &value);
  if (code < 0) return code;
  if (!(value > low && value <= high)) { /* NaN fails too */
    uint32_t bits;
    rq_copy(&bits, &value, sizeof bits);
    rq_fail(s->error, RQ_E_HYPERPARAMETER, "%s", key.text);
    rq_expected(s->error, "%s", expected);
    rq_actual(s->error, "the float32 with the bits 0x%x", bits);
    rq_hint(s->error, "convert the model again from its source");
    return RQ_E_HYPERPARAMETER;
  }
  *out = value;
  return RQ_OK;
}

static int32_t inconsistent(const source *s, const char *suffix, const char *expected, int32_t actual,
                            int32_t of) {
  rq_fail(s->error, RQ_E_HYPERPARAMETER, "%s", key_of(s, suffix).text);
  rq_expected(s->error, "%s", expected);
  rq_actual(s->error, "%d and %d", actual, of);
  rq_hint(s->error, "convert the model again from its source");
  return RQ_E_HYPERPARAMETER;
}

static int32_t unsupported(const source *s, const char *suffix, const char *expected, const char *hint) {
  rq_fail(s->error, RQ_E_HYPERPARAMETER, "%s", key_of(s, suffix).text);
  rq_expected(s->error, "%s", expected);
  rq_actual(s->error, "something else");
  rq_hint(s->error, "%s", hint);
  return RQ_E_HYPERPARAMETER;
}

static bool same_text(const char *text, uint32_t bytes, const char *wanted) {
  return bytes == rq_length(wanted) && rq_equal(text, wanted, bytes);
}

static int32_t read_architecture(source *s, rq_hyper *h) {
  const char *name = NULL;
  uint32_t bytes = 0;
  int32_t code =
      rq_gguf_read_string(s->error, s->index, s->file, "general.architecture", false, &name, &bytes);
  if (code < 0) return code;
  s->architecture = h->architecture = name ? rq_architecture_named(name, bytes) : NULL;
  if (s->architecture) return RQ_OK;
  char names[160] = "one of:";
  size_t used = rq_length(names);
  const char *known;
  for (int32_t a = 0; (known = rq_architecture_name(a)) != NULL && used + rq_length(known) + 2 < sizeof names;
       a++) {
    names[used++] = ' ';
    rq_copy(names + used, known, rq_length(known));
    used += rq_length(known);
  }
  names[used] = 0;
  rq_fail(s->error, RQ_E_ARCHITECTURE, "general.architecture");
  rq_expected(s->error, "%s", names);
  if (name)
    rq_actual(s->error, "%.*s", (int)(bytes > 64 ? 64 : bytes), name);
  else
    rq_actual(s->error, "no such key");
  rq_hint(s->error, "this version of ruvq runs the architectures listed; the file can still be inspected");
  return RQ_E_ARCHITECTURE;
}

static int32_t read_sizes(const source *s, rq_hyper *h) {
  rq_model_info *i = &h->info;
  int32_t code;
  if ((code = read_int(s, "block_count", 1, RQ_MAX_LAYERS, -1, &i->layers)) < 0) return code;
  if ((code = read_int(s, "embedding_length", 1, RQ_MAX_EMBEDDING, -1, &i->width)) < 0) return code;
  if ((code = read_int(s, "feed_forward_length", 1, RQ_MAX_FF_WIDTH, -1, &i->ff_width)) < 0) return code;
  if ((code = read_int(s, "context_length", 1, RQ_MAX_CONTEXT, -1, &i->context_trained)) < 0) return code;
  if ((code = read_int(s, "attention.head_count", 1, RQ_MAX_HEADS, -1, &i->heads)) < 0) return code;
  if ((code = read_int(s, "attention.head_count_kv", 1, RQ_MAX_HEADS, i->heads, &i->kv_heads)) < 0)
    return code;
  if (i->heads % i->kv_heads != 0)
    return inconsistent(s, "attention.head_count_kv", "a divisor of attention.head_count", i->kv_heads,
                        i->heads);
  if (!present(s, "attention.key_length") || !present(s, "attention.value_length"))
    if (i->width % i->heads != 0)
      return inconsistent(s, "attention.head_count", "a divisor of embedding_length", i->heads, i->width);
  int32_t even = i->width / i->heads; /* 0 is refused by the range of the key below */
  if ((code = read_int(s, "attention.key_length", 1, RQ_MAX_HEAD_WIDTH, even, &h->key_width)) < 0)
    return code;
  if ((code = read_int(s, "attention.value_length", 1, RQ_MAX_HEAD_WIDTH, even, &h->value_width)) < 0)
    return code;
  i->head_width = h->key_width;
  h->context_limit = i->context_trained;
  int32_t window = 0;
  if ((code = read_int(s, "attention.sliding_window", 0, INT32_MAX, 0, &window)) < 0) return code;
  if (window > 0) h->context_limit = rq_min_i32(window, h->context_limit);
  return RQ_OK;
}

static int32_t read_rope_scaling(const source *s, rq_hyper *h) {
  const char *kind = NULL;
  uint32_t bytes = 0;
  int32_t code = rq_gguf_read_string(s->error, s->index, s->file, key_of(s, "rope.scaling.type").text, false,
                                     &kind, &bytes);
  if (code < 0) return code;
  float factor = 1.0f;
  if ((code = read_float(s, "rope.scale_linear", 0.0f, 1e6f, 1.0f, "a factor above 0", &factor)) < 0)
    return code;
  bool linear = kind && same_text(kind, bytes, "linear");
  if (kind && !linear && !same_text(kind, bytes, "none")) {
    rq_fail(s->error, RQ_E_HYPERPARAMETER, "%s", key_of(s, "rope.scaling.type").text);
    rq_expected(s->error, "none or linear");
    rq_actual(s->error, "%.*s", (int)(bytes > 64 ? 64 : bytes), kind);
    rq_hint(s->error, "models with frequency factors (Llama 3) bring them in rope_freqs.weight");
    return RQ_E_HYPERPARAMETER;
  }
  if (linear) {
    code = read_float(s, "rope.scaling.factor", 0.0f, 1e6f, 0.0f, "a factor above 0", &factor);
    if (code < 0) return code;
  }
  float attention_factor = 1.0f;
  code = read_float(s, "rope.scaling.attn_factor", 0.0f, 1e6f, 1.0f, "1", &attention_factor);
  if (code < 0) return code;
  if (attention_factor != 1.0f)
    return unsupported(s, "rope.scaling.attn_factor", "1", "this kind of RoPE scaling is not supported");
  h->info.rope_scale = 1.0f / factor;
  return RQ_OK;
}

static int32_t read_rope(const source *s, rq_hyper *h) {
  rq_model_info *i = &h->info;
  int32_t code = read_int(s, "rope.dimension_count", 1, RQ_MAX_HEAD_WIDTH, h->key_width, &i->rope_width);
  if (code < 0) return code;
  if (i->rope_width > h->key_width)
    return inconsistent(s, "rope.dimension_count", "at most the width of a head's key", i->rope_width,
                        h->key_width);
  if (i->rope_width % 2 != 0)
    return inconsistent(s, "rope.dimension_count", "an even number", i->rope_width, h->key_width);
  code = read_float(s, "rope.freq_base", 0.0f, 1e12f, 10000.0f, "above 0, at most 1e12", &i->rope_base);
  if (code < 0) return code;
  bool neox = s->architecture->rope_neox; /* ruvq's own key may say otherwise */
  code = rq_gguf_read_bool(s->error, s->index, s->file, "ruvq.rope.neox", false, &neox);
  if (code < 0) return code;
  i->rope_neox = neox;
  return read_rope_scaling(s, h);
}

static int32_t bad_option(const source *s, const char *option, int32_t low, int32_t high, int32_t actual,
                          const char *hint) {
  rq_fail(s->error, RQ_E_ARGUMENT, "%s", option);
  rq_expected(s->error, "%d to %d", low, high);
  rq_actual(s->error, "%d", actual);
  rq_hint(s->error, "%s", hint);
  return RQ_E_ARGUMENT;
}

static int32_t apply_options(const source *s, const rq_model_options *options, rq_hyper *h) {
  rq_model_info *i = &h->info;
  int32_t context = options->context_tokens, batch = options->batch_tokens;
  int32_t all_flags = RQ_MODEL_KV_F32 | RQ_MODEL_ALL_LOGITS | RQ_MODEL_HASHES | RQ_MODEL_SCALAR |
                      RQ_MODEL_SIMD128 | RQ_MODEL_AVX2;
  if (context < 0 || context > h->context_limit)
    return bad_option(s, "context_tokens", 1, h->context_limit, context,
                      "the model was trained for no more; leave the option out to take what the file says");
  if (batch < 0 || batch > RQ_MAX_BATCH)
    return bad_option(s, "batch_tokens", 1, RQ_MAX_BATCH, batch, "use a smaller batch");
  if (options->flags & ~all_flags)
    return bad_option(s, "flags", 0, all_flags, options->flags, "use RQ_MODEL_* only");
  i->context_tokens = context > 0 ? context : rq_min_i32(h->context_limit, RQ_DEFAULT_CONTEXT);
  i->batch_tokens = rq_min_i32(batch > 0 ? batch : RQ_DEFAULT_BATCH, i->context_tokens);
  h->flags = options->flags;
  if (options->threads < 0 || options->threads > RQ_MAX_THREADS)
    return bad_option(s, "threads", 1, RQ_MAX_THREADS, options->threads, "ask for fewer threads");
  h->threads = rq_max_i32(1, options->threads);
  return RQ_OK;
}

/* An adapter has its base model's architecture, but not its weights. */
static int32_t check_model(const source *s) {
  const char *kind = NULL;
  uint32_t bytes = 0;
  int32_t code = rq_gguf_read_string(s->error, s->index, s->file, "general.type", false, &kind, &bytes);
  if (code < 0 || !kind || !same_text(kind, bytes, "adapter")) return code;
  rq_fail(s->error, RQ_E_ARCHITECTURE, "general.type");
  rq_expected(s->error, "a model");
  rq_actual(s->error, "an adapter");
  rq_hint(s->error, "open the base model, and load this file as its adapter");
  return RQ_E_ARCHITECTURE;
}

static int32_t check_whole(rq_error *error, const rq_gguf *index) {
  if (index->split_count <= 1) return RQ_OK;
  rq_fail(error, RQ_E_SHARD, "shard %u of %u", index->split_no + 1, index->split_count);
  rq_expected(error, "all shards of the model");
  rq_actual(error, "one of them");
  rq_hint(error, "open the first shard where the others lie beside it, or give all of them in order");
  return RQ_E_SHARD;
}

int32_t rq_hyper_read(rq_error *error, const rq_gguf *index, const uint8_t *file,
                      const rq_model_options *options, rq_hyper *out) {
  source s = {error, index, file, NULL};
  rq_zero(out, sizeof *out);
  int32_t code;
  if ((code = check_whole(error, index)) < 0 || (code = check_model(&s)) < 0) return code;
  if ((code = read_architecture(&s, out)) < 0) return code;
  if (present(&s, "expert_count"))
    return unsupported(&s, "expert_count", "a dense model, without this key",
                       "mixtures of experts are not supported by this version of ruvq");
  if ((code = read_sizes(&s, out)) < 0) return code;
  if ((code = read_rope(&s, out)) < 0) return code;
  code = read_float(&s, "attention.layer_norm_rms_epsilon", 0.0f, 1.0f, 0.0f, "above 0, at most 1",
                    &out->info.rms_epsilon);
  if (code < 0) return code;
  return apply_options(&s, options, out);
}
