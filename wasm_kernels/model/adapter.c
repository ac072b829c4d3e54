/* adapter.c: LoRA adapters from GGUF files in llama.cpp's layout: NAME.lora_a (rank, width) and NAME.lora_b
 * (rows, rank) beside the matrix NAME of a model. Read, checked against the model and decoded here; product.c
 * computes y = W x + scale B (A x) with them. x is the input before the Hadamard transform, whatever the
 * matrix itself went through. */
#include "../base/fpenv.h"
#include "lanes.h"
#include "model.h"

static const char SUFFIX_A[] = ".lora_a", SUFFIX_B[] = ".lora_b";
enum { SUFFIX_BYTES = sizeof SUFFIX_A - 1 };
static const char ANOTHER_BASE[] = "the adapter belongs to another base model";
static const char A_PAIR[] = "pairs of .lora_a and .lora_b";

typedef struct adapter_file {
  rq_error *error;
  const rq_gguf *index;
  const uint8_t *data;
  rq_model *model;
  rq_arena *arena;
  float alpha; /* 0: products aren't scaled by alpha / rank */
} adapter_file;

static int32_t refuse(const adapter_file *f, int32_t code, const char *subject, const char *expected,
                      const char *actual, const char *hint) {
  rq_fail(f->error, code, "%s", subject);
  rq_expected(f->error, "%s", expected);
  rq_actual(f->error, "%s", actual);
  rq_hint(f->error, "%s", hint);
  return code;
}

/* ---- what the file is ---- */

static int32_t expect_text(const adapter_file *f, const char *key, const char *wanted, const char *hint) {
  const char *text;
  uint32_t bytes;
  char found[65] = "no such key";
  int32_t code = rq_gguf_read_string(f->error, f->index, f->data, key, false, &text, &bytes);
  if (code < 0) return code;
  if (text && bytes == rq_length(wanted) && rq_equal(text, wanted, bytes)) return RQ_OK;
  if (text) {
    uint32_t shown = bytes < sizeof found ? bytes : sizeof found - 1;
    rq_copy(found, text, shown);
    found[shown] = 0;
  }
  return refuse(f, RQ_E_HYPERPARAMETER, key, wanted, found, hint);
}

static int32_t read_kind(adapter_file *f) {
  static const char NO_ADAPTER[] = "this file is no LoRA adapter: is it the model itself?";
  static const char *const UNKNOWN[] = {"adapter.alora.invocation_tokens", "ruvq.hadamard.tensors"};
  static const char ROPE[] = "ruvq.rope.neox"; /* in which order the rows of queries and keys lie */
  const rq_hyper *hyper = &f->model->hyper;
  int32_t code;
  if ((code = expect_text(f, "general.type", "adapter", NO_ADAPTER)) < 0) return code;
  if ((code = expect_text(f, "adapter.type", "lora", NO_ADAPTER)) < 0) return code;
  code = expect_text(f, "general.architecture", hyper->architecture->name, ANOTHER_BASE);
  if (code < 0) return code;
  for (int32_t n = 0; n < RQ_COUNT(UNKNOWN); n++)
    if (rq_gguf_key(f->index, f->data, UNKNOWN[n]))
      return refuse(f, RQ_E_HYPERPARAMETER, UNKNOWN[n], "a plain LoRA adapter", "this key",
                    "this version of ruvq can't apply such adapters");
  bool neox = hyper->architecture->rope_neox;
  if ((code = rq_gguf_read_bool(f->error, f->index, f->data, ROPE, false, &neox)) < 0) return code;
  if (neox != (hyper->info.rope_neox != 0))
    return refuse(f, RQ_E_HYPERPARAMETER, ROPE, "what the model has", "the other order", ANOTHER_BASE);
  f->alpha = 0.0f;
  return rq_gguf_read_f32(f->error, f->index, f->data, "adapter.lora.alpha", false, &f->alpha);
}

/* ---- tensors ---- */

typedef struct tensor_name {
  char text[RQ_MAX_NAME_BYTES + 1];
  uint32_t base_bytes; /* of the matrix's name, in front of the suffix */
} tensor_name;

static bool ends_with(const tensor_name *name, const char *suffix) {
  return rq_equal(name->text + name->base_bytes, suffix, SUFFIX_BYTES);
}

static tensor_name name_of(const adapter_file *f, const rq_gguf_tensor *tensor) {
  tensor_name name = {.base_bytes =
                          tensor->name_bytes > SUFFIX_BYTES ? tensor->name_bytes - SUFFIX_BYTES : 0};
  rq_copy(name.text, f->data + tensor->name_offset, tensor->name_bytes);
  return name;
}

/* The tensor of the same matrix with the other suffix, and its name. */
static const rq_gguf_tensor *partner(const adapter_file *f, tensor_name *name, const char *suffix) {
  rq_copy(name->text + name->base_bytes, suffix, SUFFIX_BYTES);
  return rq_gguf_tensor_named(f->index, f->data, name->text);
}

/* The matrix of that name, NULL for what can't be adapted. A tied output is the embedding. */
static rq_matrix *matrix_of(const adapter_file *f, const tensor_name *name) {
  rq_model *m = f->model;
  int32_t at = rq_gguf_find_tensor(m->index, m->file, (const uint8_t *)name->text, (int32_t)name->base_bytes);
  if (at < 0) return NULL;
  const uint8_t *data = m->file + rq_gguf_tensors(m->index)[at].data_offset;
  int32_t n = 0, matrices = rq_matrix_count(&m->hyper);
  while (n < matrices && rq_matrix_at(&m->weights, n)->data != data) n++;
  return n == 0 || n == matrices ? NULL : rq_matrix_at(&m->weights, n);
}

static int32_t check_shape(const adapter_file *f, const tensor_name *name, const rq_gguf_tensor *tensor,
                           int32_t rows, int32_t width) {
  int32_t code = rq_tensor_check(f->error, name->text, tensor, rows, width, false);
  if (code == RQ_E_TENSOR) rq_hint(f->error, "%s", ANOTHER_BASE);
  return code;
}

/* Row `row` of a tensor as floats. */
static int32_t decode_row(const adapter_file *f, const tensor_name *name, const rq_gguf_tensor *tensor,
                          int32_t row, float *out) {
  const rq_format *format = rq_format_get(tensor->format);
  int32_t width = (int32_t)tensor->width;
  const uint8_t *data = f->data + tensor->data_offset;
  format->decode(data + (size_t)row * (size_t)format->row_bytes(width), width, out, RQ_SCALAR);
  if (rq_all_finite(out, width)) return RQ_OK;
  return refuse(f, RQ_E_DATA, name->text, "finite numbers", "NaN or infinity",
                "the file is damaged, or training went wrong: make the adapter again");
}

/* Finds, checks and decodes what belongs to `a`, named `name`. While counting, *out holds sizes only. */
static int32_t bind_part(const adapter_file *f, tensor_name name, const rq_gguf_tensor *a,
                         rq_adapter_part *out) {
  rq_zero(out, sizeof *out);
  rq_matrix *matrix = out->matrix = matrix_of(f, &name);
  if (!matrix)
    return refuse(f, RQ_E_TENSOR, name.text, "a matrix of the model's layers, or an output that is not tied",
                  "the model has no such matrix", ANOTHER_BASE);
  int32_t most = rq_min_i32(matrix->rows, matrix->width), code;
  int32_t rank = a->rows <= (uint64_t)most ? (int32_t)a->rows : 0;
  if (rank == 0) {
    rq_fail(f->error, RQ_E_TENSOR, "%s", name.text);
    rq_expected(f->error, "a rank of 1 to %d", most);
    rq_actual(f->error, "%U", a->rows);
    rq_hint(f->error, "%s", ANOTHER_BASE);
    return RQ_E_TENSOR;
  }
  if ((code = check_shape(f, &name, a, rank, matrix->width)) < 0) return code;
  tensor_name name_b = name;
  const rq_gguf_tensor *b = partner(f, &name_b, SUFFIX_B);
  if (!b) return refuse(f, RQ_E_TENSOR, name.text, A_PAIR, "only .lora_a", ANOTHER_BASE);
  if ((code = check_shape(f, &name_b, b, matrix->rows, rank)) < 0) return code;

  uint64_t row_bytes = (uint64_t)matrix->width * sizeof(float), rank_bytes = (uint64_t)rank * sizeof(float);
  uint64_t rows = ((uint64_t)matrix->rows + RQ_UNIT_ROWS - 1) / RQ_UNIT_ROWS * RQ_UNIT_ROWS;
  float *decoded = rq_arena_take(f->arena, (uint64_t)rank * row_bytes);
  out->b = rq_arena_take(f->arena, rows * rank_bytes);
  out->hidden = rq_arena_take(f->arena, (uint64_t)f->model->hyper.info.batch_tokens * rank_bytes);
  if (!out->hidden) return RQ_OK;
  out->a.data = (const uint8_t *)decoded;
  out->a.format = rq_format_get(RQ_FORMAT_F32);
  out->a.rows = rank;
  out->a.width = matrix->width;
  out->a.row_bytes = (int32_t)row_bytes;
  out->own_scale = f->alpha != 0.0f ? f->alpha / (float)rank : 1.0f;
  for (int32_t k = 0; k < rank; k++, decoded += matrix->width)
    if ((code = decode_row(f, &name, a, k, decoded)) < 0) return code;
  for (int32_t r = 0; r < matrix->rows; r++) {
    if ((code = decode_row(f, &name_b, b, r, out->hidden)) < 0) return code;
    float *tile = out->b + (size_t)(r - r % RQ_UNIT_ROWS) * (size_t)rank + r % RQ_UNIT_ROWS;
    for (int32_t k = 0; k < rank; k++) tile[(size_t)k * RQ_UNIT_ROWS] = out->hidden[k];
  }
  return RQ_OK;
}

static int32_t lay_out(adapter_file *f, rq_adapter *out) {
  int32_t code = read_kind(f);
  if (code < 0) return code;
  uint32_t tensors = f->index->tensor_count;
  rq_zero(out, sizeof *out);
  out->model = f->model;
  rq_arena_take(f->arena, sizeof(rq_adapter));
  out->parts = rq_arena_take(f->arena, ((uint64_t)tensors + 1) / 2 * sizeof(rq_adapter_part));
  for (uint32_t t = 0; t < tensors; t++) {
    const rq_gguf_tensor *tensor = rq_gguf_tensors(f->index) + t;
    tensor_name name = name_of(f, tensor), other = name;
    if (ends_with(&name, SUFFIX_B) && partner(f, &other, SUFFIX_A)) continue;
    if (!ends_with(&name, SUFFIX_A))
      return refuse(f, RQ_E_TENSOR, name.text, A_PAIR, "a tensor that is no such pair", ANOTHER_BASE);
    rq_adapter_part part;
    if ((code = bind_part(f, name, tensor, &part)) < 0) return code;
    if (out->parts) out->parts[out->count] = part;
    out->count++;
  }
  if (out->count == 0) return refuse(f, RQ_E_TENSOR, "tensors", A_PAIR, "none", ANOTHER_BASE);
  return RQ_OK;
}

static int32_t lay_out_in(rq_error *error, const void *index, const uint8_t *data, void *model,
                          rq_arena *arena, rq_adapter *out) {
  if (((rq_model *)model)->magic != RQ_MODEL_MAGIC) return rq_fail(error, RQ_E_ARGUMENT, "model");
  adapter_file f = {error, index, data, model, arena, 0.0f};
  uint32_t saved = rq_fp_enter();
  int32_t code = lay_out(&f, out);
  rq_fp_leave(saved);
  return code;
}

int32_t RQ_EXPORT rq_adapter_measure(rq_error *error, const void *index, const uint8_t *data, void *model,
                                     uint64_t *bytes) {
  rq_arena arena = rq_arena_of(NULL, NULL);
  rq_adapter adapter;
  int32_t code = lay_out_in(error, index, data, model, &arena, &adapter);
  if (code == RQ_OK) *bytes = arena.used;
  return code;
}

int32_t RQ_EXPORT rq_adapter_open(rq_error *error, const void *index, const uint8_t *data, void *model,
                                  void *memory, void *memory_end) {
  uint64_t needed = 0;
  int32_t code = rq_adapter_measure(error, index, data, model, &needed);
  if (code < 0) return code;
  rq_arena arena = rq_arena_of(memory, memory_end);
  if ((uint64_t)((uintptr_t)memory_end - (uintptr_t)memory) < needed) {
    rq_fail(error, RQ_E_MEMORY, "adapter");
    rq_expected(error, "%U bytes, as rq_adapter_measure says", needed);
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  rq_adapter adapter;
  if ((code = lay_out_in(error, index, data, model, &arena, &adapter)) < 0) return code;
  adapter.magic = RQ_ADAPTER_MAGIC;
  rq_copy(memory, &adapter, sizeof adapter);
  return RQ_OK;
}

/* ---- beside the model ---- */

/* The end of the list that holds `part`, or its place in it. */
static rq_adapter_part **place_of(const rq_adapter_part *part) {
  rq_adapter_part **place = &part->matrix->parts;
  while (*place && *place != part) place = &(*place)->next;
  return place;
}

int32_t RQ_EXPORT rq_adapter_apply(rq_error *error, void *adapter, float scale) {
  rq_adapter *a = adapter;
  if (a->magic != RQ_ADAPTER_MAGIC) return rq_fail(error, RQ_E_ARGUMENT, "adapter");
  if (!rq_all_finite(&scale, 1)) {
    rq_fail(error, RQ_E_ARGUMENT, "scale");
    rq_expected(error, "a finite number");
    rq_actual(error, "NaN or infinity");
    return RQ_E_ARGUMENT;
  }
  for (int32_t n = 0; n < a->count; n++) {
    rq_adapter_part *part = a->parts + n;
    part->scale = scale * part->own_scale;
    *place_of(part) = part;
  }
  return rq_model_truncate(error, a->model, 0);
}

int32_t RQ_EXPORT rq_adapter_remove(rq_error *error, void *adapter) {
  rq_adapter *a = adapter;
  if (a->magic != RQ_ADAPTER_MAGIC) return rq_fail(error, RQ_E_ARGUMENT, "adapter");
  for (int32_t n = 0; n < a->count; n++) {
    rq_adapter_part **place = place_of(a->parts + n);
    if (*place) *place = (*place)->next;
    a->parts[n].next = NULL;
  }
  return rq_model_truncate(error, a->model, 0);
}
