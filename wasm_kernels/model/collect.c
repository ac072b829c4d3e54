/* collect.c: one layer at a time, for calibration: steps that take the residual stream from the host instead
 * of from the layers before, end at one of the layer's inputs or give the stream back, and sum the second
 * moments of every input on the way. Inputs are those before the Hadamard transform, whatever the file's
 * matrices went through. */
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

/* Numbers of a layer's inputs before this one; the output's is alone. */
static uint64_t offset_of(const rq_hyper *hyper, rq_input input, bool diagonal) {
  uint64_t offset = 0;
  for (int32_t i = 0; i < (int32_t)input && input != RQ_INPUT_OUTPUT; i++)
    offset += size_of(hyper, (rq_input)i, diagonal);
  return offset;
}

typedef struct collect_job {
  float *moment;
  const float *x;
  int32_t tokens, width;
  bool diagonal;
} collect_job;

enum { UNIT = 96 }; /* rows of H */

static void collect_rows(const collect_job *job, int32_t from, int32_t to) {
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

static int32_t blocks_of(int32_t width) { return (width + UNIT - 1) / UNIT; }

/* A unit is a block of rows and its mirror image, the longest rows of the triangle with the shortest. */
static void collect_units(void *data, int32_t first, int32_t last, int32_t thread) {
  const collect_job *job = data;
  int32_t blocks = blocks_of(job->width), mirrored = rq_max_i32(last, blocks - last);
  (void)thread;
  collect_rows(job, first * UNIT, rq_min_i32(last * UNIT, job->width));
  collect_rows(job, rq_min_i32(mirrored * UNIT, job->width), rq_min_i32((blocks - first) * UNIT, job->width));
}

bool rq_collect(rq_model *model, rq_input input, const float *x, int32_t tokens) {
  if (model->moments) {
    bool diagonal = model->moments_diagonal;
    float *moment = model->moments + offset_of(&model->hyper, input, diagonal);
    collect_job job = {moment, x, tokens, width_of(&model->hyper, input), diagonal};
    int32_t units = (blocks_of(job.width) + 1) / 2;
    uint64_t work = 2 * (uint64_t)tokens * UNIT * (uint64_t)(diagonal ? 1 : job.width / 2 + 1);
    rq_pool_run(model->pool, collect_units, &job, units, work);
  }
  return model->stage_rows && model->stage_until == (int32_t)input;
}

int32_t RQ_EXPORT rq_model_moments(const void *model, int32_t layer, int32_t diagonal, uint64_t *count) {
  const rq_hyper *hyper = &((const rq_model *)model)->hyper;
  bool output = layer == hyper->info.layers;
  *count =
      output ? size_of(hyper, RQ_INPUT_OUTPUT, diagonal != 0)
             : offset_of(hyper, RQ_INPUT_DOWN, diagonal != 0) + size_of(hyper, RQ_INPUT_DOWN, diagonal != 0);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_model_stage(rq_error *error, void *model, float *rows, int32_t layer, int32_t until,
                                 float *moments, int32_t diagonal) {
  rq_model *m = model;
  if (m->magic != RQ_MODEL_MAGIC) return rq_fail(error, RQ_E_ARGUMENT, "model");
  if (layer < 0 || layer > m->hyper.info.layers || until < 0 || until > RQ_INPUT_RESIDUAL) {
    rq_fail(error, RQ_E_ARGUMENT, "stage");
    rq_expected(error, "layer 0 to %d and an input of it", m->hyper.info.layers);
    rq_actual(error, "layer %d, input %d", layer, until);
    return RQ_E_ARGUMENT;
  }
  m->stage_rows = rows;
  m->stage_layer = layer;
  m->stage_until = until;
  m->moments = rows ? moments : NULL;
  m->moments_diagonal = diagonal != 0;
  return RQ_OK;
}

RQ_EXPORT const float *rq_model_tap(const void *model, int32_t input) {
  const rq_model *m = model;
  switch (input) {
    case RQ_INPUT_ATTENTION_OUT: return m->attended;
    case RQ_INPUT_DOWN: return m->gate;
    case RQ_INPUT_RESIDUAL: return m->x;
    default: return m->normed;
  }
}
