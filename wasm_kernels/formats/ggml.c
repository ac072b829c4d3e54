/* ggml.c: decoding, products and checks of ggml's block formats, the plain scalar reference: whatever the
 * format, on what its reader gives. The order of sums is docs/formats.md. */
#include "ggml.h"

static float weight_of(const rq_ggml *format, const rq_ggml_block *block, int32_t i) {
  int32_t p = i / format->part;
  float weight = (float)block->value[i] * block->scale[p];
  return format->offsets ? weight + block->offset[p] : weight;
}

void rq_ggml_decode_scalar(const rq_ggml *format, const uint8_t *row, int32_t width, float *out) {
  for (int32_t start = 0; start < width; start += format->weights, row += format->bytes) {
    rq_ggml_block block;
    format->read(row, &block);
    for (int32_t i = 0; i < format->weights; i++) out[start + i] = weight_of(format, &block, i);
  }
}

float rq_ggml_dot_scalar(const rq_ggml *format, const uint8_t *row, const rq_activations *a) {
  float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  int32_t part = format->part, count = 0; /* parts so far, in the whole row */
  for (int32_t start = 0; start < a->width; start += format->weights, row += format->bytes) {
    rq_ggml_block block;
    format->read(row, &block);
    float dx = a->scale[start / RQ_BLOCK];
    for (int32_t p = 0; p < format->weights / part; p++, count++) {
      const int8_t *value = block.value + part * p, *q = a->q + start + part * p;
      int32_t product = 0, sum = 0;
      for (int32_t i = 0; i < part; i++) {
        product += value[i] * q[i];
        sum += q[i];
      }
      float *to = &acc[count % 4];
      *to = *to + (float)product * (block.scale[p] * dx);
      if (format->offsets) *to = *to + (float)sum * (block.offset[p] * dx);
    }
  }
  return rq_sum4(acc);
}

static bool finite(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return (bits & 0x7F800000) != 0x7F800000;
}

int32_t rq_ggml_check(rq_error *error, const rq_ggml *format, const uint8_t *row, int32_t width) {
  for (int32_t b = 0; b < width / format->weights; b++, row += format->bytes) {
    rq_ggml_block block;
    format->read(row, &block);
    bool scales = true;
    for (int32_t p = 0; p < format->weights / format->part; p++)
      scales &= finite(block.scale[p]) && (!format->offsets || finite(block.offset[p]));
    int32_t i = 0;
    while (scales && i < format->weights && finite(weight_of(format, &block, i))) i++;
    if (scales && i == format->weights) continue;
    rq_fail(error, RQ_E_DATA, "the scale of block %d", b);
    rq_expected(error, "finite numbers");
    rq_actual(error, scales ? "a weight beyond the range of f32" : "NaN or infinity");
    return RQ_E_DATA;
  }
  return RQ_OK;
}
