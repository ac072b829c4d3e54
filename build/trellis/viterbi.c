/* viterbi.c: the best way through any trellis, sixteen blocks side by side. Compiled by viterbi.py when
 * build/format_search.py runs; not part of the engine.
 *
 * A trellis has `states` states with `ways` branches into each; branch b = state * ways + j leads from state
 * from[b] to `state` and stands for the value table[b] times a scale. Scales: each block has `options` of
 * them, and each group of weights takes one. Costs are sums of squares in f32, each operation rounded by
 * itself, and among equals the first is kept (branches in their order, options in theirs), as
 * wasm_kernels/formats/encode_trellis.c has it. Compile with -ffp-contract=off: then every machine finds the
 * same ways. */
#include <stdint.h>

enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

typedef struct trellis {
  int32_t states, ways; /* ways <= 256 */
  const int32_t *from;  /* (states * ways) */
  const float *table;   /* (states * ways) */
} trellis;

typedef struct job {
  int32_t count, group, options;
  const lanes *x;             /* (count) */
  const lanes *scales;        /* (options) */
  const int32_t *start, *end; /* (LANES): a state, or -1 for any */
  /* scratch */
  lanes *cost;  /* (2, options, states) */
  bytes *way;   /* (count, options, states): the branch that each state was reached by */
  bytes *taken; /* (groups, states): the option that each state at the end of a group took */
  /* results */
  int32_t *branch; /* (count, LANES) */
  uint8_t *option; /* (groups, LANES) */
  float *total;    /* (LANES) */
} job;

static const float UNREACHABLE = 0x1p100f;

static inline lanes select_lanes(mask m, lanes a, lanes b) { return (lanes)((m & (mask)a) | (~m & (mask)b)); }

/* One weight, one option: from the costs before to those after. */
static inline __attribute__((always_inline)) void step(const trellis *t, int32_t ways, lanes x, lanes d,
                                                       const lanes *before, lanes *after, bytes *way) {
  for (int32_t s = 0; s < t->states; s++) {
    const int32_t *from = t->from + s * ways;
    const float *values = t->table + s * ways;
    lanes best = {0}, e = x - values[0] * d;
    mask chosen = {0};
    best = before[from[0]] + e * e;
    for (int32_t j = 1; j < ways; j++) {
      e = x - values[j] * d;
      lanes c = before[from[j]] + e * e;
      mask nearer = c < best;
      best = select_lanes(nearer, c, best);
      chosen = (nearer & (chosen * 0 + j)) | (~nearer & chosen);
    }
    after[s] = best;
    way[s] = __builtin_convertvector(chosen, bytes);
  }
}

/* Every state goes on with its cheapest option. */
static void end_group(const trellis *t, const job *b, lanes *cost, bytes *taken) {
  for (int32_t s = 0; s < t->states; s++) {
    lanes best = cost[s];
    mask chosen = {0};
    for (int32_t o = 1; o < b->options; o++) {
      mask nearer = cost[o * t->states + s] < best;
      best = select_lanes(nearer, cost[o * t->states + s], best);
      chosen = (nearer & (chosen * 0 + o)) | (~nearer & chosen);
    }
    for (int32_t o = 0; o < b->options; o++) cost[o * t->states + s] = best;
    taken[s] = __builtin_convertvector(chosen, bytes);
  }
}

static void trace_back(const trellis *t, const job *b, const lanes *cost) {
  int32_t groups = (b->count + b->group - 1) / b->group;
  for (int32_t l = 0; l < LANES; l++) {
    int32_t state = b->end[l];
    if (state < 0) {
      state = 0;
      for (int32_t s = 1; s < t->states; s++)
        if (cost[s][l] < cost[state][l]) state = s;
    }
    b->total[l] = cost[state][l];
    for (int32_t g = groups - 1; g >= 0; g--) {
      int32_t last = (g + 1) * b->group, option = b->taken[g * t->states + state][l];
      if (last > b->count) last = b->count;
      b->option[g * LANES + l] = (uint8_t)option;
      for (int32_t i = last - 1; i >= g * b->group; i--) {
        int32_t at = state * t->ways + b->way[((int64_t)i * b->options + option) * t->states + state][l];
        b->branch[i * LANES + l] = at;
        state = t->from[at];
      }
    }
  }
}

__attribute__((visibility("default"))) void search(const trellis *t, const job *b) {
  int32_t size = b->options * t->states;
  lanes *before = b->cost, *after = b->cost + size;
  for (int32_t s = 0; s < t->states; s++)
    for (int32_t l = 0; l < LANES; l++) {
      float c = b->start[l] < 0 || b->start[l] == s ? 0.0f : UNREACHABLE;
      for (int32_t o = 0; o < b->options; o++) before[o * t->states + s][l] = c;
    }
  for (int32_t i = 0; i < b->count; i++) {
    for (int32_t o = 0; o < b->options; o++) {
      bytes *way = b->way + ((int64_t)i * b->options + o) * t->states;
      const lanes *c = before + o * t->states;
      lanes *n = after + o * t->states;
      if (t->ways == 4)
        step(t, 4, b->x[i], b->scales[o], c, n, way);
      else if (t->ways == 8)
        step(t, 8, b->x[i], b->scales[o], c, n, way);
      else
        step(t, t->ways, b->x[i], b->scales[o], c, n, way);
    }
    lanes *other = before;
    before = after;
    after = other;
    if ((i + 1) % b->group == 0 || i + 1 == b->count)
      end_group(t, b, before, b->taken + (int64_t)(i / b->group) * t->states);
  }
  trace_back(t, b, before);
}
