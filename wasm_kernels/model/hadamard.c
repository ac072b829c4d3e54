/* hadamard.c: which matrices had their input axis transformed (W' = W (H S)^T), from ruvq.hadamard.*;
 * their inputs get the same transform, so that W' (H S x) = W x. */
#include "model.h"

static int32_t bad_layout(rq_error *error, const char *key, const char *expected, const char *text,
                          uint32_t bytes) {
  rq_fail(error, RQ_E_LAYOUT, "%s", key);
  rq_expected(error, "%s", expected);
  rq_actual(error, "%.*s", (int)(bytes > 120 ? 120 : bytes), text);
  rq_hint(error, "the file may come from a newer ruvq: upgrade, or quantize the model again");
  return RQ_E_LAYOUT;
}

/* The value of `key` must be exactly `wanted`. */
static int32_t check_name(rq_error *error, const rq_gguf *index, const uint8_t *file, const char *key,
                          const char *wanted) {
  const char *text = NULL;
  uint32_t bytes = 0;
  int32_t code = rq_gguf_read_string(error, index, file, key, true, &text, &bytes);
  if (code < 0) return code;
  if (bytes == rq_length(wanted) && rq_equal(text, wanted, bytes)) return RQ_OK;
  return bad_layout(error, key, wanted, text, bytes);
}

/* Marks the matrix of that name (two entries where the output is tied); how many were marked anew. */
static int32_t mark(const rq_gguf *index, const uint8_t *file, const rq_hyper *hyper, rq_weights *w,
                    const char *name, uint32_t bytes) {
  int32_t position = rq_gguf_find_tensor(index, file, (const uint8_t *)name, (int32_t)bytes);
  if (position < 0) return 0;
  const uint8_t *data = file + rq_gguf_tensors(index)[position].data_offset;
  int32_t marked = 0;
  for (int32_t n = 0; n < rq_matrix_count(hyper); n++) {
    rq_matrix *matrix = rq_matrix_at(w, n);
    if (matrix->data != data || matrix->turned) continue;
    matrix->turned = true;
    marked++;
  }
  return marked;
}

static int32_t mark_all(rq_error *error, const rq_gguf *index, const uint8_t *file, const rq_hyper *hyper,
                        const char *key, const rq_gguf_kv *list, rq_weights *w) {
  uint64_t cursor = list->value_offset;
  for (uint64_t n = 0; n < list->count; n++) {
    const char *name;
    uint32_t bytes;
    rq_gguf_next_string(file, &cursor, &name, &bytes);
    if (mark(index, file, hyper, w, name, bytes) == 0)
      return bad_layout(error, key, "matrices of the model, each once", name, bytes);
  }
  return RQ_OK;
}

int32_t rq_weights_bind_hadamard(rq_error *error, const rq_gguf *index, const uint8_t *file, rq_hyper *hyper,
                                 rq_arena *arena, rq_weights *out) {
  const char *key = "ruvq.hadamard.tensors";
  const rq_gguf_kv *list = rq_gguf_key(index, file, key);
  hyper->info.hadamard_tensors = 0;
  if (!list) return RQ_OK;
  if (list->type != RQ_KV_ARRAY || list->element_type != RQ_KV_STRING)
    return bad_layout(error, key, "an array of strings", "another type", 12);
  if (list->count > (uint64_t)rq_matrix_count(hyper))
    return bad_layout(error, key, "at most the matrices of the model", "more names", 10);
  if (list->count == 0) return RQ_OK;
  uint64_t seed = 0;
  int32_t code = rq_gguf_read_u64(error, index, file, "ruvq.hadamard.seed", true, &seed);
  if (code < 0) return code;
  code = check_name(error, index, file, "ruvq.hadamard.generator", "splitmix64");
  if (code < 0) return code;
  if ((code = check_name(error, index, file, "ruvq.hadamard.cut", "greedy-256")) < 0) return code;
  hyper->info.hadamard_tensors = (int32_t)list->count;
  int32_t width = rq_largest_input(hyper);
  out->signs = rq_arena_take(arena, (uint64_t)width * sizeof(float));
  if (out->signs) rq_hadamard_signs((uint32_t)seed, (uint32_t)(seed >> 32), width, out->signs);
  return out->layers ? mark_all(error, index, file, hyper, key, list, out) : RQ_OK;
}
