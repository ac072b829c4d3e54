/* product.c: matrices times the vectors of a step: every block of weights is decoded once for all tokens of
 * the batch, and each result is the same sum as alone. Threads split rows, never a sum. */
#include "../base/fpenv.h"
#include "lanes.h"
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

static int32_t blocks_of(int32_t width) { return (width + RQ_BLOCK - 1) / RQ_BLOCK; }
static int32_t block_numbers(int32_t block, int32_t width) {
  return rq_min_i32(RQ_BLOCK, width - block * RQ_BLOCK);
}

void rq_inputs_begin(rq_inputs_job *job, rq_model *model, rq_inputs *in, const float *x, int32_t tokens,
                     int32_t width, rq_needs needs) {
  *job = (rq_inputs_job){model, in, x, tokens, width, needs, RQ_OK};
  for (int32_t t = 0; t < tokens; t++) {
    rq_activations_begin(&in->plain[t], x + (size_t)t * (size_t)width, width);
    if (needs.turned)
      rq_activations_begin(&in->turned[t], in->turned_x + (size_t)t * (size_t)in->stride, width);
  }
  for (int32_t block = 0; block < blocks_of(width); block++)
    atomic_store_explicit(&in->left[block], block_numbers(block, width), memory_order_relaxed);
}

/* A block of the transform is one of the activations, so that blocks don't need each other. */
static int32_t set_block(const rq_inputs_job *job, int32_t t, int32_t block) {
  rq_model *model = job->model;
  const rq_inputs *in = job->inputs;
  if (job->needs.plain) {
    int32_t code = rq_activations_block(&in->plain[t], block, job->needs.plain_quantized, model->variant);
    if (code < 0) return code;
    RQ_LAP_ALONE(model, RQ_OP_ACTIVATIONS);
  }
  if (!job->needs.turned) return RQ_OK;
  int32_t start = block * RQ_BLOCK, numbers = block_numbers(block, job->width);
  float *turned = in->turned_x + (size_t)t * (size_t)in->stride + start;
  rq_copy(turned, job->x + (size_t)t * (size_t)job->width + start, (size_t)numbers * sizeof(float));
  rq_turn(model, turned, start, numbers, false);
  RQ_LAP_ALONE(model, RQ_OP_HADAMARD);
  return rq_activations_block(&in->turned[t], block, job->needs.turned_quantized, model->variant);
}

static void set_blocks(void *data, int32_t first, int32_t last, int32_t thread) {
  rq_inputs_job *job = data;
  int32_t blocks = blocks_of(job->width);
  (void)thread;
  for (int32_t unit = first; unit < last; unit++)
    if (set_block(job, unit / blocks, unit % blocks) < 0)
      atomic_store_explicit(&job->code, RQ_E_NONFINITE, memory_order_relaxed);
  RQ_LAP_ALONE(job->model, RQ_OP_ACTIVATIONS);
}

void rq_inputs_done(rq_inputs_job *job, int32_t first, int32_t last) {
  for (int32_t block = first / RQ_BLOCK; block * RQ_BLOCK < last; block++) {
    int32_t start = block * RQ_BLOCK;
    int32_t numbers = rq_min_i32(last, start + RQ_BLOCK) - rq_max_i32(first, start);
    if (atomic_fetch_sub(&job->inputs->left[block], numbers) == numbers) set_blocks(job, block, block + 1, 0);
  }
}

enum { INPUT_WORK = 16 }; /* one number made ready, in multiplications of a product */

int32_t rq_inputs_set(rq_model *model, const float *x, int32_t tokens, int32_t width, rq_needs needs) {
  rq_inputs_job job;
  rq_inputs_begin(&job, model, &model->inputs, x, tokens, width, needs);
  rq_pool_run(model->pool, set_blocks, &job, tokens * blocks_of(width), RQ_BLOCK * INPUT_WORK);
  RQ_LAP(model, RQ_OP_ACTIVATIONS); /* with a pool: the transform too */
  return rq_inputs_code(&job);
}

/* ---- products ---- */

/* y += scale B hidden, for rows [first, last) of one token: each row's sum in the order of the rank. */
static RQ_NOINLINE void add_adapter(const rq_adapter_part *part, const float *hidden, float *y, int32_t first,
                                    int32_t last) {
  enum { VECTORS = RQ_UNIT_ROWS / 4 };
  for (int32_t r = first; r < last; r += RQ_UNIT_ROWS) {
    const rq_vec *tile = (const rq_vec *)(part->b + (size_t)r * (size_t)part->a.rows);
    rq_vec_value sum[VECTORS] = {0};
    for (int32_t k = 0; k < part->a.rows; k++)
      for (int32_t v = 0; v < VECTORS; v++) sum[v] = sum[v] + *tile++ * hidden[k];
    float added[RQ_UNIT_ROWS];
    for (int32_t v = 0; v < VECTORS; v++) ((rq_vec *)added)[v] = sum[v] * part->scale;
    for (int32_t l = 0; l < RQ_UNIT_ROWS && r + l < last; l++) y[r + l] = y[r + l] + added[l];
  }
}

RQ_NOINLINE void rq_adapters_begin(rq_model *model, const rq_inputs *inputs, const rq_product *products,
                                   int32_t count, int32_t tokens) {
  for (int32_t n = 0; n < count; n++)
    for (rq_adapter_part *part = products[n].matrix->parts; part; part = part->next) {
      const rq_product product = {&part->a, part->hidden, NULL};
      rq_multiply(model, inputs, &product, 1, tokens);
    }
}

void rq_multiply_rows(const rq_model *model, const rq_inputs *inputs, const rq_product *product,
                      int32_t tokens, int32_t first, int32_t last) {
  const rq_matrix *matrix = product->matrix;
  const rq_activations *x = matrix->turned ? inputs->turned : inputs->plain;
  size_t rows = (size_t)matrix->rows;
  int32_t variant = tokens == 1 ? model->variant_alone[matrix->format->info.format] : model->variant;
  rq_rows_product(matrix->format, matrix->data, matrix->width, first, last, x, tokens, product->y, rows,
                  variant);
  if (!matrix->bias && !matrix->parts && !product->sum) return;
  for (int32_t t = 0; t < tokens; t++) {
    float *y = product->y + (size_t)t * rows;
    float *sum = product->sum ? product->sum + (size_t)t * rows : NULL;
    if (matrix->bias)
      for (int32_t r = first; r < last; r++) y[r] += matrix->bias[r];
    for (const rq_adapter_part *part = matrix->parts; part; part = part->next)
      add_adapter(part, part->hidden + (size_t)t * (size_t)part->a.rows, y, first, last);
    if (product->sum)
      for (int32_t r = first; r < last; r++) sum[r] = sum[r] + y[r];
  }
}

typedef struct product_job {
  rq_model *model;
  const rq_inputs *inputs;
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
      rq_multiply_rows(job->model, job->inputs, product, job->tokens, from * RQ_UNIT_ROWS,
                       rq_min_i32(to * RQ_UNIT_ROWS, product->matrix->rows));
      RQ_LAP_ALONE(job->model, rq_operation_of(job->model, product->matrix));
    }
    start += units;
  }
}

void rq_multiply(rq_model *model, const rq_inputs *inputs, const rq_product *products, int32_t count,
                 int32_t tokens) {
  rq_adapters_begin(model, inputs, products, count, tokens);
  product_job job = {model, inputs, products, count, tokens};
  int32_t units = 0;
  for (int32_t n = 0; n < count; n++) units += units_of(products[n].matrix);
  uint64_t work = (uint64_t)tokens * RQ_UNIT_ROWS * (uint64_t)products[0].matrix->width;
  rq_pool_run(model->pool, multiply_units, &job, units, work);
  RQ_LAP(model, rq_operation_of(model, products[0].matrix)); /* with a pool: all products of the job */
}
