/* encode_mixed.c: pi-x3 and pi-x2. As in encode_trellis.c the four values of k run side by side in the lanes
 * of a vector, so that for one alpha a Viterbi search finds the best codes and ks of a block together; here
 * it has 128 or 64 states.
 *
 * A state is the latest code and four bits more, its group: code << 4 | group. All states of a group are
 * entered from the same 4 states of pi-x2 or 8 of pi-x3, on as many ways. c1, c2 and c3 are the codes before
 * the new one, h the upper bits of a code of pi-x3 and b its lowest.
 * - pi-x2: the group is c1 c2, the way c3.
 * - pi-x3: the group is h1 b1 b2, the way b3 h2. The values of two codes that differ in their lowest bit are
 *   the same, with that of h2 turned over. */
#include "encode_lanes.h"

enum { KS = 4, GROUPS = 16, MOST_VALUES = GROUPS * 32 };
/* Few weights share a k of a tail, so its scales count for more, and its search takes less. */
enum { TAIL_EFFORT = 4 };
/* In front of a loop: leave it one. */
#if defined(__clang__)
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ROLLED
#endif
#ifdef __wasm__
enum { ALL_WEIGHTED = 1 }; /* by 1, which changes no bit: one copy less to download */
#else
enum { ALL_WEIGHTED = 0 };
#endif

typedef rq_f4 f4;

/* One block, and the best that has been found for it. */
typedef struct search {
  const rq_own *own;
  const rq_encode_block *block;
  int32_t k;   /* 0: free */
  f4 *values;  /* (GROUPS, 4, ways), a lane for each k: of each code, or each upper part of one */
  f4 *cost;    /* (RQ_BLOCK + 1, states): before weight i, and at the end */
  float total; /* of the best */
  uint8_t *codes, *header;
} search;

static int32_t states_of(const search *s) { return GROUPS * (s->own->three_bits ? 8 : 4); }

/* k - 2 of a lane. */
static int32_t k_of_lane(const search *s, int32_t lane) { return s->k ? s->k - 2 : lane; }

static void set_values(search *s, uint8_t alpha) {
  bool three_bits = s->own->three_bits;
  f4 d = rq_splat(0.0f), *out = s->values;
  for (int32_t lane = 0; lane < KS; lane++) {
    uint8_t header[2] = {alpha, (uint8_t)k_of_lane(s, lane)};
    float all[RQ_GROUPS];
    rq_trellis_scales(s->own->c, header, all);
    d[lane] = all[0];
  }
  for (uint32_t group = 0; group < GROUPS; group++)
    for (uint32_t part = 0; part < 4; part++)
      for (uint32_t way = 0; way < (three_bits ? 8u : 4u); way++) {
        uint32_t two[4] = {part, group >> 2, group & 3, way};
        uint32_t three[4] = {part << 1, group >> 1, (way & 3) << 1 | (group & 1), way >> 2};
        *out++ = rq_splat((float)rq_mixed_value(s->own, three_bits ? three : two)) * d;
      }
}

/* The state that a way into a group comes from. */
static inline int32_t state_from(bool three_bits, int32_t group, int32_t way) {
  if (!three_bits) return 4 * group + way;
  return (group >> 1) << 4 | (way & 3) << 2 | (group & 1) << 1 | way >> 2;
}

static inline f4 squared(f4 x, f4 w, f4 value, bool weighted) {
  f4 e = x - value;
  e = e * e;
  return weighted ? e * w : e;
}

/* The cheapest of all ways into a state; `flip` is 1 where the values stand turned over. */
static inline __attribute__((always_inline)) f4 cheapest(const f4 *entered, const f4 *costs, int32_t ways,
                                                         int32_t flip) {
  f4 least[2];
#pragma GCC unroll 2
  for (int32_t half = 0; half < ways / 4; half++) {
    const f4 *from = entered + 4 * half, *cost = costs + 4 * half;
    least[half] = rq_smaller(rq_smaller(from[0] + cost[flip], from[1] + cost[1 - flip]),
                             rq_smaller(from[2] + cost[2 + flip], from[3] + cost[3 - flip]));
  }
  return ways == 8 ? rq_smaller(least[0], least[1]) : least[0];
}

/* Weights [begin, end). */
static inline __attribute__((always_inline)) void advance(const search *s, int32_t begin, int32_t end,
                                                          bool three_bits, bool weighted) {
  const int32_t ways = three_bits ? 8 : 4, states = GROUPS * ways;
  for (int32_t i = begin; i < end; i++) {
    const f4 *before = s->cost + states * i, *v = s->values;
    f4 *after = s->cost + states * (i + 1);
    f4 x = rq_splat(s->block->x[i]), w = rq_splat(s->block->weighted ? s->block->w[i] : 1.0f);
    ROLLED
    for (int32_t group = 0; group < GROUPS; group++) {
      f4 entered[8], costs[8];
#pragma GCC unroll 8
      for (int32_t n = 0; n < ways; n++) entered[n] = before[state_from(three_bits, group, n)];
      ROLLED
      for (int32_t part = 0; part < 4; part++, v += ways) {
#pragma GCC unroll 8
        for (int32_t n = 0; n < ways; n++) costs[n] = squared(x, w, v[n], weighted);
        if (three_bits) {
          after[GROUPS * (2 * part) + group] = cheapest(entered, costs, ways, 0);
          after[GROUPS * (2 * part + 1) + group] = cheapest(entered, costs, ways, 1);
        } else {
          after[GROUPS * part + group] = cheapest(entered, costs, ways, 0);
        }
      }
    }
  }
}

/* Every state goes on with its cheapest k, the lower on a tie; the least of all. */
static float choose_ks(f4 *cost, int32_t states, bool empty, uint8_t *k_lane /* (states) */) {
  float least = 0x1p120f;
  for (int32_t state = 0; state < states; state++) {
    f4 *c = &cost[state];
    int32_t lane = 0;
    for (int32_t other = 1; other < KS; other++)
      if ((*c)[other] < (*c)[lane]) lane = other;
    k_lane[state] = (uint8_t)lane;
    float best = (*c)[lane];
    if (!empty) *c = rq_splat(best);
    if (best < least) least = best;
  }
  return least;
}

/* The state before weight i on the cheapest way to `state`: the same sums again, the first on a tie. */
static int32_t state_before(const search *s, int32_t i, int32_t state, int32_t lane) {
  bool three_bits = s->own->three_bits;
  int32_t ways = three_bits ? 8 : 4, code = state / GROUPS, group = state % GROUPS, best_from = 0;
  int32_t part = three_bits ? code >> 1 : code, flip = three_bits ? code & 1 : 0;
  const f4 *v = s->values + (4 * group + part) * ways, *before = s->cost + states_of(s) * i;
  f4 x = rq_splat(s->block->x[i]), w = rq_splat(s->block->w[i]);
  float best = 0.0f;
  for (int32_t n = 0; n < ways; n++) {
    int32_t from = state_from(three_bits, group, n);
    float total = before[from][lane] + squared(x, w, v[n ^ flip], s->block->weighted)[lane];
    if (n > 0 && !(total < best)) continue;
    best = total;
    best_from = from;
  }
  return best_from;
}

/* Codes and ks along the cheapest way. */
static void trace_back(const search *s, uint8_t alpha, uint8_t (*k_lane)[RQ_MIXED_STATES]) {
  int32_t states = states_of(s), state = 0, ks = 0, r = s->block->r;
  const f4 *last = s->cost + states * r;
  for (int32_t other = 1; other < states; other++)
    if (last[other][0] < last[state][0]) state = other;
  for (int32_t f = RQ_GROUPS - 1; f >= 0; f--) {
    int32_t begin = rq_group_begin(r, f), end = rq_group_begin(r, f + 1);
    if (begin == end) continue; /* k = 2 stands for lanes without weights */
    int32_t lane = k_lane[f][state];
    ks |= k_of_lane(s, lane) << (2 * f);
    for (int32_t i = end - 1; i >= begin; i--) {
      s->codes[i] = (uint8_t)(state / GROUPS);
      state = state_before(s, i, state, lane);
    }
  }
  s->header[0] = alpha;
  s->header[1] = (uint8_t)ks;
}

/* The Viterbi search for one alpha; left as soon as it can't become the best. */
static bool try_alpha(void *context, uint8_t alpha) {
  static const float unreachable = 0x1p100f;
  search *s = context;
  const rq_encode_block *block = s->block;
  int32_t states = states_of(s);
  uint8_t k_lane[RQ_GROUPS][RQ_MIXED_STATES]; /* that each state at the end of a group came from */
  float least = 0.0f;
  set_values(s, alpha);
  for (int32_t state = 0; state < states; state++) s->cost[state] = rq_splat(state == 0 ? 0.0f : unreachable);
  for (int32_t f = 0; f < RQ_GROUPS; f++) {
    int32_t begin = rq_group_begin(block->r, f), end = rq_group_begin(block->r, f + 1);
    bool weighted = ALL_WEIGHTED || block->weighted;
    if (s->own->three_bits && weighted) advance(s, begin, end, true, true);
    if (s->own->three_bits && !weighted) advance(s, begin, end, true, false);
    if (!s->own->three_bits && weighted) advance(s, begin, end, false, true);
    if (!s->own->three_bits && !weighted) advance(s, begin, end, false, false);
    least = choose_ks(s->cost + states * end, states, begin == end, k_lane[f]);
    if (!(least < s->total)) return false;
  }
  s->total = least;
  trace_back(s, alpha, k_lane);
  return true;
}

void rq_mixed_encode(const rq_encode_settings *settings, const rq_own *own, const rq_encode_block *block,
                     uint8_t *codes, uint8_t *header, void *scratch) {
  f4 *values = scratch;
  search s = {own, block, settings->k, values, values + MOST_VALUES, 0.0f, codes, header};
  rq_zero(codes, (size_t)block->r);
  header[0] = header[1] = 0;
  float energy = rq_block_energy(block);
  s.total = rq_cost_to_beat(settings, energy);
  if (energy > 0.0f) {
    int32_t start = rq_first_alpha(block, energy, own->three_bits);
    int32_t effort = block->r < RQ_BLOCK ? rq_max_i32(settings->effort, TAIL_EFFORT) : settings->effort;
    rq_search_alpha(settings, start, effort, try_alpha, &s);
  }
}
