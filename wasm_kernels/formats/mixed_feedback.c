/* mixed_feedback.c: the codes of a block of a mixed trellis whose header is decided, with error feedback
 * inside the block. As in trellis_feedback.c every survivor carries the corrections that its own errors
 * cause. There is one for each state, the cheapest way into it; of the 64 or 128 states the cheapest few go
 * on, sorted by cost, of equals those reached first (the M-algorithm).
 *
 * Corrections are added to the next WINDOW weights at once; to those behind them at the end of the window,
 * which only the cheapest ROWS survivors outlive. */
#include "encode.h"

enum {
  MOST_WAYS = 64, /* fewer lose 0.1 dB and more, and headers can't be compared by them */
  MOST_STATES = RQ_MIXED_STATES,
  MOST_CODES = 8,
  WINDOW = RQ_FEEDBACK_WINDOW,
  ROWS = 4
};

typedef struct survivor {
  float cost;
  uint8_t state; /* the codes that count: three of pi-x2, two and a lowest bit of pi-x3 */
  uint8_t root;  /* the row of `rows` that it goes on from */
} survivor;

/* A way into a state. */
typedef struct way {
  float cost;
  uint8_t from, code; /* the survivor before, by its number */
} way;

/* What is kept of a survivor. */
typedef struct trace {
  float error; /* weight - value */
  uint8_t from, code;
} trace;

typedef struct search {
  const rq_own *own;
  const rq_feedback_block *block;
  int32_t count; /* of the survivors */
  survivor survivors[MOST_WAYS];
  way into[MOST_STATES]; /* cost NO_WAY: none */
  uint8_t reached[MOST_STATES];
  int32_t reached_count;
  float rows[2][ROWS][RQ_BLOCK];    /* corrected weights of the ways that began the window, and the next */
  float near[2][MOST_WAYS][WINDOW]; /* of the window, with the errors made in it */
  float values[MOST_STATES][MOST_CODES]; /* [state before][code] */
  trace back[RQ_BLOCK][MOST_WAYS];
} search;
_Static_assert(sizeof(search) + 64 <= RQ_MIXED_FEEDBACK_SCRATCH, "scratch of the search");

static const float NO_WAY = 0x1p120f;

static void set_values(search *s, float d) {
  bool three_bits = s->own->three_bits;
  uint32_t codes = three_bits ? 8 : 4, states = three_bits ? 128 : 64;
  for (uint32_t state = 0; state < states; state++)
    for (uint32_t code = 0; code < codes; code++) {
      uint32_t two[4] = {code, state >> 4, state >> 2 & 3, state & 3};
      uint32_t three[4] = {code, state >> 4, state >> 1 & 7, state & 1};
      s->values[state][code] = (float)rq_mixed_value(s->own, three_bits ? three : two) * d;
    }
}

static inline int32_t next_state(bool three_bits, int32_t state, int32_t code) {
  return three_bits ? code << 4 | state >> 4 << 1 | (state >> 1 & 1) : code << 4 | state >> 2;
}

/* The cheapest way into each state, of equals that of the cheaper survivor. */
static inline __attribute__((always_inline)) void find_ways(search *s, int32_t at, float pivot,
                                                            float (*near)[WINDOW], bool three_bits) {
  const int32_t codes = three_bits ? 8 : 4;
  for (int32_t n = 0; n < s->reached_count; n++) s->into[s->reached[n]].cost = NO_WAY;
  s->reached_count = 0;
  for (int32_t n = 0; n < s->count; n++) {
    const survivor *from = &s->survivors[n];
    float x = near[n][at];
    for (int32_t code = 0; code < codes; code++) {
      float e = x - s->values[from->state][code], cost = from->cost + pivot * (e * e);
      int32_t state = next_state(three_bits, from->state, code);
      way *into = &s->into[state];
      if (!(cost < into->cost)) continue;
      if (into->cost == NO_WAY) s->reached[s->reached_count++] = (uint8_t)state;
      *into = (way){cost, (uint8_t)n, (uint8_t)code};
    }
  }
  if (s->reached_count > 0) return;
  s->reached[s->reached_count++] = 0; /* no cost is a number below NO_WAY: any way will do */
  s->into[0] = (way){NO_WAY, 0, 0};
}

/* States that go on, the cheapest first; how many. */
static int32_t choose_states(const search *s, uint8_t *chosen /* (MOST_WAYS) */) {
  int32_t count = 0;
  for (int32_t n = 0; n < s->reached_count; n++) {
    float cost = s->into[s->reached[n]].cost;
    if (count == MOST_WAYS && !(cost < s->into[chosen[count - 1]].cost)) continue;
    int32_t place = count < MOST_WAYS ? count++ : count - 1;
    for (; place > 0 && cost < s->into[chosen[place - 1]].cost; place--) chosen[place] = chosen[place - 1];
    chosen[place] = s->reached[n];
  }
  return count;
}

/* One weight, `at` in its window. */
static inline __attribute__((always_inline)) void advance(search *s, int32_t i, int32_t at, int32_t end,
                                                          int32_t turn, bool three_bits) {
  const float *factor = s->block->factor + (size_t)i * s->block->stride + (i - at);
  float(*before)[WINDOW] = s->near[turn], (*after)[WINDOW] = s->near[1 - turn], w = s->block->weights[i];
  uint8_t chosen[MOST_WAYS];
  survivor next[MOST_WAYS];
  find_ways(s, at, s->block->pivots[i], before, three_bits);
  s->count = choose_states(s, chosen);
  for (int32_t n = 0; n < s->count; n++) {
    const way *into = &s->into[chosen[n]];
    const survivor *from = &s->survivors[into->from];
    float e = w - s->values[from->state][into->code]; /* of the weight itself */
    next[n] = (survivor){into->cost, chosen[n], from->root};
    s->back[i][n] = (trace){e, into->from, into->code};
    const float *old = before[into->from];
    for (int32_t j = (at + 1) & ~3; j < end; j++) after[n][j] = old[j] + e * factor[j];
  }
  rq_copy(s->survivors, next, (size_t)s->count * sizeof *next);
}

/* Ends a window: the cheapest survivors go on, with all errors of the window behind them. */
static void end_window(search *s, int32_t begin, int32_t end, int32_t turn) {
  const rq_feedback_block *b = s->block;
  s->count = rq_min_i32(s->count, ROWS);
  for (int32_t n = 0; n < s->count; n++) {
    float errors[WINDOW], *row = s->rows[1 - turn][n];
    for (int32_t i = end - 1, at = n; i >= begin; i--) {
      errors[i - begin] = s->back[i][at].error;
      at = s->back[i][at].from;
    }
    const float *old = s->rows[turn][s->survivors[n].root];
    for (int32_t j = end; j < b->r; j++) row[j] = old[j];
    for (int32_t i = begin; i < end; i++) {
      const float *u = b->factor + (size_t)i * b->stride;
      float e = errors[i - begin];
      for (int32_t j = end; j < b->r; j++) row[j] = row[j] + e * u[j];
    }
  }
}

static inline __attribute__((always_inline)) void run(search *s, const float *d, bool three_bits) {
  int32_t r = s->block->r, group = RQ_GROUP_LANES * rq_block_steps(r), turn = 0;
  for (int32_t begin = 0; begin < r; begin += WINDOW, turn = 1 - turn) {
    int32_t end = rq_min_i32(r, begin + WINDOW), side = 0;
    for (int32_t n = 0; n < s->count; n++) {
      s->survivors[n].root = (uint8_t)n;
      rq_copy(s->near[0][n], s->rows[turn][n] + begin, (size_t)(end - begin) * sizeof(float));
    }
    for (int32_t i = begin; i < end; i++, side = 1 - side) {
      if (i % group == 0) set_values(s, d[i / group]);
      advance(s, i, i - begin, end - begin, side, three_bits);
    }
    if (end < r) end_window(s, begin, end, turn);
  }
}

float rq_mixed_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                        const uint8_t *header, uint8_t *codes, void *scratch) {
  search *s = scratch;
  float d[RQ_GROUPS];
  s->own = own;
  s->block = block;
  s->reached_count = 0;
  for (int32_t state = 0; state < MOST_STATES; state++) s->into[state].cost = NO_WAY;
  s->count = 1;
  s->survivors[0] = (survivor){0.0f, 0, 0};
  rq_copy(s->rows[0][0], x, (size_t)block->r * sizeof(float));
  rq_own_scales(own, header, d);
  own->three_bits ? run(s, d, true) : run(s, d, false);
  for (int32_t i = block->r - 1, at = 0; i >= 0; i--) {
    codes[i] = s->back[i][at].code;
    at = s->back[i][at].from;
  }
  return s->survivors[0].cost;
}
