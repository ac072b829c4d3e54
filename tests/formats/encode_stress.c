/* encode_stress.c: rq_encode of every writable format on awkward weights, for the sanitizers: zeros,
 * denormals, the largest that a format holds, one outlier, one sign only, constant rows; with and without
 * importance, and with error feedback. */
#include <stdio.h>
#include <stdlib.h>

#include "../../wasm_kernels/formats/formats.h"

enum { WIDTH = 512, KINDS = 8, PLAIN = 0, WEIGHTED = 1, FED_BACK = 2, WAYS = 3 };

static uint32_t state = 12345;
static float uniform(void) { /* -1 to 1 */
  state = state * 1664525u + 1013904223u;
  return (float)(int32_t)state * 0x1p-31f;
}

static float weight(int kind, int i) {
  switch (kind) {
    case 0: return 0.0f;
    case 1: return uniform() * 0x1p-130f;
    case 2: return uniform() * 60000.0f;
    case 3: return i == 100 ? 50.0f : uniform() * 1e-3f;
    case 4: return 0.5f + uniform() * 0.4f;
    case 5: return -0.37f;
    case 6: return i % 64 < 32 ? 0.0f : uniform() * 1e-6f;
    default: return uniform() * uniform() * uniform();
  }
}

static float x[WIDTH], importance[WIDTH], factor[WIDTH * WIDTH], pivots[WIDTH];

static void set_row(int kind) {
  for (int i = 0; i < WIDTH; i++) {
    x[i] = weight(kind, i);
    importance[i] = i % 3 == 0 ? 0.0f : (uniform() + 1.0f) * (i % 5 == 0 ? 0x1p-40f : 1.0f);
  }
}

static void set_factor(void) {
  for (int i = 0; i < WIDTH; i++) {
    pivots[i] = i % 7 == 0 ? 0x1p-30f : 1.5f + uniform();
    for (int j = i + 1; j < WIDTH; j++) factor[i * WIDTH + j] = 0.2f * uniform();
  }
}

/* Scratch is just as large as it must be. */
static int32_t encode(rq_error *error, int way, int32_t format, uint8_t *out) {
  int32_t needed =
      way == FED_BACK ? rq_encode_feedback_scratch(format, WIDTH) : rq_encode_scratch(format, WIDTH);
  uint8_t *scratch = malloc((size_t)needed), *end = scratch + needed;
  int32_t code =
      way == FED_BACK
          ? rq_encode_feedback(error, format, 0, x, factor, pivots, 1, WIDTH, out, scratch, end)
          : rq_encode(error, format, 0, x, way == WEIGHTED ? importance : 0, 1, WIDTH, out, scratch, end);
  free(scratch);
  return code;
}

int main(void) {
  static float decoded[WIDTH];
  set_factor();
  for (int32_t format = 0; format < RQ_FORMAT_COUNT; format++) {
    const rq_format *entry = rq_format_get(format);
    if (!entry->info.writable) continue;
    int32_t bytes = rq_format_row_bytes(format, WIDTH);
    uint8_t *out = malloc((size_t)bytes);
    for (int32_t i = 0; i < WAYS * KINDS; i++) {
      int way = i / KINDS, kind = i % KINDS;
      if (way == FED_BACK && !entry->quantized) continue;
      set_row(kind);
      rq_error error = {0};
      int32_t code = encode(&error, way, format, out);
      if (code < 0 && kind == 2) continue; /* more than it holds */
      if (code >= 0) code = rq_check_rows(&error, format, out, 1, WIDTH);
      if (code >= 0) code = rq_decode(&error, format, out, 1, WIDTH, decoded, RQ_SCALAR);
      if (code < 0) {
        printf("format %d, way %d, kind %d: %s, %s\n", format, way, kind, error.subject, error.actual);
        return 1;
      }
    }
    free(out);
  }
  puts("done");
  return 0;
}
