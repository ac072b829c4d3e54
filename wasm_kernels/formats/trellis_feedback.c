/* trellis_feedback.c: the codes of a trellis block whose header is decided, with error feedback inside the
 * block. The value of a weight depends on the code before it, and what the feedback adds to a weight on all
 * codes before it; so each of the 4 survivors of the Viterbi search carries the corrections that its own
 * errors cause, and all but one end with the block. With more survivors the codes would get better still:
 * two ways that meet in a state are compared by what they have cost, not by what they will. */
#include "encode.h"

enum { STATES = 4 };

/* Corrected weights of the survivors, one row each; what they came from. */
typedef struct ways {
  float (*pending)[RQ_BLOCK]; /* (STATES) */
  float cost[STATES];
} ways;

typedef struct steps_back {
  uint8_t (*from)[RQ_BLOCK]; /* (STATES): the state before */
  uint8_t (*code)[RQ_BLOCK]; /* (STATES) */
} steps_back;

typedef struct branch {
  float cost, value;
  uint8_t from, code;
} branch;

/* The cheapest way into state `to` at weight i; the lower state and code on a tie. */
static branch cheapest(const rq_own *own, const ways *w, int32_t i, int32_t to, float d, float pivot) {
  branch best = {0.0f, 0.0f, 0, 0};
  int32_t codes = own->three_bits ? 2 : 1;
  bool first = true;
  for (int32_t from = 0; from < STATES; from++)
    for (int32_t low = 0; low < codes; low++) {
      int32_t code = own->three_bits ? to << 1 | low : to;
      float value = (float)own->table[code << 2 | from] * d, e = w->pending[from][i] - value;
      float cost = w->cost[from] + pivot * (e * e);
      if (!first && !(cost < best.cost)) continue;
      best = (branch){cost, value, (uint8_t)from, (uint8_t)code};
      first = false;
    }
  return best;
}

static void correct(const float *before, float *after, float e, const float *factor, int32_t begin,
                    int32_t end) {
  for (int32_t j = begin; j < end; j++) after[j] = before[j] + e * factor[j];
}

float rq_trellis_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                          const uint8_t *header, uint8_t *codes, void *scratch) {
  float(*rows)[RQ_BLOCK] = scratch;
  uint8_t(*bytes)[RQ_BLOCK] = (uint8_t(*)[RQ_BLOCK])(rows + 2 * STATES);
  ways now = {rows, {0.0f, 0x1p100f, 0x1p100f, 0x1p100f}}, next = {rows + STATES, {0.0f}};
  steps_back back = {bytes, bytes + STATES};
  float d[RQ_GROUPS];
  rq_own_scales(own, header, d);
  int32_t group = RQ_GROUP_LANES * rq_block_steps(block->r);
  for (int32_t s = 0; s < STATES; s++) rq_copy(now.pending[s], x, (size_t)block->r * sizeof(float));
  for (int32_t i = 0; i < block->r; i++) {
    const float *factor = block->factor + (size_t)i * block->stride;
    for (int32_t to = 0; to < STATES; to++) {
      branch b = cheapest(own, &now, i, to, d[i / group], block->pivots[i]);
      next.cost[to] = b.cost;
      back.from[to][i] = b.from;
      back.code[to][i] = b.code;
      correct(now.pending[b.from], next.pending[to], block->weights[i] - b.value, factor, i + 1, block->r);
    }
    ways done = now;
    now = next;
    next = done;
  }
  int32_t state = 0;
  for (int32_t s = 1; s < STATES; s++)
    if (now.cost[s] < now.cost[state]) state = s;
  float cost = now.cost[state];
  for (int32_t i = block->r - 1; i >= 0; i--) {
    codes[i] = back.code[state][i];
    state = back.from[state][i];
  }
  return cost;
}
