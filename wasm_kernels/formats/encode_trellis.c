/* encode_trellis.c: pi-t3 and pi-t2. For one alpha, a Viterbi search over the 4 states of the trellis finds
 * the best codes and, at the same time, the best k of each group of lanes: the four values of k run side
 * by side in the four lanes of a vector, and at the end of a group each state goes on with the cheapest.
 * So codes and ks are exactly optimal for that alpha; around it stands a search over alpha.
 *
 * A state is what the next table index needs of a code: p >> 1 in pi-t3, p in pi-t2. In pi-t3 the two codes
 * that lead to a state differ in their lowest bit; the cost of the nearer of their two values is
 * (|x - middle| - half their distance)^2.
 * Every operation is elementwise on four floats, so vectors and scalars give the same bits. */
#include "encode_lanes.h"

enum { STATES = 4, KS = 4 };

typedef rq_f4 f4;
typedef uint32_t u4 __attribute__((vector_size(16)));

static inline f4 magnitude(f4 x) {
  return (f4)((u4)x & (u4){0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF});
}

/* One block and one way of looking at it. */
typedef struct trellis {
  const rq_own *own;
  const rq_encode_block *block;
  int32_t k; /* 0: free */
  float group_rms[RQ_GROUPS];
} trellis;

/* The values of all branches for one alpha, a lane for each k. */
typedef struct branches {
  f4 middle[STATES][STATES]; /* [to][from]: mean of the two values of pi-t3, the value of pi-t2 */
  f4 half[STATES][STATES];   /* half the distance of the two; pi-t3 only */
} branches;

/* What a search over one alpha leaves behind. */
typedef struct survivors {
  f4 *cost;                          /* (RQ_BLOCK + 1, STATES): before weight i, and at the end */
  uint8_t k_lane[RQ_GROUPS][STATES]; /* the lane that each state at the end of a group came from */
  float total;
  uint8_t alpha;
  uint8_t end_state;
} survivors;

/* k - 2 of a lane. */
static int32_t k_of_lane(const trellis *t, int32_t lane) { return t->k ? t->k - 2 : lane; }

static void scales_of(const trellis *t, uint8_t alpha, float *d /* (KS) */) {
  for (int32_t lane = 0; lane < KS; lane++) {
    uint8_t header[2] = {alpha, (uint8_t)k_of_lane(t, lane)};
    float all[RQ_GROUPS];
    rq_trellis_scales(t->own->c, header, all);
    d[lane] = all[0];
  }
}

static void set_branches(const trellis *t, uint8_t alpha, branches *b) {
  float d[KS];
  scales_of(t, alpha, d);
  for (int32_t to = 0; to < STATES; to++)
    for (int32_t from = 0; from < STATES; from++)
      for (int32_t lane = 0; lane < KS; lane++) {
        if (!t->own->three_bits) {
          b->middle[to][from][lane] = (float)t->own->table[to << 2 | from] * d[lane];
          continue;
        }
        float v0 = (float)t->own->table[to << 3 | from] * d[lane];
        float v1 = (float)t->own->table[to << 3 | 4 | from] * d[lane];
        b->middle[to][from][lane] = (v0 + v1) * 0.5f;
        b->half[to][from][lane] = (v0 > v1 ? v0 - v1 : v1 - v0) * 0.5f;
      }
}

/* Costs of one weight x on one branch. */
static inline f4 branch_cost(f4 x, f4 w, f4 middle, f4 half, bool three_bits, bool weighted) {
  f4 e = x - middle;
  if (three_bits) e = magnitude(e) - half;
  e = e * e;
  return weighted ? e * w : e;
}

static inline __attribute__((always_inline)) void advance(const branches *b, const rq_encode_block *block,
                                                          int32_t begin, int32_t end, f4 *cost,
                                                          bool three_bits, bool weighted) {
  f4 c[STATES];
  for (int32_t s = 0; s < STATES; s++) c[s] = cost[STATES * begin + s];
  for (int32_t i = begin; i < end; i++) {
    f4 x = rq_splat(block->x[i]), w = weighted ? rq_splat(block->w[i]) : x, next[STATES];
#pragma GCC unroll 4
    for (int32_t to = 0; to < STATES; to++) {
      f4 t[STATES];
#pragma GCC unroll 4
      for (int32_t from = 0; from < STATES; from++)
        t[from] = c[from] + branch_cost(x, w, b->middle[to][from], b->half[to][from], three_bits, weighted);
      next[to] = rq_smaller(rq_smaller(t[0], t[1]), rq_smaller(t[2], t[3]));
    }
#pragma GCC unroll 4
    for (int32_t s = 0; s < STATES; s++) cost[STATES * (i + 1) + s] = c[s] = next[s];
  }
}

/* The Viterbi search for one alpha. */
static void search_codes(const trellis *t, uint8_t alpha, survivors *out) {
  static const float unreachable = 0x1p100f;
  const rq_encode_block *block = t->block;
  branches b;
  set_branches(t, alpha, &b);
  out->alpha = alpha;
  for (int32_t s = 0; s < STATES; s++) out->cost[s] = rq_splat(s == 0 ? 0.0f : unreachable);
  for (int32_t f = 0; f < RQ_GROUPS; f++) {
    int32_t begin = rq_group_begin(block->r, f), end = rq_group_begin(block->r, f + 1);
    if (t->own->three_bits && block->weighted) advance(&b, block, begin, end, out->cost, true, true);
    if (t->own->three_bits && !block->weighted) advance(&b, block, begin, end, out->cost, true, false);
    if (!t->own->three_bits && block->weighted) advance(&b, block, begin, end, out->cost, false, true);
    if (!t->own->three_bits && !block->weighted) advance(&b, block, begin, end, out->cost, false, false);
    for (int32_t s = 0; s < STATES; s++) { /* each state goes on with its cheapest k, the lower on a tie */
      f4 *cost = &out->cost[STATES * end + s];
      int32_t lane = 0;
      for (int32_t other = 1; other < KS; other++)
        if ((*cost)[other] < (*cost)[lane]) lane = other;
      out->k_lane[f][s] = (uint8_t)lane;
      if (begin < end) *cost = rq_splat((*cost)[lane]);
    }
  }
  const f4 *last = out->cost + STATES * block->r;
  out->end_state = 0;
  for (int32_t s = 1; s < STATES; s++)
    if (last[s][0] < last[out->end_state][0]) out->end_state = (uint8_t)s;
  out->total = last[out->end_state][0];
}

/* The state before weight i on the cheapest way to `to`: the same sums again, the lower on a tie. */
static int32_t state_before(const trellis *t, const branches *b, const f4 *cost, int32_t i, int32_t to,
                            int32_t lane) {
  float best = 0.0f;
  int32_t from_best = 0;
  float x = t->block->x[i], w = t->block->w[i];
  for (int32_t from = 0; from < STATES; from++) {
    float e = x - b->middle[to][from][lane];
    if (t->own->three_bits) e = (e < 0.0f ? -e : e) - b->half[to][from][lane];
    e = e * e;
    if (t->block->weighted) e = e * w;
    float total = cost[STATES * i + from][lane] + e;
    if (from == 0 || total < best) {
      best = total;
      from_best = from;
    }
  }
  return from_best;
}

/* Codes and ks along the cheapest way. */
static void trace_back(const trellis *t, const survivors *s, uint8_t *codes, uint8_t *header) {
  const rq_encode_block *block = t->block;
  branches b;
  float d[KS];
  set_branches(t, s->alpha, &b);
  scales_of(t, s->alpha, d);
  int32_t state = s->end_state, ks = 0;
  for (int32_t f = RQ_GROUPS - 1; f >= 0; f--) {
    int32_t begin = rq_group_begin(block->r, f), end = rq_group_begin(block->r, f + 1);
    if (begin == end) continue; /* k = 2 stands for lanes without weights */
    int32_t lane = s->k_lane[f][state];
    ks |= k_of_lane(t, lane) << (2 * f);
    for (int32_t i = end - 1; i >= begin; i--) {
      int32_t from = state_before(t, &b, s->cost, i, state, lane), code = state;
      if (t->own->three_bits) {
        float e0 = block->x[i] - (float)t->own->table[state << 3 | from] * d[lane];
        float e1 = block->x[i] - (float)t->own->table[state << 3 | 4 | from] * d[lane];
        code = state << 1 | (e1 * e1 < e0 * e0 ? 1 : 0);
      }
      codes[i] = (uint8_t)code;
      state = from;
    }
  }
  header[0] = s->alpha;
  header[1] = (uint8_t)ks;
}

/* ---- alpha ---- */

/* A search over alpha. */
typedef struct alpha_search {
  const trellis *t;
  survivors best, other;
} alpha_search;

static bool try_alpha(void *context, uint8_t alpha) {
  alpha_search *s = context;
  search_codes(s->t, alpha, &s->other);
  if (!(s->other.total < s->best.total)) return false;
  survivors worse = s->best;
  s->best = s->other;
  s->other = worse;
  return true;
}

void rq_trellis_encode(const rq_encode_settings *settings, const rq_own *own, const rq_encode_block *block,
                       uint8_t *codes, uint8_t *header, float *scratch) {
  trellis t = {own, block, settings->k, {0.0f}};
  survivors first = {(f4 *)scratch, {{0}}, 0.0f, 0, 0};
  alpha_search s = {&t, first, first};
  s.other.cost += STATES * (RQ_BLOCK + 1);
  float energy = rq_block_energy(block);
  s.best.total = rq_cost_to_beat(settings, energy);
  if (energy > 0.0f) {
    int32_t start = rq_first_alpha(block, energy, own->three_bits);
    rq_search_alpha(settings, start, settings->effort, try_alpha, &s);
  }
  if (s.best.alpha == 0) {
    rq_zero(codes, (size_t)block->r);
    header[0] = header[1] = 0;
    return;
  }
  trace_back(&t, &s.best, codes, header);
}
