/* adapter.c: LoRA adapters from GGUF files in llama.cpp's layout: NAME.lora_a (rank, width) and NAME.lora_b
 * (rows, rank) beside the matrix NAME of a model. Read, checked against the model and decoded here; product.c
 * computes y = W x + scale B (A x) with them. x is the input before the Hadamard transform, whatever the
 * matrix itself went through. */
#include "../base/fpenv.h"
#include "lanes.h"
#include "model.h"

static const char SUFFIX_A[] = ".lora_a", SUFFIX_B[] = ".lora_b";
enum { SUFFIX_BYTES = sizeof SUFFIX_A - 1, MAX_NAME = RQ_MAX_NAME_BYTES };
static const char ANOTHER_BASE[] = "the adapter belongs to another base model";

/* ---- what the file is ---- */

typedef struct adapter_file {
  rq_error *error;
  const rq_gguf *index;
  const uint8_t *data;
  rq_model *model;
  rq_arena *arena;
  float alpha; /* 0: the products aren't scaled by alpha / rank */
} adapter_file;

static int32_t expect_text(const adapter_file *f, const char *key, const char *wanted, const char *hint) {
  const char *text;
  uint32_t bytes;
  int32_t code = rq_gguf_read_string(f->error, f->index, f->data, key, false, &text, &bytes);
  if (code < 0) return code;
  if (text && bytes == rq_length(wanted) && rq_equal(text, wanted, bytes)) return RQ_OK;
  rq_fail(f->error, RQ_E_HYPERPARAMETER, "%s", key);
  rq_expected(f->error, "%s", wanted);
  if (text)
    rq_actual(f->error, "%.*s", (int)(bytes > 64 ? 64 : bytes), text);
  else
    rq_actual(f->error, "no such key");
  rq_hint(f->error, "%s", hint);
  return RQ_E_HYPERPARAMETER;
}

static int32_t read_kind(adapter_file *f) {
  static const char NO_ADAPTER[] = "this file is no LoRA adapter: is it the model itself?";
  const rq_hyper *hyper = &f->model->hyper;
  int32_t code;
  if ((code = expect_text(f, "general.type", "adapter", NO_ADAPTER)) < 0) return code;
  if ((code = expect_text(f, "adapter.type", "lora", NO_ADAPTER)) < 0) return code;
  code = expect_text(f, "general.architecture", hyper->architecture->name, ANOTHER_BASE);
  if (code < 0) return code;
  bool neox = hyper->architecture->rope_neox; /* rows of q and k lie in the order of the rotary pairs */
  if ((code = rq_gguf_read_bool(f->error, f->index, f->data, "ruvq.rope.neox", false, &neox)) < 0)
    return code;
  const char *key = "ruvq.rope.neox";
  bool activated = rq_gguf_key(f->index, f->data, "adapter.alora.invocation_tokens") != NULL;
  if (activated || neox != (hyper->info.rope_neox != 0)) {
    rq_fail(f->error, RQ_E_HYPERPARAMETER, "%s", activated ? "adapter.alora.invocation_tokens" : key);
    rq_expected(f->error, activated ? "an adapter that acts on every token" : "the model's order of rows");
    rq_actual(f->error, activated ? "one that acts behind certain tokens only" : "the other order");
    rq_hint(f->error, activated ? "this version of ruvq has no such adapters" : ANOTHER_BASE);
    return RQ_E_HYPERPARAMETER;
  }
  f->alpha = 0.0f;
  return rq_gguf_read_f32(f->error, f->index, f->data, "adapter.lora.alpha", false, &f->alpha);
}

/* ---- tensors ---- */

static bool ends_with(const char *name, uint32_t bytes, const char *suffix) {
  return bytes > SUFFIX_BYTES && rq_equal(name + bytes - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
}

static int32_t fail_name(const adapter_file *f, const char *name, uint32_t bytes, const char *expected,
                         const char *actual) {
  rq_fail(f->error, RQ_E_TENSOR, "%.*s", (int)bytes, name);
  rq_expected(f->error, "%s", expected);
  rq_actual(f->error, "%s", actual);
  rq_hint(f->error, "%s", ANOTHER_BASE);
  return RQ_E_TENSOR;
}

/* The tensor NAME<suffix>, NULL when it isn't there. */
static const rq_gguf_tensor *partner(const adapter_file *f, const char *name, uint32_t bytes,
                                     const char *suffix) {
  char text[MAX_NAME + 1];
  rq_copy(text, name, bytes);
  rq_copy(text + bytes - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
  int32_t position = rq_gguf_find_tensor(f->index, f->data, (const uint8_t *)text, (int32_t)bytes);
  return position < 0 ? NULL : rq_gguf_tensors(f->index) + position;
}

/* The matrix of that name, NULL for what can't be adapted. A tied output is the embedding. */
static rq_matrix *matrix_named(const adapter_file *f, const char *name, uint32_t bytes) {
  rq_model *m = f->model;
  int32_t position = rq_gguf_find_tensor(m->index, m->file, (const uint8_t *)name, (int32_t)bytes);
  if (position < 0) return NULL;
  const uint8_t *data = m->file + rq_gguf_tensors(m->index)[position].data_offset;
  int32_t n = 0, matrices = rq_matrix_count(&m->hyper);
  while (n < matrices && rq_matrix_at(&m->weights, n)->data != data) n++;
  return n == 0 || n == matrices ? NULL : rq_matrix_at(&m->weights, n);
}

/* Type, shape and size of A or B. */
static int32_t check_tensor(const adapter_file *f, const rq_gguf_tensor *tensor, int32_t rows,
                            int32_t width) {
  const rq_format *format = tensor->format < 0 ? NULL : rq_format_get(tensor->format);
  bool usable = format && !format->info.own;
  bool fits = tensor->rows == (uint64_t)rows && tensor->width == (uint64_t)width;
  int32_t row_bytes = usable && fits ? format->row_bytes(width) : -1;
  if (row_bytes >= 0 && tensor->data_bytes == (uint64_t)row_bytes * (uint64_t)rows) return RQ_OK;
  int32_t code = usable ? RQ_E_TENSOR : RQ_E_TYPE;
  rq_fail(f->error, code, "%.*s", (int)tensor->name_bytes, (const char *)f->data + tensor->name_offset);
  if (usable) {
    rq_expected(f->error, "%d rows of %d", rows, width);
    rq_actual(f->error, "%U rows of %U in %U bytes", tensor->rows, tensor->width, tensor->data_bytes);
    rq_hint(f->error, "%s", ANOTHER_BASE);
  } else {
    rq_expected(f->error, "f32, f16, bf16 or a block format of ggml's");
    rq_actual(f->error, "ggml type %d", tensor->ggml_type);
    rq_hint(f->error, "convert the adapter again");
  }
  return code;
}

/* 1 to the smaller side of the matrix. */
static int32_t check_rank(const adapter_file *f, const rq_gguf_tensor *a, const rq_matrix *matrix) {
  int32_t most = rq_min_i32(matrix->rows, matrix->width);
  if (a->rows >= 1 && a->rows <= (uint64_t)most) return RQ_OK;
  rq_fail(f->error, RQ_E_TENSOR, "%.*s", (int)a->name_bytes, (const char *)f->data + a->name_offset);
  rq_expected(f->error, "a rank of 1 to %d", most);
  rq_actual(f->error, "%U", a->rows);
  rq_hint(f->error, "%s", ANOTHER_BASE);
  return RQ_E_TENSOR;
}

/* Row `row` of a tensor as floats. */
static int32_t decode_row(const adapter_file *f, const rq_gguf_tensor *tensor, int32_t row, float *out) {
  const rq_format *format = rq_format_get(tensor->format);
  int32_t width = (int32_t)tensor->width;
  const uint8_t *data = f->data + tensor->data_offset;
  format->decode(data + (size_t)row * (size_t)format->row_bytes(width), width, out, RQ_SCALAR);
  if (rq_all_finite(out, width)) return RQ_OK;
  rq_fail(f->error, RQ_E_DATA, "%.*s", (int)tensor->name_bytes, (const char *)f->data + tensor->name_offset);
  rq_expected(f->error, "finite numbers");
  rq_actual(f->error, "NaN or infinity in row %d", row);
  rq_hint(f->error, "the file is damaged, or training went wrong: make the adapter again");
  return RQ_E_DATA;
}

/* B in tiles of RQ_UNIT_ROWS rows, as rq_adapter_add reads it. */
static int32_t decode_b(const adapter_file *f, const rq_gguf_tensor *tensor, rq_adapter_part *part) {
  int32_t rank = part->a.rows;
  for (int32_t r = 0; r < part->matrix->rows; r++) {
    int32_t code = decode_row(f, tensor, r, part->hidden);
    if (code < 0) return code;
    float *tile = part->b + (size_t)(r / RQ_UNIT_ROWS) * (size_t)rank * RQ_UNIT_ROWS + r % RQ_UNIT_ROWS;
    for (int32_t k = 0; k < rank; k++) tile[(size_t)k * RQ_UNIT_ROWS] = part->hidden[k];
  }
  return RQ_OK;
}

/* Finds, checks and decodes what belongs to `a`. While counting, *out holds sizes only. */
static int32_t bind_part(const adapter_file *f, const rq_gguf_tensor *a, rq_adapter_part *out) {
  const char *name = (const char *)f->data + a->name_offset;
  rq_zero(out, sizeof *out);
  out->matrix = matrix_named(f, name, a->name_bytes - SUFFIX_BYTES);
  if (!out->matrix)
    return fail_name(f, name, a->name_bytes, "a matrix of a layer, or of an output that is not tied",
                     "the model has no such matrix");
  const rq_gguf_tensor *b = partner(f, name, a->name_bytes, SUFFIX_B);
  if (!b) return fail_name(f, name, a->name_bytes, "a pair of .lora_a and .lora_b", "only .lora_a");
  int32_t rows = out->matrix->rows, width = out->matrix->width, code;
  if ((code = check_rank(f, a, out->matrix)) < 0) return code;
  int32_t rank = (int32_t)a->rows;
  if ((code = check_tensor(f, a, rank, width)) < 0) return code;
  if ((code = check_tensor(f, b, rows, rank)) < 0) return code;
  uint64_t tiles = ((uint64_t)rows + RQ_UNIT_ROWS - 1) / RQ_UNIT_ROWS;
  float *decoded = rq_arena_take(f->arena, (uint64_t)rank * (uint64_t)width * sizeof(float));
  out->a = (rq_matrix){.data = (const uint8_t *)decoded,
                       .format = rq_format_get(RQ_FORMAT_F32),
                       .rows = rank,
                       .width = width,
                       .row_bytes = width * (int32_t)sizeof(float)};
  out->b = rq_arena_take(f->arena, tiles * (uint64_t)rank * RQ_UNIT_ROWS * sizeof(float));
  uint64_t batch = (uint64_t)f->model->hyper.info.batch_tokens;
  out->hidden = rq_arena_take(f->arena, batch * (uint64_t)rank * sizeof(float));
  out->own_scale = f->alpha != 0.0f ? f->alpha / (float)rank : 1.0f;
  if (!out->hidden) return RQ_OK;
  for (int32_t k = 0; k < rank; k++)
    if ((code = decode_row(f, a, k, decoded + (size_t)k * (size_t)width)) < 0) return code;
  return decode_b(f, b, out);
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
    const char *name = (const char *)f->data + tensor->name_offset;
    uint32_t bytes = tensor->name_bytes;
    if (ends_with(name, bytes, SUFFIX_B) && partner(f, name, bytes, SUFFIX_A)) continue;
    if (!ends_with(name, bytes, SUFFIX_A))
      return fail_name(f, name, bytes, "pairs of .lora_a and .lora_b", "a tensor that is no such pair");
    rq_adapter_part part;
    if ((code = bind_part(f, tensor, &part)) < 0) return code;
    if (out->parts) out->parts[out->count] = part;
    out->count++;
  }
  if (out->count == 0) return fail_name(f, "tensors", 7, "pairs of .lora_a and .lora_b", "none");
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
