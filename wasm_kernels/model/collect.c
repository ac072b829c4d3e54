/* collect.c: second moments of the inputs of every matrix, summed while the model runs: what calibration
 * is made of. Inputs are taken before the Hadamard transform, whatever the file's matrices went through. */
#include "model.h"

static int32_t width_of(const rq_hyper *hyper, rq_input input) {
  switch (input) {
    case RQ_INPUT_ATTENTION_OUT: return hyper->info.heads * hyper->value_width;
    case RQ_INPUT_DOWN: return hyper->info.ff_width;
    default: return hyper->info.width;
  }
}

/* Numbers of one input. */
static uint64_t size_of(const rq_hyper *hyper, rq_input input, bool diagonal) {
  uint64_t width = (uint64_t)width_of(hyper, input);
  return diagonal ? width : width * width;
}

/* Where an input's numbers begin. */
static uint64_t offset_of(const rq_hyper *hyper, int32_t layer, rq_input input, bool diagonal) {
  uint64_t inputs[RQ_INPUTS], all = 0, offset = 0;
  for (int32_t i = 0; i < RQ_INPUTS; i++) all += inputs[i] = size_of(hyper, (rq_input)i, diagonal);
  for (int32_t i = 0; i < (int32_t)input; i++) offset += inputs[i];
  return (uint64_t)layer * all + (input == RQ_INPUT_OUTPUT ? 0 : offset);
}

typedef struct collect_job {
  float *moment;
  const float *x;
  int32_t tokens, width;
  bool diagonal;
} collect_job;

enum { UNIT = 16 }; /* rows of H */

static void collect_units(void *data, int32_t first, int32_t last, int32_t thread) {
  const collect_job *job = data;
  int32_t from = first * UNIT, to = rq_min_i32(last * UNIT, job->width);
  (void)thread;
  if (!job->diagonal) {
    rq_moment_add_rows(job->moment, job->x, job->tokens, job->width, from, to);
    return;
  }
  for (int32_t t = 0; t < job->tokens; t++)
    for (int32_t i = from; i < to; i++) {
      float x = job->x[(size_t)t * (size_t)job->width + (size_t)i];
      job->moment[i] = job->moment[i] + x * x;
    }
}

void rq_collect(rq_model *model, int32_t layer, rq_input input, const float *x, int32_t tokens) {
  if (!model->moments) return;
  bool diagonal = model->moments_diagonal;
  float *moment = model->moments + offset_of(&model->hyper, layer, input, diagonal);
  collect_job job = {moment, x, tokens, width_of(&model->hyper, input), diagonal};
  int32_t units = (job.width + UNIT - 1) / UNIT;
  uint64_t work = (uint64_t)tokens * UNIT * (uint64_t)(diagonal ? 1 : job.width / 2 + 1);
  rq_pool_run(model->pool, collect_units, &job, units, work);
}

int32_t RQ_EXPORT rq_model_moments(const void *model, int32_t diagonal, uint64_t *count) {
  const rq_hyper *hyper = &((const rq_model *)model)->hyper;
  *count = offset_of(hyper, hyper->info.layers, RQ_INPUT_OUTPUT, diagonal != 0) +
           size_of(hyper, RQ_INPUT_OUTPUT, diagonal != 0);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_collect(rq_error *error, void *model, float *moments, int32_t diagonal) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return rq_fail(error, RQ_E_ARGUMENT, "model");
  m->moments = moments;
  m->moments_diagonal = diagonal != 0;
  return RQ_OK;
}
