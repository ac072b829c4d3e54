/* encode_alpha.c: the search over alpha that stands around a search for the codes of a trellis. */
#include "encode.h"

/* the alpha that is most often the best, over the root mean square of the block; measured */
#define ALPHA_OF_RMS_3 1.3f
#define ALPHA_OF_RMS_2 1.4f

float rq_block_energy(const rq_encode_block *block) {
  float sum = 0.0f;
  for (int32_t i = 0; i < block->r; i++) {
    float e = block->x[i] * block->x[i];
    sum += block->weighted ? block->w[i] * e : e;
  }
  return sum;
}

int32_t rq_first_alpha(const rq_encode_block *block, float energy, bool three_bits) {
  float weight = 0.0f;
  for (int32_t i = 0; i < block->r; i++) weight += block->weighted ? block->w[i] : 1.0f;
  float wanted = rq_sqrtf(energy / weight) * (three_bits ? ALPHA_OF_RMS_3 : ALPHA_OF_RMS_2);
  int32_t low = 1, high = RQ_ALPHA_BYTE_MAX; /* alpha grows with its byte */
  while (low < high) {
    int32_t middle = (low + high + 1) / 2;
    if (rq_alpha_of_byte((uint8_t)middle) <= wanted)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static uint8_t nearest_alpha(float alpha) {
  int32_t best = 1;
  double least = 0.0;
  for (int32_t a = 1; a <= RQ_ALPHA_BYTE_MAX; a++) {
    double e = (double)rq_alpha_of_byte((uint8_t)a) - (double)alpha;
    e = e < 0.0 ? -e : e;
    if (a == 1 || e < least) {
      least = e;
      best = a;
    }
  }
  return (uint8_t)best;
}

void rq_search_alpha(const rq_encode_settings *settings, int32_t start, int32_t radius,
                     rq_try_alpha try_alpha, void *context) {
  if (settings->rule == RQ_SCALE_GIVEN) {
    try_alpha(context, nearest_alpha(settings->scale));
    return;
  }
  int32_t low = start, high = start - 1, best_at = start; /* [low, high] has been tried */
  for (;;) {
    int32_t a;
    if (high < RQ_ALPHA_BYTE_MAX && high < best_at + radius)
      a = ++high;
    else if (low > 1 && low > best_at - radius)
      a = --low;
    else
      return;
    if (try_alpha(context, (uint8_t)a)) best_at = a;
  }
}
