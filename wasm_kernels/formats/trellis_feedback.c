/* trellis_feedback.c: the codes of a trellis block whose header is decided, with error feedback inside the
 * block. The value of a weight depends on the code before it, and what the feedback adds to a weight on all
 * codes before it; so every survivor of the Viterbi search carries the corrections that its own errors
 * cause, and with the block all but one end. Ways that meet in a state are compared by what they have cost,
 * not by what they will, so several survivors of each state are better than one (docs/formats.md).
 *
 * Corrections are added to the next weights of a STRIDE at once, to the other weights of a WINDOW at the end
 * of the stride; to those behind them at the end of the window, when only the cheapest way of each state goes
 * on. The four states a weight can lead to are the four lanes of a vector; every operation is elementwise, so
 * vectors and scalars give the same bits. */
#include "encode.h"
#include "x86.h"

enum { STATES = 4, MOST_WAYS = STATES * RQ_FEEDBACK_WAYS, WINDOW = RQ_FEEDBACK_WINDOW, STRIDE = 4 };

typedef float f4 __attribute__((vector_size(16)));
typedef float f4_anywhere __attribute__((vector_size(16), aligned(4)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef int64_t l4 __attribute__((vector_size(32)));
typedef double d4 __attribute__((vector_size(32)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE f4 splat(float x) { return (f4){x, x, x, x}; }
ALWAYS_INLINE i4 splat_i(int32_t x) { return (i4){x, x, x, x}; }
ALWAYS_INLINE i4 choose_i(i4 mask, i4 a, i4 b) { return (mask & a) | (~mask & b); }
ALWAYS_INLINE f4 choose(i4 mask, f4 a, f4 b) { return (f4)choose_i(mask, (i4)a, (i4)b); }

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
  float cost[MOST_WAYS];
  float rows[2][STATES][RQ_BLOCK];  /* corrected weights of the ways that began the window, and the next */
  float near[2][MOST_WAYS][WINDOW]; /* of the window, with the errors made before the stride */
  f4 next[2][MOST_WAYS];            /* of the stride, with all errors so far */
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

/* ---- the cheapest ways into each state: a lane a state, the cheapest first; of equals the first ---- */

static const float NO_WAY = 0x1p120f; /* what costs as much is none */

/* The cost above the way and a low bit, as numbers that order by all of them: costs are not negative. Keys
 * are passed by address, because not every processor that this is compiled for has such registers. */
ALWAYS_INLINE void set_key(d4 *key, f4 cost, i4 way) {
  *key = (d4)__builtin_shufflevector(way, (i4)cost, 0, 4, 1, 5, 2, 6, 3, 7);
}
ALWAYS_INLINE f4 cost_of(const d4 *key) {
  return (f4)__builtin_shufflevector((i8)*key, (i8)*key, 1, 3, 5, 7);
}
ALWAYS_INLINE i4 way_of(const d4 *key) { return __builtin_shufflevector((i8)*key, (i8)*key, 0, 2, 4, 6); }

/* The lower of each two into a, the higher into b. */
ALWAYS_INLINE void order(d4 *a, d4 *b) {
  l4 less = *a<*b, more = *a> * b;
  d4 low = (d4)((less & (l4)*a) | (~less & (l4)*b)), high = (d4)((more & (l4)*a) | (~more & (l4)*b));
  *a = low;
  *b = high;
}

/* Orders `count` keys (1, 4 or 8) of which the distances from `first` on are out of order (Batcher's bitonic
 * network). */
ALWAYS_INLINE void order_from(d4 *keys, int32_t count, int32_t distance) {
#pragma GCC unroll 4
  for (; distance >= 1; distance /= 2)
#pragma GCC unroll 8
    for (int32_t i = 0; i < count; i++)
      if (!(i & distance)) order(keys + i, keys + i + distance);
}

ALWAYS_INLINE void order_all(d4 *keys, int32_t count) {
#pragma GCC unroll 4
  for (int32_t size = 2; size <= count; size *= 2) {
#pragma GCC unroll 8
    for (int32_t i = 0; i < count; i++) /* two ordered halves, the second one turned round */
      if (!(i & size / 2)) order(keys + i, keys + (i ^ (size - 1)));
    order_from(keys, count, size / 4);
  }
}

/* Of two ordered lists the cheapest, ordered, into the first. */
ALWAYS_INLINE void merge(d4 *keys, d4 *others, int32_t count) {
#pragma GCC unroll 8
  for (int32_t i = 0; i < count; i++) order(keys + i, others + count - 1 - i);
  order_from(keys, count, count / 2);
}

/* What a way costs with the best code into each state. */
ALWAYS_INLINE void go_on(const search *s, int32_t way, float near, float pivot, bool three_bits, d4 *key) {
  f4 e = splat(near) - s->values[0][way % STATES], square = e * e;
  i4 low = splat_i(0);
  if (three_bits) { /* of the two codes that lead from one state to another, the nearer */
    f4 e1 = splat(near) - s->values[1][way % STATES], square1 = e1 * e1;
    low = square1 < square;
    square = choose(low, square1, square);
  }
  f4 cost = splat(s->cost[way]) + splat(pivot) * square;
  set_key(key, choose(cost < splat(NO_WAY), cost, splat(NO_WAY)), splat_i(2 * way) - low);
}

ALWAYS_INLINE void rank_all(const search *s, d4 *keys, int32_t ranks, const f4 *next, int32_t at, float pivot,
                            bool three_bits) {
  for (int32_t first = 0; first < STATES * ranks; first += ranks) {
    d4 others[RQ_FEEDBACK_WAYS];
    d4 *list = first ? others : keys;
#pragma GCC unroll 8
    for (int32_t n = 0; n < ranks; n++)
      go_on(s, first + n, ((const float *)(next + first + n))[at], pivot, three_bits, list + n);
    order_all(list, ranks);
    if (first) merge(keys, others, ranks);
  }
}

/* ---- one weight after the other ---- */

/* Weight i, `at` in its stride: every way goes on, or ends. `factor`: of the weights of the stride. */
ALWAYS_INLINE void advance(search *s, int32_t i, int32_t at, f4 factor, int32_t ranks, bool three_bits) {
  d4 keys[RQ_FEEDBACK_WAYS];
  const f4 *before = s->next[at & 1];
  f4 *after = s->next[1 - (at & 1)];
  rank_all(s, keys, ranks, before, at, s->block->pivots[i], three_bits);
  for (int32_t n = 0; n < ranks; n++) {
    f4 cost = cost_of(keys + n), value;
    i4 there = cost < splat(NO_WAY), way = way_of(keys + n) & there, from = way >> 1, low = way & 1;
    for (int32_t to = 0; to < STATES; to++) value[to] = s->values[low[to]][from[to] % STATES][to];
    f4 e = splat(s->block->weights[i]) - (f4)((i4)value & there);
    *(f4 *)(s->cost + STATES * n) = cost;
    *(f4 *)(s->back.error[i] + STATES * n) = e;
    for (int32_t to = 0; to < STATES; to++) {
      s->back.from[i][STATES * n + to] = (uint8_t)from[to];
      s->back.code[i][STATES * n + to] = (uint8_t)(three_bits ? to << 1 | low[to] : to);
      after[STATES * n + to] = before[from[to]] + splat(e[to]) * factor;
    }
  }
}

/* Four numbers, or of fewer those that are there. */
ALWAYS_INLINE f4 load_4(const float *from, int32_t count) {
  if (count >= 4) return *(const f4_anywhere *)from;
  f4 out = splat(0.0f);
  for (int32_t i = 0; i < count; i++) out[i] = from[i];
  return out;
}

/* to = from with four weights' errors, columns [begin, end) of four rows of U. */
ALWAYS_INLINE void add_errors(float *to, const float *from, const float *e, const float *u, size_t stride,
                              int32_t begin, int32_t end) {
  const float *u1 = u + stride, *u2 = u1 + stride, *u3 = u2 + stride;
  f4 e0 = splat(e[0]), e1 = splat(e[1]), e2 = splat(e[2]), e3 = splat(e[3]);
  int32_t j = begin;
  for (; j + 4 <= end; j += 4) {
    f4 sum = *(const f4_anywhere *)(from + j) + e0 * *(const f4_anywhere *)(u + j);
    sum = sum + e1 * *(const f4_anywhere *)(u1 + j);
    sum = sum + e2 * *(const f4_anywhere *)(u2 + j);
    *(f4_anywhere *)(to + j) = sum + e3 * *(const f4_anywhere *)(u3 + j);
  }
  for (; j < end; j++) {
    float sum = from[j] + e[0] * u[j];
    sum = sum + e[1] * u1[j];
    sum = sum + e[2] * u2[j];
    to[j] = sum + e[3] * u3[j];
  }
}

/* The errors of weights [begin, end) on a way, and the way that it was before them. */
ALWAYS_INLINE int32_t trace(const search *s, int32_t way, int32_t begin, int32_t end, float *errors) {
  for (int32_t i = end - 1; i >= begin; i--) {
    errors[i - begin] = s->back.error[i][way];
    way = s->back.from[i][way];
  }
  return way;
}

/* Ends a stride that isn't the last one of the window [begin, end): its errors, for the weights behind it. */
ALWAYS_INLINE void end_stride(search *s, int32_t first, int32_t begin, int32_t end, int32_t side,
                              int32_t ways) {
  const rq_feedback_block *b = s->block;
  const float *u = b->factor + (size_t)first * b->stride + begin;
  uint8_t root[MOST_WAYS];
  for (int32_t way = 0; way < ways; way++) {
    float errors[STRIDE];
    int32_t from = trace(s, way, first, first + STRIDE, errors);
    root[way] = s->root[from];
    add_errors(s->near[1 - side][way], s->near[side][from], errors, u, b->stride, first + STRIDE - begin,
               end - begin);
  }
  rq_copy(s->root, root, sizeof root);
}

/* Ends a whole window: the cheapest way of each state goes on, with all its errors for the weights behind. */
static void end_window(search *s, int32_t begin, int32_t turn) {
  const rq_feedback_block *b = s->block;
  int32_t end = begin + WINDOW, last = end - STRIDE;
  for (int32_t state = 0; state < STATES; state++) {
    float errors[WINDOW], *row = s->rows[1 - turn][state];
    int32_t from = trace(s, state /* of rank 0 */, last, end, errors + (last - begin));
    const float *old = s->rows[turn][s->root[from]];
    trace(s, from, begin, last, errors);
    for (int32_t i = begin; i < end; i += STRIDE, old = row)
      add_errors(row, old, errors + (i - begin), b->factor + (size_t)i * b->stride, b->stride, end, b->r);
  }
}

/* Weights [begin, end) of a window. */
ALWAYS_INLINE void run_window(search *s, int32_t begin, int32_t end, const float *d, int32_t group,
                              int32_t ranks, bool three_bits) {
  const rq_feedback_block *b = s->block;
  int32_t side = 0;
  for (int32_t first = begin; first < end; first += STRIDE, side = 1 - side) {
    int32_t count = rq_min_i32(STRIDE, end - first);
    for (int32_t way = 0; way < STATES * ranks; way++)
      s->next[0][way] = *(const f4_anywhere *)(s->near[side][way] + (first - begin));
    for (int32_t at = 0; at < count; at++) {
      int32_t i = first + at;
      if (i % group == 0) set_values(s, d[i / group]);
      f4 factor = load_4(b->factor + (size_t)i * b->stride + first, count);
      advance(s, i, at, factor, ranks, three_bits);
    }
    if (first + STRIDE < end) end_stride(s, first, begin, end, side, STATES * ranks);
  }
}

ALWAYS_INLINE void run(search *s, const float *d, int32_t ranks, bool three_bits) {
  int32_t r = s->block->r, group = RQ_GROUP_LANES * rq_block_steps(r), turn = 0;
  for (int32_t begin = 0; begin < r; begin += WINDOW, turn = 1 - turn) {
    int32_t end = rq_min_i32(r, begin + WINDOW);
    for (int32_t way = 0; way < STATES * ranks; way++) {
      bool going_on = way < STATES; /* the others start as ways that nothing can choose */
      s->root[way] = (uint8_t)(way % STATES);
      if (!going_on) s->cost[way] = 0x1p100f;
      rq_copy(s->near[0][way], s->rows[turn][way % STATES] + begin, (size_t)(end - begin) * sizeof(float));
    }
    run_window(s, begin, end, d, group, ranks, three_bits);
    if (end < r) end_window(s, begin, turn);
  }
}

/* Ranks and bits are constants of each copy of the search. */
ALWAYS_INLINE void run_ways(search *s, const float *d, int32_t ways) {
  bool three_bits = s->own->three_bits;
  if (ways == RQ_FEEDBACK_WAYS)
    three_bits ? run(s, d, RQ_FEEDBACK_WAYS, true) : run(s, d, RQ_FEEDBACK_WAYS, false);
  else if (ways == RQ_FEEDBACK_SOME_WAYS)
    three_bits ? run(s, d, RQ_FEEDBACK_SOME_WAYS, true) : run(s, d, RQ_FEEDBACK_SOME_WAYS, false);
  else
    three_bits ? run(s, d, 1, true) : run(s, d, 1, false);
}

static void run_plain(search *s, const float *d, int32_t ways) { run_ways(s, d, ways); }
#if RQ_HAVE_X86
RQ_TARGET_BEGIN("avx2")
static void run_avx2(search *s, const float *d, int32_t ways) { run_ways(s, d, ways); }
RQ_TARGET_END
#endif

static void run_best(search *s, const float *d, int32_t ways) {
#if RQ_HAVE_X86
  if (rq_has_avx2(s->block->variant)) {
    run_avx2(s, d, ways);
    return;
  }
#endif
  run_plain(s, d, ways);
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
  run_best(s, d, ways);
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
