/* trellis_feedback.c: the codes of a trellis block whose header is decided, with error feedback inside the
 * block. The value of a weight depends on the code before it, and what the feedback adds to a weight on all
 * codes before it; so every survivor of the Viterbi search carries the corrections that its own errors
 * cause, and with the block all but one end. Ways that meet in a state are compared by what they have cost,
 * not by what they will, so several survivors of each state are better than one (docs/formats.md).
 *
 * Corrections are added to the next WINDOW weights at once; to those behind them at the end of the window,
 * when only the cheapest way of each state goes on. The four states a weight can lead to are the four
 * lanes of a vector; every operation is elementwise, so vectors and scalars give the same bits. */
#include "encode.h"

enum { STATES = 4, MOST_WAYS = STATES * RQ_FEEDBACK_WAYS, WINDOW = RQ_FEEDBACK_WINDOW };

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

static inline f4 splat(float x) { return (f4){x, x, x, x}; }
static inline i4 splat_i(int32_t x) { return (i4){x, x, x, x}; }
static inline i4 choose_i(i4 mask, i4 a, i4 b) { return (mask & a) | (~mask & b); }
static inline f4 choose(i4 mask, f4 a, f4 b) { return (f4)choose_i(mask, (i4)a, (i4)b); }

/* Where a way came from, at every weight of the block. */
typedef struct rq_trail {
  uint8_t from[RQ_BLOCK][MOST_WAYS];
  uint8_t code[RQ_BLOCK][MOST_WAYS];
  float error[RQ_BLOCK][MOST_WAYS]; /* weight - value */
} trail;

/* Ways are numbered state + STATES * rank. */
typedef struct search {
  const rq_own *own;
  const rq_feedback_block *block;
  int32_t ways; /* STATES times the survivors of a state */
  float cost[MOST_WAYS];
  float rows[2][STATES][RQ_BLOCK];  /* corrected weights of the ways that began the window, and the next */
  float near[2][MOST_WAYS][WINDOW]; /* of the window, with the errors made in it */
  uint8_t root[MOST_WAYS];          /* the row of `rows` that a way goes on from */
  f4 values[2][STATES];             /* [low bit of the code][state before], a lane a state after */
  trail back;
} search;
_Static_assert(sizeof(search) + 64 <= RQ_FEEDBACK_SCRATCH, "scratch of the search");

static void set_values(search *s, float d) {
  int32_t codes = s->own->three_bits ? 2 : 1;
  for (int32_t low = 0; low < codes; low++)
    for (int32_t from = 0; from < STATES; from++)
      for (int32_t to = 0; to < STATES; to++) {
        int32_t code = s->own->three_bits ? to << 1 | low : to;
        s->values[low][from][to] = (float)s->own->table[code << 2 | from] * d;
      }
}

/* The cheapest ways into each state: a lane a state, the cheapest first; of equals the one found first. */
typedef struct ranking {
  f4 cost[RQ_FEEDBACK_WAYS], value[RQ_FEEDBACK_WAYS];
  i4 from[RQ_FEEDBACK_WAYS], low[RQ_FEEDBACK_WAYS];
} ranking;

static inline __attribute__((always_inline)) void rank(ranking *r, int32_t ranks, f4 cost, f4 value, i4 from,
                                                       i4 low) {
#pragma GCC unroll 4
  for (int32_t n = 0; n < ranks; n++) {
    i4 better = cost < r->cost[n];
    f4 c = r->cost[n], v = r->value[n];
    i4 f = r->from[n], l = r->low[n];
    r->cost[n] = choose(better, cost, c);
    r->value[n] = choose(better, value, v);
    r->from[n] = choose_i(better, from, f);
    r->low[n] = choose_i(better, low, l);
    cost = choose(better, c, cost);
    value = choose(better, v, value);
    from = choose_i(better, f, from);
    low = choose_i(better, l, low);
  }
}

static inline __attribute__((always_inline)) void rank_all(const search *s, ranking *r, int32_t ranks,
                                                           float (*near)[WINDOW], int32_t at, float pivot,
                                                           bool three_bits) {
  for (int32_t n = 0; n < ranks; n++) {
    r->cost[n] = splat(0x1p120f);
    r->value[n] = splat(0.0f);
    r->from[n] = r->low[n] = splat_i(0);
  }
  for (int32_t way = 0; way < STATES * ranks; way++) {
    f4 value = s->values[0][way % STATES], e = splat(near[way][at]) - value, square = e * e;
    i4 low = splat_i(0);
    if (three_bits) { /* of the two codes that lead from one state to another, the nearer */
      f4 other = s->values[1][way % STATES], e1 = splat(near[way][at]) - other, square1 = e1 * e1;
      low = square1 < square;
      value = choose(low, other, value);
      square = choose(low, square1, square);
    }
    rank(r, ranks, splat(s->cost[way]) + splat(pivot) * square, value, splat_i(way), low);
  }
}

/* One weight, `at` in its window: every way goes on, or ends. */
static inline __attribute__((always_inline)) void advance(search *s, int32_t i, int32_t at, int32_t end,
                                                          int32_t turn, int32_t ranks, bool three_bits) {
  ranking r;
  float pivot = s->block->pivots[i], w = s->block->weights[i];
  const float *factor = s->block->factor + (size_t)i * s->block->stride + (i - at);
  float(*before)[WINDOW] = s->near[turn], (*after)[WINDOW] = s->near[1 - turn];
  uint8_t root[MOST_WAYS];
  rank_all(s, &r, ranks, before, at, pivot, three_bits);
  for (int32_t n = 0; n < ranks; n++)
    for (int32_t to = 0; to < STATES; to++) {
      int32_t way = to + STATES * n, from = r.from[n][to];
      float e = w - r.value[n][to];
      s->cost[way] = r.cost[n][to];
      s->back.from[i][way] = (uint8_t)from;
      s->back.code[i][way] = (uint8_t)(three_bits ? to << 1 | (r.low[n][to] & 1) : to);
      s->back.error[i][way] = e;
      root[way] = s->root[from];
      for (int32_t j = (at + 1) & ~3; j < end; j++) after[way][j] = before[from][j] + e * factor[j];
    }
  rq_copy(s->root, root, sizeof root);
}

/* Ends a window: the cheapest way of each state goes on, with all errors of the window behind it. */
static void end_window(search *s, int32_t begin, int32_t end, int32_t turn) {
  const rq_feedback_block *b = s->block;
  for (int32_t state = 0; state < STATES; state++) {
    float errors[WINDOW];
    int32_t way = state; /* of rank 0 */
    for (int32_t i = end - 1; i >= begin; i--) {
      errors[i - begin] = s->back.error[i][way];
      way = s->back.from[i][way];
    }
    float *row = s->rows[1 - turn][state];
    const float *old = s->rows[turn][s->root[state]];
    for (int32_t j = end; j < b->r; j++) row[j] = old[j];
    int32_t i = begin;
    for (; i + 4 <= end; i += 4) {
      const float *u = b->factor + (size_t)i * b->stride, *e = errors + (i - begin);
      for (int32_t j = end; j < b->r; j++) {
        float sum = row[j] + e[0] * u[j];
        sum = sum + e[1] * u[b->stride + (size_t)j];
        sum = sum + e[2] * u[2 * b->stride + (size_t)j];
        row[j] = sum + e[3] * u[3 * b->stride + (size_t)j];
      }
    }
    for (; i < end; i++)
      for (int32_t j = end; j < b->r; j++)
        row[j] = row[j] + errors[i - begin] * b->factor[(size_t)i * b->stride + (size_t)j];
  }
}

static inline __attribute__((always_inline)) void run(search *s, const float *d, int32_t ranks,
                                                      bool three_bits) {
  int32_t r = s->block->r, group = RQ_GROUP_LANES * rq_block_steps(r), turn = 0;
  for (int32_t begin = 0; begin < r; begin += WINDOW, turn = 1 - turn) {
    int32_t end = rq_min_i32(r, begin + WINDOW), side = 0;
    for (int32_t way = 0; way < STATES * ranks; way++) {
      bool going_on = way < STATES; /* the others start as ways that nothing can choose */
      s->root[way] = (uint8_t)(way % STATES);
      if (!going_on) s->cost[way] = 0x1p100f;
      rq_copy(s->near[0][way], s->rows[turn][way % STATES] + begin, (size_t)(end - begin) * sizeof(float));
    }
    for (int32_t i = begin; i < end; i++, side = 1 - side) {
      if (i % group == 0) set_values(s, d[i / group]);
      advance(s, i, i - begin, end - begin, side, ranks, three_bits);
    }
    if (end < r) end_window(s, begin, end, turn);
  }
}

float rq_trellis_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                          const uint8_t *header, int32_t ways, uint8_t *codes, void *scratch) {
  search *s = scratch;
  float d[RQ_GROUPS];
  s->own = own;
  s->block = block;
  rq_own_scales(own, header, d);
  for (int32_t way = 0; way < STATES; way++) {
    s->cost[way] = way == 0 ? 0.0f : 0x1p100f;
    rq_copy(s->rows[0][way], x, (size_t)block->r * sizeof(float));
  }
  bool three_bits = own->three_bits; /* ranks and bits are constants of each copy of the search */
  if (ways == RQ_FEEDBACK_WAYS)
    three_bits ? run(s, d, RQ_FEEDBACK_WAYS, true) : run(s, d, RQ_FEEDBACK_WAYS, false);
  else if (ways == RQ_FEEDBACK_SOME_WAYS)
    three_bits ? run(s, d, RQ_FEEDBACK_SOME_WAYS, true) : run(s, d, RQ_FEEDBACK_SOME_WAYS, false);
  else
    three_bits ? run(s, d, 1, true) : run(s, d, 1, false);
  int32_t way = 0; /* the cheapest has rank 0 in its state */
  for (int32_t state = 1; state < STATES; state++)
    if (s->cost[state] < s->cost[way]) way = state;
  float cost = s->cost[way];
  for (int32_t i = block->r - 1; i >= 0; i--) {
    codes[i] = s->back.code[i][way];
    way = s->back.from[i][way];
  }
  return cost;
}
