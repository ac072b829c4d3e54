/* product.c: matrices times the vectors of a step: every block of weights is decoded once for all tokens of
 * the batch, and each result is the same sum as alone. */
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

int32_t rq_inputs_set(rq_error *error, rq_model *model, const float *x, int32_t tokens, int32_t width,
                      rq_needs needs) {
  rq_inputs *in = &model->inputs;
  for (int32_t t = 0; t < tokens; t++) {
    const float *row = x + (size_t)t * (size_t)width;
    if (needs.plain) {
      int32_t code =
          rq_activations_set(error, &in->plain[t], row, width, needs.plain_quantized, model->variant);
      if (code < 0) return code;
    }
    if (needs.turned) {
      float *turned = in->turned_x + (size_t)t * (size_t)in->stride;
      rq_copy(turned, row, (size_t)width * sizeof(float));
      rq_hadamard_apply(turned, model->weights.signs, width, false, model->variant);
      int32_t code =
          rq_activations_set(error, &in->turned[t], turned, width, needs.turned_quantized, model->variant);
      if (code < 0) return code;
    }
  }
  return RQ_OK;
}

void rq_multiply(rq_model *model, const rq_matrix *matrix, int32_t tokens, float *y) {
  const rq_activations *inputs = matrix->turned ? model->inputs.turned : model->inputs.plain;
  int32_t rows = matrix->rows;
  rq_rows_product(matrix->format, matrix->data, matrix->width, 0, rows, inputs, tokens, y, (size_t)rows,
                  model->variant);
  if (!matrix->bias) return;
  for (int32_t t = 0; t < tokens; t++)
    for (int32_t r = 0; r < rows; r++) y[(size_t)t * (size_t)rows + (size_t)r] += matrix->bias[r];
}
