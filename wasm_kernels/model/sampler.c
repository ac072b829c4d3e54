/* sampler.c: from logits to a token. Temperature first, then the top_k best, then the shortest run of
 * the best whose probability reaches top_p, then those of at least min_p times the best; then one of
 * the rest by a 24-bit uniform number of SplitMix64. Ties go to the lower id, sums run from the best
 * downwards, in double. */
#include "../base/fpenv.h"
#include "../base/math.h"
#include "lanes.h"
#include "model.h"

/* One token that may be drawn. */
typedef struct candidate {
  float weight; /* exp((logit - largest) / temperature) */
  int32_t id;
} candidate;

static uint64_t state_of(const rq_sampler *s) { return (uint64_t)s->state_high << 32 | s->state_low; }

/* 24 bits of SplitMix64 as a number of [0, 1). */
static double next_uniform(rq_sampler *s) {
  uint64_t state = state_of(s) + 0x9E3779B97F4A7C15u, z = state;
  s->state_low = (uint32_t)state;
  s->state_high = (uint32_t)(state >> 32);
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(uint32_t)(z >> 40) * 0x1p-24;
}

static int32_t bad_option(rq_error *error, const char *name, const char *expected) {
  rq_fail(error, RQ_E_ARGUMENT, "%s", name);
  rq_expected(error, "%s", expected);
  rq_actual(error, "another value");
  rq_hint(error, "temperature 0 is greedy; top_p 1, min_p 0 and top_k 0 switch a filter off");
  return RQ_E_ARGUMENT;
}

/* NaN fails every comparison, so each test is for what is allowed. */
static int32_t check_options(rq_error *error, const rq_sampler *s) {
  if (!(s->temperature >= 0.0f && s->temperature <= 100.0f))
    return bad_option(error, "temperature", "a number of 0 to 100");
  if (!(s->top_p > 0.0f && s->top_p <= 1.0f))
    return bad_option(error, "top_p", "a number above 0, at most 1");
  if (!(s->min_p >= 0.0f && s->min_p <= 1.0f)) return bad_option(error, "min_p", "a number of 0 to 1");
  if (s->top_k < 0) return bad_option(error, "top_k", "0 or more");
  return RQ_OK;
}

int32_t RQ_EXPORT rq_sampler_init(rq_error *error, rq_sampler *sampler, uint32_t seed_low, uint32_t seed_high,
                                  float temperature, float top_p, float min_p, int32_t top_k) {
  rq_sampler made = {seed_low, seed_high, temperature, top_p, min_p, top_k};
  int32_t code = check_options(error, &made);
  if (code == RQ_OK) *sampler = made;
  return code;
}

int32_t RQ_EXPORT rq_sample_scratch(int32_t vocab_size) {
  if (vocab_size < 1 || vocab_size > RQ_MAX_VOCAB) return RQ_E_ARGUMENT;
  return vocab_size * (int32_t)sizeof(candidate);
}

/* ---- a heap of candidates, the best at the root ---- */

static bool better(const candidate *a, const candidate *b) {
  return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

static void sift_down(candidate *heap, int32_t count, int32_t at) {
  for (;;) {
    int32_t child = 2 * at + 1;
    if (child >= count) return;
    if (child + 1 < count && better(heap + child + 1, heap + child)) child++;
    if (!better(heap + child, heap + at)) return;
    candidate moved = heap[at];
    heap[at] = heap[child];
    heap[child] = moved;
    at = child;
  }
}

/* Moves the best of heap[0, count) to heap[count - 1]: the sorted ones gather at the end, best last. */
static candidate pop(candidate *heap, int32_t count) {
  candidate best = heap[0];
  heap[0] = heap[count - 1];
  heap[count - 1] = best;
  sift_down(heap, count - 1, 0);
  return best;
}

static void make_heap(candidate *heap, int32_t count) {
  for (int32_t at = count / 2 - 1; at >= 0; at--) sift_down(heap, count, at);
}

/* All candidates, sorted as far as they are asked for. A few at the front, each better than any of the
 * others, are a heap of their own; the others become one when the few are used up, which is rare. */
typedef struct ranking {
  candidate *all;
  int32_t count, few, taken;
  bool others_ready;
} ranking;

/* The heap that holds the best one left, and how many are in it. */
static candidate *heap_left(ranking *r, int32_t *count) {
  *count = (r->taken < r->few ? r->few : r->count) - r->taken;
  if (r->taken < r->few) return r->all;
  if (!r->others_ready) make_heap(r->all + r->few, r->count - r->few);
  r->others_ready = true;
  return r->all + r->few;
}

static candidate best_left(ranking *r) {
  int32_t count;
  return heap_left(r, &count)[0];
}

static candidate take(ranking *r) {
  int32_t count;
  candidate *heap = heap_left(r, &count);
  r->taken++;
  return pop(heap, count);
}

/* The n-th of those taken. */
static candidate taken_at(const ranking *r, int32_t n) {
  return r->all[n < r->few ? r->few - 1 - n : r->count - 1 - (n - r->few)];
}

/* Weights in 1017 bins by the upper bits of their floats, which order as the numbers do: how many, and their
 * sum. */
enum { BIN_SHIFT = 20, BINS = (0x3F800000 >> BIN_SHIFT) + 1 };
typedef struct bins {
  int32_t count[BINS];
  double mass[BINS];
} bins;

static int32_t bin_of(float weight) {
  uint32_t bits;
  __builtin_memcpy(&bits, &weight, sizeof bits);
  return rq_min_i32((int32_t)(bits >> BIN_SHIFT), BINS - 1);
}

/* The lowest bin that will probably be needed: where `count`, `mass` or `least` is reached. Only speed
 * depends on it. */
static int32_t last_bin(const bins *b, int32_t count, double mass, float least) {
  int32_t bin = BINS - 1, found = b->count[bin], end = bin_of(least);
  double sum = b->mass[bin];
  while (bin > end && found < count && sum < mass) {
    bin--;
    found += b->count[bin];
    sum += b->mass[bin];
  }
  return bin;
}

/* The candidates of at least `bin` to the front. */
static ranking rank(candidate *all, int32_t count, int32_t bin) {
  int32_t low = 0, high = count;
  while (low < high) {
    if (bin_of(all[low].weight) >= bin) {
      low++;
      continue;
    }
    candidate moved = all[--high];
    all[high] = all[low];
    all[low] = moved;
  }
  make_heap(all, low);
  return (ranking){all, count, low, 0, false};
}

/* ---- drawing ---- */

static int32_t nonfinite_logit(rq_error *error, int32_t id) {
  rq_fail(error, RQ_E_NONFINITE, "logit of token %d", id);
  rq_expected(error, "finite logits");
  rq_actual(error, "NaN or infinity");
  rq_hint(error, "the weights are damaged or too large: verify the file");
  return RQ_E_NONFINITE;
}

/* Bits of a float as an integer that orders as the numbers do; both zeros are 0. */
static int32_t order_of(float x) {
  float unsigned_zero = x + 0.0f;
  int32_t bits;
  __builtin_memcpy(&bits, &unsigned_zero, sizeof bits);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

/* Position of the largest logit, the lower id among equals; RQ_E_NONFINITE. Plain loops over integers, which
 * compilers turn into vectors. */
static int32_t find_largest(rq_error *error, const float *logits, int32_t vocab_size) {
  enum { PIECE = 512 };
  int32_t largest = INT32_MIN, best = 0;
  for (int32_t start = 0; start < vocab_size; start += PIECE) {
    int32_t n = rq_min_i32(PIECE, vocab_size - start), top = INT32_MIN;
    const float *x = logits + start;
    if (!rq_all_finite(x, n)) {
      int32_t i = 0;
      while (rq_all_finite(x + i, 1)) i++;
      return nonfinite_logit(error, start + i);
    }
    for (int32_t i = 0; i < n; i++) top = rq_max_i32(top, order_of(x[i]));
    if (top > largest) {
      largest = top;
      best = start;
    }
  }
  while (order_of(logits[best]) != largest) best++;
  return best;
}

/* Takes the best until top_k, top_p or min_p ends the run; how many, their sum in *kept. */
static int32_t take_best(const rq_sampler *s, ranking *r, double total, double *kept) {
  int32_t limit = s->top_k > 0 ? rq_min_i32(s->top_k, r->count) : r->count, count = 0;
  bool sorted = s->top_k > 0 && s->top_p < 1.0f;
  if (sorted) { /* top_p is a share of the top_k */
    total = 0.0;
    for (int32_t n = 0; n < limit; n++) total += (double)take(r).weight;
  }
  double sum = 0.0;
  while (count < limit) {
    candidate next = sorted ? taken_at(r, count) : best_left(r);
    if (count > 0 && (next.weight < s->min_p || next.weight == 0.0f)) break;
    if (!sorted) take(r);
    count++;
    sum += (double)next.weight;
    if (s->top_p < 1.0f && sum >= (double)s->top_p * total) break;
  }
  *kept = sum;
  return count;
}

/* Every token's weight, and what is in which bin; the sum of all weights by rising id. */
static double weigh(const float *logits, int32_t vocab_size, float largest, float temperature, candidate *all,
                    bins *b) {
  enum { PIECE = 64 };
  float weights[PIECE];
  double total = 0.0;
  rq_zero(b, sizeof *b);
  for (int32_t start = 0; start < vocab_size; start += PIECE) {
    int32_t n = rq_min_i32(PIECE, vocab_size - start);
    for (int32_t l = 0; l < n; l++) weights[l] = (logits[start + l] - largest) / temperature;
    rq_expf_each(weights, n);
    for (int32_t l = 0; l < n; l++) {
      int32_t bin = bin_of(weights[l]);
      all[start + l] = (candidate){weights[l], start + l};
      total += (double)weights[l];
      b->count[bin]++;
      b->mass[bin] += (double)weights[l];
    }
  }
  return total;
}

static RQ_NOINLINE int32_t sample(rq_error *error, rq_sampler *s, const float *logits, int32_t vocab_size,
                                  candidate *all) {
  int32_t largest = find_largest(error, logits, vocab_size);
  if (largest < 0 || s->temperature == 0.0f) return largest;
  bins b;
  double total = weigh(logits, vocab_size, logits[largest], s->temperature, all, &b);
  bool filtered = s->top_k > 0 || s->top_p < 1.0f || s->min_p > 0.0f;
  double uniform = next_uniform(s), kept = total;
  double mass = !filtered ? uniform * total : s->top_k > 0 ? total : (double)s->top_p * total;
  ranking r = rank(all, vocab_size, last_bin(&b, s->top_k > 0 ? s->top_k : vocab_size, mass, s->min_p));
  int32_t count = filtered ? take_best(s, &r, total, &kept) : vocab_size;
  double target = uniform * kept, sum = 0.0;
  candidate drawn = {0.0f, largest};
  for (int32_t n = 0; n < count; n++) {
    candidate next = filtered ? taken_at(&r, n) : take(&r);
    if (next.weight == 0.0f) break; /* rounding left `target` above the last sum: the last one it is */
    drawn = next;
    sum += (double)next.weight;
    if (sum > target) break;
  }
  return drawn.id;
}

static int32_t check_vocab(rq_error *error, int32_t vocab_size) {
  if (vocab_size >= 1 && vocab_size <= RQ_MAX_VOCAB) return RQ_OK;
  rq_fail(error, RQ_E_ARGUMENT, "vocab_size");
  rq_expected(error, "1 to %d", RQ_MAX_VOCAB);
  rq_actual(error, "%d", vocab_size);
  rq_hint(error, "pass the model's vocab_size");
  return RQ_E_ARGUMENT;
}

int32_t RQ_EXPORT rq_sample(rq_error *error, rq_sampler *sampler, const float *logits, int32_t vocab_size,
                            void *scratch, void *scratch_end) {
  int32_t code = check_vocab(error, vocab_size);
  if (code < 0) return code;
  if ((code = check_options(error, sampler)) < 0) return code;
  uint64_t given = (uint64_t)((uint8_t *)scratch_end - (uint8_t *)scratch);
  if (given < (uint64_t)vocab_size * sizeof(candidate)) {
    rq_fail(error, RQ_E_MEMORY, "scratch");
    rq_expected(error, "%d bytes, as rq_sample_scratch says", rq_sample_scratch(vocab_size));
    rq_actual(error, "%U bytes", given);
    rq_hint(error, "give more memory");
    return RQ_E_MEMORY;
  }
  uint32_t saved = rq_fp_enter();
  code = sample(error, sampler, logits, vocab_size, scratch);
  rq_fp_leave(saved);
  return code;
}

static RQ_NOINLINE int32_t log_probability(rq_error *error, const float *logits, int32_t vocab_size,
                                           int32_t token, float *out) {
  int32_t largest = find_largest(error, logits, vocab_size);
  if (largest < 0) return largest;
  double total = 0.0;
  for (int32_t i = 0; i < vocab_size; i++) total += rq_exp((double)logits[i] - (double)logits[largest]);
  *out = (float)((double)logits[token] - (double)logits[largest] - rq_log(total));
  return RQ_OK;
}

int32_t RQ_EXPORT rq_log_probability(rq_error *error, const float *logits, int32_t vocab_size, int32_t token,
                                     float *out) {
  int32_t code = check_vocab(error, vocab_size);
  if (code < 0) return code;
  if (token < 0 || token >= vocab_size) {
    rq_fail(error, RQ_E_TOKEN, "token");
    rq_expected(error, "an id of 0 to %d", vocab_size - 1);
    rq_actual(error, "%d", token);
    rq_hint(error, "use the tokenizer of the same file");
    return RQ_E_TOKEN;
  }
  uint32_t saved = rq_fp_enter();
  code = log_probability(error, logits, vocab_size, token, out);
  rq_fp_leave(saved);
  return code;
}
