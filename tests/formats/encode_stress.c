/* encode_stress.c: rq_encode of every writable format on awkward weights, for the sanitizers: zeros,
 * denormals, the largest that a format holds, one outlier, one sign only, constant rows; with and without
 * importance. */
#include <stdio.h>
#include <stdlib.h>

#include "../../wasm_kernels/formats/formats.h"

enum { WIDTH = 512, KINDS = 8 };

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

int main(void) {
  static float x[WIDTH], importance[WIDTH], decoded[WIDTH];
  for (int32_t format = 0; format < RQ_FORMAT_COUNT; format++) {
    if (!rq_format_get(format)->info.writable) continue;
    int32_t bytes = rq_format_row_bytes(format, WIDTH), needed = rq_encode_scratch(format, WIDTH);
    uint8_t *out = malloc((size_t)bytes), *scratch = malloc((size_t)needed); /* just enough */
    for (int kind = 0; kind < 2 * KINDS; kind++) {
      for (int i = 0; i < WIDTH; i++) {
        x[i] = weight(kind % KINDS, i);
        importance[i] = i % 3 == 0 ? 0.0f : (uniform() + 1.0f) * (i % 5 == 0 ? 0x1p-40f : 1.0f);
      }
      rq_error error = {0};
      int32_t code = rq_encode(&error, format, 0, x, kind < KINDS ? 0 : importance, 1, WIDTH, out, scratch,
                               scratch + needed);
      if (code < 0 && kind % KINDS == 2) continue; /* more than it holds */
      if (code >= 0) code = rq_check_rows(&error, format, out, 1, WIDTH);
      if (code >= 0) code = rq_decode(&error, format, out, 1, WIDTH, decoded, RQ_SCALAR);
      if (code < 0) {
        printf("format %d, kind %d: %s, %s\n", format, kind, error.subject, error.actual);
        return 1;
      }
    }
    free(out);
    free(scratch);
  }
  puts("done");
  return 0;
}
