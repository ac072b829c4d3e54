/* trellis_feedback.c: the codes of a trellis block whose header is decided, with error feedback inside the
 * block. The value of a weight depends on the code before it, and what the feedback adds to a weight on all
 * codes before it; so each of the 4 survivors of the Viterbi search carries the corrections that its own
 * errors cause, and all but one end with the block. With more survivors the codes would get better still:
 * two ways that meet in a state are compared by what they have cost, not by what they will. */
#include "encode.h"

enum { STATES = 4, PER_STATE = RQ_FEEDBACK_WAYS, WAYS = STATES * PER_STATE };

/* Survivors, PER_STATE of each state, the cheapest first. */
typedef struct ways {
  float (*pending)[RQ_BLOCK]; /* (WAYS) corrected weights */
  float cost[WAYS];
} ways;

typedef struct steps_back {
  uint8_t (*from)[RQ_BLOCK]; /* (WAYS): the survivor before */
  uint8_t (*code)[RQ_BLOCK]; /* (WAYS) */
} steps_back;

typedef struct branch {
  float cost, value;
  uint8_t from, code;
} branch;

/* Puts a branch where it belongs among the PER_STATE cheapest; behind its equals. */
static inline void keep(branch *best, branch b) {
  if (!(b.cost < best[PER_STATE - 1].cost)) return;
  int32_t n = PER_STATE - 1;
  for (; n > 0 && b.cost < best[n - 1].cost; n--) best[n] = best[n - 1];
  best[n] = b;
}

/* The cheapest ways into state `to` at weight i. */
static void cheapest(const rq_own *own, const ways *w, int32_t i, int32_t to, float d, float pivot,
                     branch *best) {
  for (int32_t n = 0; n < PER_STATE; n++) best[n] = (branch){0x1p120f, 0.0f, 0, 0};
  int32_t codes = own->three_bits ? 2 : 1;
  for (int32_t from = 0; from < WAYS; from++)
    for (int32_t low = 0; low < codes; low++) {
      int32_t code = own->three_bits ? to << 1 | low : to;
      float value = (float)own->table[code << 2 | (from / PER_STATE)] * d, e = w->pending[from][i] - value;
      keep(best, (branch){w->cost[from] + pivot * (e * e), value, (uint8_t)from, (uint8_t)code});
    }
}

static void correct(const float *before, float *after, float e, const float *factor, int32_t begin,
                    int32_t end) {
  for (int32_t j = begin; j < end; j++) after[j] = before[j] + e * factor[j];
}

float rq_trellis_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                          const uint8_t *header, uint8_t *codes, void *scratch) {
  float(*rows)[RQ_BLOCK] = scratch;
  uint8_t(*bytes)[RQ_BLOCK] = (uint8_t(*)[RQ_BLOCK])(rows + 2 * WAYS);
  ways now = {rows, {0.0f}}, next = {rows + WAYS, {0.0f}};
  steps_back back = {bytes, bytes + WAYS};
  float d[RQ_GROUPS];
  rq_own_scales(own, header, d);
  int32_t group = RQ_GROUP_LANES * rq_block_steps(block->r);
  for (int32_t s = 0; s < WAYS; s++) {
    now.cost[s] = s == 0 ? 0.0f : 0x1p100f;
    rq_copy(now.pending[s], x, (size_t)block->r * sizeof(float));
  }
  for (int32_t i = 0; i < block->r; i++) {
    const float *factor = block->factor + (size_t)i * block->stride;
    for (int32_t to = 0; to < STATES; to++) {
      branch best[PER_STATE];
      cheapest(own, &now, i, to, d[i / group], block->pivots[i], best);
      for (int32_t n = 0; n < PER_STATE; n++) {
        int32_t way = to * PER_STATE + n;
        next.cost[way] = best[n].cost;
        back.from[way][i] = best[n].from;
        back.code[way][i] = best[n].code;
        float e = block->weights[i] - best[n].value;
        correct(now.pending[best[n].from], next.pending[way], e, factor, i + 1, block->r);
      }
    }
    ways done = now;
    now = next;
    next = done;
  }
  int32_t way = 0;
  for (int32_t s = 1; s < WAYS; s++)
    if (now.cost[s] < now.cost[way]) way = s;
  float cost = now.cost[way];
  for (int32_t i = block->r - 1; i >= 0; i--) {
    codes[i] = back.code[way][i];
    way = back.from[way][i];
  }
  return cost;
}
