/* hadamard.c: which matrices had their input axis transformed (W' = W T^T), from ruvq.hadamard.*; their
 * inputs get the same transform, so that W' (T x) = W x. T is the blocked Hadamard transform, or for small
 * widths a dense rotation. */
#include "model.h"

static int32_t bad_layout(rq_error *error, const char *key, const char *expected, const char *text,
                          uint32_t bytes) {
  rq_fail(error, RQ_E_LAYOUT, "%s", key);
  rq_expected(error, "%s", expected);
  rq_actual(error, "%.*s", (int)(bytes > 120 ? 120 : bytes), text);
  rq_hint(error, "the file may come from a newer ruvq: upgrade, or quantize the model again");
  return RQ_E_LAYOUT;
}

/* The value of `key` must be one of `wanted`, which ends with NULL; its position there. */
static int32_t read_name(rq_error *error, const rq_gguf *index, const uint8_t *file, const char *key,
                         const char *const *wanted) {
  const char *text = NULL;
  uint32_t bytes = 0;
  int32_t code = rq_gguf_read_string(error, index, file, key, true, &text, &bytes);
  if (code < 0) return code;
  for (int32_t n = 0; wanted[n]; n++)
    if (bytes == rq_length(wanted[n]) && rq_equal(text, wanted[n], bytes)) return n;
  return bad_layout(error, key, wanted[0], text, bytes);
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
    if (matrix->data != data || matrix->turned || (w->reflections && matrix->width > w->rotated)) continue;
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

/* What the transform needs, for inputs up to `width`. */
static void make(rq_arena *arena, bool rotation, uint64_t seed, int32_t width, rq_weights *out) {
  uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
  out->rotated = rq_min_i32(width, RQ_ORTHOGONAL_MAX);
  uint64_t numbers = rotation ? (uint64_t)rq_orthogonal_numbers(out->rotated) : (uint64_t)width;
  float *memory = rq_arena_take(arena, numbers * sizeof(float));
  if (!memory) return;
  if (rotation)
    rq_orthogonal_vectors(low, high, out->rotated, out->reflections = memory);
  else
    rq_hadamard_signs(low, high, width, out->signs = memory);
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
  code = read_name(error, index, file, "ruvq.hadamard.generator", (const char *const[]){"splitmix64", NULL});
  if (code < 0) return code;
  const char *const cuts[] = {"greedy-256", "orthogonal-256",
                              NULL}; /* Hadamard; the rotation, up to that width */
  if ((code = read_name(error, index, file, "ruvq.hadamard.cut", cuts)) < 0) return code;
  hyper->info.hadamard_tensors = (int32_t)list->count;
  make(arena, code == 1, seed, rq_largest_input(hyper), out);
  return out->layers ? mark_all(error, index, file, hyper, key, list, out) : RQ_OK;
}

void rq_turn(const rq_model *model, float *x, int32_t start, int32_t numbers, bool inverse) {
  const rq_weights *w = &model->weights;
  if (w->reflections)
    rq_orthogonal_apply(x, w->reflections, w->rotated, numbers, inverse);
  else
    rq_hadamard_apply(x, w->signs + start, numbers, inverse, model->variant);
}
