/* profile.c: reading what RQ_LAP has booked, and products with weights that stay in the cache. Empty in the
 * engine that ships. */
#include "model.h"

#if defined(RQ_PROFILE)

#include "../base/fpenv.h"

enum { CACHED_BYTES = 16384 }; /* of weights, beside the activations in the smallest first-level caches */

void rq_lap(rq_model *model, int32_t operation) {
  double now = rq_clock();
  model->profile.seconds[operation] += now - model->profile.since;
  model->profile.since = now;
}

void rq_lap_start(rq_model *model) { model->profile.since = rq_clock(); }

/* Those of a layer stand in it in the order of RQ_OP_*; an adapter's are elsewhere. */
int32_t rq_operation_of(const rq_model *model, const rq_matrix *matrix) {
  if (matrix == &model->weights.output) return RQ_OP_OUTPUT;
  uintptr_t layers = (uintptr_t)model->weights.layers, at = (uintptr_t)matrix - layers;
  if (at >= (uintptr_t)model->hyper.info.layers * sizeof(rq_layer)) return RQ_OP_REST;
  at %= sizeof(rq_layer);
  return RQ_OP_QUERY + (int32_t)((at - offsetof(rq_layer, query)) / sizeof(rq_matrix));
}

int32_t RQ_EXPORT rq_model_profile(const void *model, rq_profile *profile) {
  const rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return RQ_E_ARGUMENT;
  *profile = m->profile;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_profile_reset(void *model) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return RQ_E_ARGUMENT;
  rq_zero(&m->profile, sizeof m->profile);
  return RQ_OK;
}

static const rq_matrix *matrix_of(const rq_model *model, int32_t layer, int32_t operation) {
  if (operation == RQ_OP_OUTPUT) return &model->weights.output;
  if (layer < 0 || layer >= model->hyper.info.layers) return NULL;
  const rq_layer *l = &model->weights.layers[layer];
  const rq_matrix *all[] = {&l->query, &l->key, &l->value, &l->attention_out, &l->gate, &l->up, &l->down};
  int32_t at = operation - RQ_OP_QUERY;
  return at >= 0 && at < RQ_COUNT(all) ? all[at] : NULL;
}

static RQ_NOINLINE void multiply_cached(rq_model *model, const rq_matrix *matrix, int32_t repeats) {
  int32_t piece = rq_max_i32(RQ_UNIT_ROWS, CACHED_BYTES / matrix->row_bytes / RQ_UNIT_ROWS * RQ_UNIT_ROWS);
  const rq_product product = {matrix, model->logits, NULL};
  for (int32_t n = 0; n < repeats; n++)
    for (int32_t done = 0; done < matrix->rows; done += piece)
      rq_multiply_rows(model, &model->inputs, &product, 1, 0, rq_min_i32(piece, matrix->rows - done));
}

int32_t RQ_EXPORT rq_model_profile_cached(rq_error *error, void *model, int32_t layer, int32_t operation,
                                          int32_t repeats) {
  rq_model *m = model;
  const rq_matrix *matrix = m->magic == RQ_MODEL_MAGIC ? matrix_of(m, layer, operation) : NULL;
  if (!matrix || m->logits_rows < 1 || matrix->width > m->hyper.info.vocab_size) {
    rq_fail(error, RQ_E_ARGUMENT, "operation");
    rq_expected(error, "a matrix of a model that has logits, as many as the matrix is wide or more");
    rq_actual(error, "operation %d of layer %d", operation, layer);
    return RQ_E_ARGUMENT;
  }
  uint32_t saved = rq_fp_enter();
  rq_needs needs = {false, false, false, false};
  rq_needs_add(&needs, matrix);
  int32_t code = rq_inputs_set(m, m->logits, 1, matrix->width, needs); /* any finite numbers do */
  m->logits_rows = 0;
  if (code == RQ_OK) multiply_cached(m, matrix, repeats);
  rq_fp_leave(saved);
  return code;
}

#else
typedef int rq_no_profile; /* a translation unit must not be empty */
#endif
