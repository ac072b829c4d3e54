/* Stands in for ggml's library in tests of the way to it: every row's bytes are 7, the type, and what came in. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t nrows, int64_t width,
                           const float *imatrix);

size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t nrows, int64_t width,
                           const float *imatrix) {
  const size_t row_bytes = (size_t)(width / 32 * 34); /* q8_0 */
  if (type != 8)
    return 0;
  for (int64_t row = 0; row < nrows; row++) {
    uint8_t *out = (uint8_t *)dst + (size_t)(start / width + row) * row_bytes;
    memset(out, 0, row_bytes);
    for (int64_t block = 0; block < width / 32; block++) { /* d = 1; q: the value, scaled by its importance */
      uint8_t *at = out + block * 34;
      at[1] = 0x3C;
      for (int i = 0; i < 32; i++) {
        const float weight = imatrix ? imatrix[block * 32 + i] : 1.0f;
        ((int8_t *)at)[2 + i] = (int8_t)(src[start + row * width + block * 32 + i] * weight);
      }
    }
  }
  return (size_t)nrows * row_bytes;
}
