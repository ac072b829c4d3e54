/* weights.c: finds every tensor of the model by name, checks its shape and type, and decodes the
 * small vectors (norms, biases). Matrices stay where they are in the file, quantized. */
#include "lanes.h"
#include "model.h"

/* ---- tensor names: "blk.<layer>.<part>", without printf ---- */

typedef struct tensor_name {
  char text[64];
  int32_t used;
} tensor_name;

static void append(tensor_name *name, const char *text) {
  while (*text && name->used < (int32_t)sizeof name->text - 1) name->text[name->used++] = *text++;
  name->text[name->used] = 0;
}

/* layer -1: a tensor outside the blocks. */
static tensor_name name_of(int32_t layer, const char *part, const char *suffix) {
  tensor_name name = {{0}, 0};
  if (layer >= 0) {
    char digits[12];
    int32_t n = (int32_t)sizeof digits - 1;
    digits[n] = 0;
    do {
      digits[--n] = (char)('0' + layer % 10);
      layer /= 10;
    } while (layer > 0);
    append(&name, "blk.");
    append(&name, digits + n);
    append(&name, ".");
  }
  append(&name, part);
  append(&name, suffix);
  return name;
}

/* ---- one tensor ---- */

typedef struct binder {
  rq_error *error;
  const rq_gguf *index;
  const uint8_t *file;
  rq_hyper *hyper;
  rq_arena *arena;
  uint8_t *used; /* (tensor_count) 1: part of the model; NULL while counting */
} binder;

static const rq_gguf_tensor *find(binder *b, const char *name) {
  const rq_gguf_tensor *tensor = rq_gguf_tensor_named(b->index, b->file, name);
  if (tensor && b->used) b->used[tensor - rq_gguf_tensors(b->index)] = 1;
  return tensor;
}

static int32_t missing(binder *b, const char *name, int32_t rows, int32_t width) {
  rq_fail(b->error, RQ_E_TENSOR, "%s", name);
  rq_expected(b->error, "a tensor of %d rows of %d", rows, width);
  rq_actual(b->error, "no such tensor");
  rq_hint(b->error, "convert the model again from its source");
  return RQ_E_TENSOR;
}

static int32_t wrong_type(rq_error *error, const char *name, const rq_gguf_tensor *tensor, bool vector) {
  const rq_format *format = rq_format_get(tensor->format);
  rq_fail(error, RQ_E_TYPE, "%s", name);
  rq_expected(error,
              vector ? "f32, f16 or bf16" : "f32, f16, bf16, a block format of ggml's or one of ruvq's own");
  if (format)
    rq_actual(error, "%s", format->info.name);
  else
    rq_actual(error, "ggml type %d", tensor->ggml_type);
  rq_hint(error, "quantize the model again to one of these formats");
  return RQ_E_TYPE;
}

int32_t rq_tensor_check(rq_error *error, const char *name, const rq_gguf_tensor *tensor, int32_t rows,
                        int32_t width, bool vector) {
  const rq_format *format = tensor->format < 0 ? NULL : rq_format_get(tensor->format);
  if (!format || (vector && format->quantized)) return wrong_type(error, name, tensor, vector);
  int32_t row_bytes = format->row_bytes(width);
  if (tensor->width == (uint64_t)width && tensor->rows == (uint64_t)rows && row_bytes >= 0 &&
      tensor->data_bytes == (uint64_t)row_bytes * (uint64_t)rows)
    return RQ_OK;
  rq_fail(error, RQ_E_TENSOR, "%s", name);
  rq_expected(error, "%d rows of %d", rows, width);
  rq_actual(error, "%U rows of %U in %U bytes", tensor->rows, tensor->width, tensor->data_bytes);
  rq_hint(error, "the tensor doesn't fit the model's hyper-parameters: convert the model again");
  return RQ_E_TENSOR;
}

static void count(binder *b, const rq_gguf_tensor *tensor) {
  b->hyper->info.weight_bytes += tensor->data_bytes;
  b->hyper->info.parameters += tensor->rows * tensor->width;
}

/* A vector of `width` floats, decoded into the arena; *out stays NULL while counting. */
static int32_t bind_vector(binder *b, tensor_name name, int32_t width, bool required, float **out) {
  *out = NULL;
  const rq_gguf_tensor *tensor = find(b, name.text);
  if (!tensor) return required ? missing(b, name.text, 1, width) : RQ_OK;
  int32_t code = rq_tensor_check(b->error, name.text, tensor, 1, width, true);
  if (code < 0) return code;
  count(b, tensor);
  *out = rq_arena_take(b->arena, (uint64_t)width * sizeof(float));
  if (!*out) return RQ_OK;
  rq_format_get(tensor->format)->decode(b->file + tensor->data_offset, width, *out, RQ_SCALAR);
  if (rq_all_finite(*out, width)) return RQ_OK;
  rq_fail(b->error, RQ_E_DATA, "%s", name.text);
  rq_expected(b->error, "finite numbers");
  rq_actual(b->error, "NaN or infinity");
  rq_hint(b->error, "the file is damaged, or its source is: check it and convert again");
  return RQ_E_DATA;
}

/* Inside the blocks with a bias, which must be there or may. */
static int32_t bind_matrix(binder *b, int32_t layer, const char *part, int32_t rows, int32_t width,
                           bool required, bool bias_required, rq_matrix *out) {
  rq_zero(out, sizeof *out);
  tensor_name name = name_of(layer, part, ".weight");
  const rq_gguf_tensor *tensor = find(b, name.text);
  if (!tensor) return required ? missing(b, name.text, rows, width) : RQ_OK;
  int32_t code = rq_tensor_check(b->error, name.text, tensor, rows, width, false);
  if (code < 0) return code;
  count(b, tensor);
  out->data = b->file + tensor->data_offset;
  out->format = rq_format_get(tensor->format);
  out->rows = rows;
  out->width = width;
  out->row_bytes = out->format->row_bytes(width);
  return layer < 0 ? RQ_OK : bind_vector(b, name_of(layer, part, ".bias"), rows, bias_required, &out->bias);
}

/* ---- the model ---- */

rq_matrix *rq_matrix_at(rq_weights *weights, int32_t n) {
  if (n == 0) return &weights->embedding;
  if (n == 1) return &weights->output;
  rq_layer *layer = &weights->layers[(n - 2) / 7];
  rq_matrix *of_layer[7] = {&layer->query, &layer->key, &layer->value, &layer->attention_out,
                            &layer->gate,  &layer->up,  &layer->down};
  return of_layer[(n - 2) % 7];
}

static int32_t bind_layer(binder *b, int32_t n, rq_layer *out) {
  const rq_model_info *i = &b->hyper->info;
  const rq_architecture *kind = b->hyper->architecture;
  int32_t width = i->width, ff = i->ff_width;
  int32_t keys = b->hyper->key_width, values = b->hyper->value_width;
  struct {
    const char *part;
    rq_matrix *matrix;
    int32_t rows, width;
    bool biased;
  } matrices[] = {
      {"attn_q", &out->query, i->heads * keys, width, kind->qkv_biases},
      {"attn_k", &out->key, i->kv_heads * keys, width, kind->qkv_biases},
      {"attn_v", &out->value, i->kv_heads * values, width, kind->qkv_biases},
      {"attn_output", &out->attention_out, width, i->heads * values, false},
      {"ffn_gate", &out->gate, ff, width, false},
      {"ffn_up", &out->up, ff, width, false},
      {"ffn_down", &out->down, width, ff, false},
  };
  for (int32_t m = 0; m < RQ_COUNT(matrices); m++) {
    int32_t code = bind_matrix(b, n, matrices[m].part, matrices[m].rows, matrices[m].width, true,
                               matrices[m].biased, matrices[m].matrix);
    if (code < 0) return code;
  }
  out->query_norm = out->key_norm = NULL;
  int32_t code = bind_vector(b, name_of(n, "attn_norm", ".weight"), width, true, &out->attention_norm);
  if (code < 0) return code;
  if (kind->head_norms) {
    code = bind_vector(b, name_of(n, "attn_q_norm", ".weight"), keys, true, &out->query_norm);
    if (code < 0) return code;
    code = bind_vector(b, name_of(n, "attn_k_norm", ".weight"), keys, true, &out->key_norm);
    if (code < 0) return code;
  }
  return bind_vector(b, name_of(n, "ffn_norm", ".weight"), width, true, &out->ff_norm);
}

/* Rows of the embedding are the vocabulary; what the metadata says must agree. */
static int32_t read_vocab_size(binder *b) {
  const rq_gguf_tensor *tensor = find(b, "token_embd.weight");
  if (!tensor) return missing(b, "token_embd.weight", 1, b->hyper->info.width);
  uint32_t told =
      (uint32_t)rq_min_i32(INT32_MAX, tensor->rows > INT32_MAX ? INT32_MAX : (int32_t)tensor->rows);
  rq_key_name key = rq_model_key(b->hyper->architecture, "vocab_size");
  int32_t code = rq_gguf_read_u32(b->error, b->index, b->file, key.text, false, &told);
  if (code < 0) return code;
  uint64_t listed = told;
  const rq_gguf_kv *list = rq_gguf_key(b->index, b->file, "tokenizer.ggml.tokens");
  if (list) listed = list->count;
  if (tensor->rows > RQ_MAX_VOCAB || told != tensor->rows || listed != tensor->rows) {
    rq_fail(b->error, RQ_E_HYPERPARAMETER, "%s", key.text);
    rq_expected(b->error, "at most %d, the same as the embedding's rows and the tokenizer's tokens",
                RQ_MAX_VOCAB);
    rq_actual(b->error, "%u, %U rows and %U tokens", told, tensor->rows, listed);
    rq_hint(b->error, "the vocabulary belongs to another model: convert the model again");
    return RQ_E_HYPERPARAMETER;
  }
  b->hyper->info.vocab_size = (int32_t)tensor->rows;
  return RQ_OK;
}

/* Frequency factors of RoPE (Llama 3): one float32 above 0 for each pair. */
static int32_t bind_rope_factors(binder *b, rq_weights *out) {
  const rq_gguf_tensor *tensor = find(b, "rope_freqs.weight");
  if (!tensor) return RQ_OK;
  int32_t pairs = b->hyper->info.rope_width / 2;
  int32_t code = rq_tensor_check(b->error, "rope_freqs.weight", tensor, 1, pairs, true);
  if (code < 0) return code;
  if (tensor->format != RQ_FORMAT_F32) return wrong_type(b->error, "rope_freqs.weight", tensor, true);
  const uint8_t *data = b->file + tensor->data_offset;
  for (int32_t p = 0; p < pairs; p++) {
    float factor = rq_load_f32(data + 4 * (size_t)p);
    if (factor > 0.0f && rq_all_finite(&factor, 1)) continue;
    rq_fail(b->error, RQ_E_DATA, "rope_freqs.weight");
    rq_expected(b->error, "finite factors above 0");
    rq_actual(b->error, "something else at %d", p);
    rq_hint(b->error, "convert the model again from its source");
    return RQ_E_DATA;
  }
  out->rope_factors = data;
  return RQ_OK;
}

/* A tensor the engine doesn't know would change what the model computes: refused by name. */
static int32_t check_all_used(binder *b) {
  if (!b->used) return RQ_OK;
  const rq_gguf_tensor *tensors = rq_gguf_tensors(b->index);
  for (uint32_t t = 0; t < b->index->tensor_count; t++) {
    if (b->used[t]) continue;
    rq_fail(b->error, RQ_E_TENSOR, "%.*s", (int)tensors[t].name_bytes,
            (const char *)b->file + tensors[t].name_offset);
    rq_expected(b->error, "only tensors of the architecture %s", b->hyper->architecture->name);
    rq_actual(b->error, "a tensor that this version of ruvq doesn't use");
    rq_hint(b->error, "the model is of another kind than its metadata says, or needs a newer ruvq");
    return RQ_E_TENSOR;
  }
  return RQ_OK;
}

int32_t rq_weights_bind(rq_error *error, const rq_gguf *index, const uint8_t *file, rq_hyper *hyper,
                        rq_arena *arena, rq_weights *out) {
  binder b = {error, index, file, hyper, arena, NULL};
  rq_model_info *i = &hyper->info;
  rq_zero(out, sizeof *out);
  i->weight_bytes = i->parameters = 0;
  b.used = rq_arena_take(arena, index->tensor_count);
  int32_t code = read_vocab_size(&b);
  if (code < 0) return code;
  code = bind_matrix(&b, -1, "token_embd", i->vocab_size, i->width, true, false, &out->embedding);
  if (code < 0) return code;
  code = bind_matrix(&b, -1, "output", i->vocab_size, i->width, false, false, &out->output);
  if (code < 0) return code;
  i->tied_output = out->output.data == NULL;
  if (i->tied_output) out->output = out->embedding;
  code = bind_vector(&b, name_of(-1, "output_norm", ".weight"), i->width, true, &out->output_norm);
  if (code < 0) return code;
  if ((code = bind_rope_factors(&b, out)) < 0) return code;
  out->layers = rq_arena_take(arena, (uint64_t)i->layers * sizeof(rq_layer));
  for (int32_t n = 0; n < i->layers; n++) {
    rq_layer layer;
    if ((code = bind_layer(&b, n, &layer)) < 0) return code;
    if (out->layers) out->layers[n] = layer;
  }
  return check_all_used(&b);
}
