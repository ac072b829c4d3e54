/* product.c: matrices times the vectors of a step: every block of weights is decoded once for all tokens of
 * the batch, and each result is the same sum as alone. Threads split rows, never a sum. */
#include "model.h"

void rq_needs_add(rq_needs *needs, const rq_matrix *matrix) {
  bool quantized = matrix->format->quantized;
  if (matrix->turned) {
    needs->turned = true;
    needs->turned_quantized = needs->turned_quantized || quantized;
  } else {
    needs->plain = true;
    needs->plain_quantized = needs->plain_quantized || quantized;
  }
}

/* ---- inputs ---- */

typedef struct inputs_job {
  rq_model *model;
  const float *x; /* (tokens, width) */
  int32_t width;
  rq_needs needs;
  _Atomic int32_t code; /* of a token that failed */
} inputs_job;

static int32_t set_input(rq_error *error, const inputs_job *job, int32_t t) {
  rq_model *model = job->model;
  rq_inputs *in = &model->inputs;
  int32_t width = job->width;
  const float *row = job->x + (size_t)t * (size_t)width;
  if (job->needs.plain) {
    bool quantized = job->needs.plain_quantized;
    int32_t code = rq_activations_set(error, &in->plain[t], row, width, quantized, model->variant);
    if (code < 0) return code;
    RQ_LAP_ALONE(model, RQ_OP_ACTIVATIONS);
  }
  if (!job->needs.turned) return RQ_OK;
  float *turned = in->turned_x + (size_t)t * (size_t)in->stride;
  rq_copy(turned, row, (size_t)width * sizeof(float));
  rq_hadamard_apply(turned, model->weights.signs, width, false, model->variant);
  RQ_LAP_ALONE(model, RQ_OP_HADAMARD);
  bool quantized = job->needs.turned_quantized;
  return rq_activations_set(error, &in->turned[t], turned, width, quantized, model->variant);
}

static void set_inputs(void *data, int32_t first, int32_t last, int32_t thread) {
  inputs_job *job = data;
  (void)thread;
  for (int32_t t = first; t < last; t++) {
    int32_t code = set_input(NULL, job, t);
    if (code < 0) atomic_store_explicit(&job->code, code, memory_order_relaxed);
  }
}

enum { INPUT_WORK = 16 }; /* one number made ready, in multiplications of a product */

int32_t rq_inputs_set(rq_model *model, const float *x, int32_t tokens, int32_t width, rq_needs needs) {
  inputs_job job = {model, x, width, needs, RQ_OK};
  int32_t grain = rq_pool_grain(model->pool, tokens, (uint64_t)width * INPUT_WORK);
  rq_pool_run(model->pool, set_inputs, &job, tokens, grain);
  RQ_LAP(model, RQ_OP_ACTIVATIONS); /* with a pool: the transform too */
  return atomic_load_explicit(&job.code, memory_order_relaxed);
}

/* ---- products ---- */

void rq_multiply_rows(rq_model *model, const rq_product *product, int32_t tokens, int32_t first,
                      int32_t last) {
  const rq_matrix *matrix = product->matrix;
  const rq_activations *inputs = matrix->turned ? model->inputs.turned : model->inputs.plain;
  size_t rows = (size_t)matrix->rows;
  rq_rows_product(matrix->format, matrix->data, matrix->width, first, last, inputs, tokens, product->y, rows,
                  model->variant);
  if (!matrix->bias) return;
  for (int32_t t = 0; t < tokens; t++)
    for (int32_t r = first; r < last; r++) product->y[(size_t)t * rows + (size_t)r] += matrix->bias[r];
}

typedef struct product_job {
  rq_model *model;
  const rq_product *products;
  int32_t count, tokens;
} product_job;

static int32_t units_of(const rq_matrix *matrix) { return (matrix->rows + RQ_UNIT_ROWS - 1) / RQ_UNIT_ROWS; }

/* Units [first, last) of all products one behind the other. */
static void multiply_units(void *data, int32_t first, int32_t last, int32_t thread) {
  const product_job *job = data;
  (void)thread;
  for (int32_t n = 0, start = 0; n < job->count; n++) {
    const rq_product *product = job->products + n;
    int32_t units = units_of(product->matrix);
    int32_t from = rq_max_i32(first - start, 0), to = rq_min_i32(last - start, units);
    if (from < to) {
      rq_multiply_rows(job->model, product, job->tokens, from * RQ_UNIT_ROWS,
                       rq_min_i32(to * RQ_UNIT_ROWS, product->matrix->rows));
      RQ_LAP_ALONE(job->model, rq_operation_of(job->model, product->matrix));
    }
    start += units;
  }
}

void rq_multiply(rq_model *model, const rq_product *products, int32_t count, int32_t tokens) {
  product_job job = {model, products, count, tokens};
  int32_t units = 0;
  for (int32_t n = 0; n < count; n++) units += units_of(products[n].matrix);
  uint64_t work = (uint64_t)tokens * RQ_UNIT_ROWS * (uint64_t)products[0].matrix->width;
  rq_pool_run(model->pool, multiply_units, &job, units, rq_pool_grain(model->pool, units, work));
  RQ_LAP(model, rq_operation_of(model, products[0].matrix)); /* with a pool: all products of the job */
}
