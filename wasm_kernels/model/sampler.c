/* sampler.c: from logits to a token. Temperature first, then the typical ones, then the top_k best, then the
 * shortest run of the best whose probability reaches top_p, then those of at least min_p times the best; then
 * one of the rest by a 24-bit uniform number of SplitMix64. Ties go to the lower id, sums run from the best
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
  rq_hint(error, "temperature 0 is greedy; top_p 1, min_p 0, typical_p 1 and top_k 0 switch a filter off");
  return RQ_E_ARGUMENT;
}

/* NaN fails every comparison, so each test is for what is allowed. */
static bool within(float x, float least, float most) { return x >= least && x <= most; }

static int32_t check_options(rq_error *error, const rq_sampling *s) {
  if (!within(s->temperature, 0.0f, 100.0f)) return bad_option(error, "temperature", "a number of 0 to 100");
  if (!(s->top_p > 0.0f && s->top_p <= 1.0f))
    return bad_option(error, "top_p", "a number above 0, at most 1");
  if (!(s->typical_p > 0.0f && s->typical_p <= 1.0f))
    return bad_option(error, "typical_p", "a number above 0, at most 1");
  if (!within(s->min_p, 0.0f, 1.0f)) return bad_option(error, "min_p", "a number of 0 to 1");
  if (s->top_k < 0) return bad_option(error, "top_k", "0 or more");
  if (!within(s->mirostat_tau, 0.0f, 100.0f))
    return bad_option(error, "mirostat_tau", "bits of 0 (off) to 100");
  if (!within(s->mirostat_eta, 0.0f, 1.0f)) return bad_option(error, "mirostat_eta", "a number of 0 to 1");
  if (!within(s->repeat_penalty, 0.01f, 100.0f))
    return bad_option(error, "repeat_penalty", "a number of 0.01 to 100, 1 for none");
  if (!within(s->presence_penalty, -100.0f, 100.0f))
    return bad_option(error, "presence_penalty", "a number of -100 to 100");
  if (!within(s->frequency_penalty, -100.0f, 100.0f))
    return bad_option(error, "frequency_penalty", "a number of -100 to 100");
  return RQ_OK;
}

int32_t RQ_EXPORT rq_sampler_init(rq_error *error, rq_sampler *sampler, uint32_t seed_low, uint32_t seed_high,
                                  const rq_sampling *how) {
  int32_t code = check_options(error, how);
  if (code == RQ_OK) *sampler = (rq_sampler){seed_low, seed_high, *how, 2.0f * how->mirostat_tau};
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

/* Takes the best until top_k, top_p or min_p ends the run; how many, their sum in *kept. */
static int32_t take_best(const rq_sampling *s, ranking *r, double total, double *kept) {
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

static void count_in_bin(bins *b, candidate c) {
  int32_t bin = bin_of(c.weight);
  b->count[bin]++;
  b->mass[bin] += (double)c.weight;
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
      all[start + l] = (candidate){weights[l], start + l};
      total += (double)weights[l];
      count_in_bin(b, all[start + l]);
    }
  }
  return total;
}

/* ---- typical_p: the tokens whose surprise -log p is nearest to the expected one ---- */

enum { IMPOSSIBLE = -1000 }; /* below every deviation of a token that can come */

/* How far a token's surprise is from the expected one, below 0 so that the nearest is the best of a heap. */
static float nearness(double weight, double log_total, double entropy) {
  if (weight == 0.0) return IMPOSSIBLE;
  double deviation = log_total - rq_log(weight) - entropy;
  return (float)(deviation < 0.0 ? deviation : -deviation);
}

/* Leaves the typical tokens in all[0, count), with their bins and their sum in *total. */
static int32_t keep_typical(const float *logits, int32_t count, float largest, const rq_sampling *s,
                            candidate *all, bins *b, double *total) {
  double log_total = rq_log(*total), entropy = 0.0, sum = 0.0;
  for (int32_t n = 0; n < count; n++) {
    double weight = (double)all[n].weight;
    if (weight > 0.0) entropy += weight / *total * (log_total - rq_log(weight));
  }
  for (int32_t n = 0; n < count; n++) all[n].weight = nearness((double)all[n].weight, log_total, entropy);
  make_heap(all, count);
  rq_zero(b, sizeof *b);
  int32_t left = count;
  while (left > 0 && (left == count || (sum < (double)s->typical_p * *total && all[0].weight > IMPOSSIBLE))) {
    candidate best = pop(all, left--);
    best.weight = (logits[best.id] - largest) / s->temperature;
    rq_expf_each(&best.weight, 1);
    sum += (double)best.weight;
    count_in_bin(b, best);
    all[left] = best;
  }
  for (int32_t n = left; n < count; n++) all[n - left] = all[n];
  *total = sum;
  return count - left;
}

/* ---- Mirostat 2: no token more surprising than mu, which follows the surprise that came ---- */

#define LN_2 0.6931471805599453

static rq_sampling mirostat_filter(const rq_sampler *s, double total) {
  double least = rq_exp(-(double)s->mirostat_mu * LN_2) * total; /* of a weight */
  rq_sampling how = {.temperature = s->how.temperature, .top_p = 1.0f, .typical_p = 1.0f};
  how.min_p = least < 1.0 ? (float)least : 1.0f;
  return how;
}

static void mirostat_follow(rq_sampler *s, double weight, double kept) {
  double surprise = (rq_log(kept) - rq_log(weight)) / LN_2;
  s->mirostat_mu -= s->how.mirostat_eta * (float)(surprise - (double)s->how.mirostat_tau);
}

static RQ_NOINLINE int32_t sample(rq_error *error, rq_sampler *s, const float *logits, int32_t vocab_size,
                                  candidate *all) {
  int32_t largest = rq_find_largest(error, logits, vocab_size), tokens = vocab_size;
  if (largest < 0 || s->how.temperature == 0.0f) return largest;
  bins b;
  double total = weigh(logits, vocab_size, logits[largest], s->how.temperature, all, &b);
  bool mirostat = s->how.mirostat_tau > 0.0f;
  rq_sampling how = mirostat ? mirostat_filter(s, total) : s->how;
  if (how.typical_p < 1.0f) tokens = keep_typical(logits, vocab_size, logits[largest], &how, all, &b, &total);
  bool filtered = how.top_k > 0 || how.top_p < 1.0f || how.min_p > 0.0f;
  double uniform = next_uniform(s), kept = total;
  double mass = !filtered ? uniform * total : how.top_k > 0 ? total : (double)how.top_p * total;
  ranking r = rank(all, tokens, last_bin(&b, how.top_k > 0 ? how.top_k : tokens, mass, how.min_p));
  int32_t count = filtered ? take_best(&how, &r, total, &kept) : tokens;
  double target = uniform * kept, sum = 0.0;
  candidate drawn = {0.0f, largest};
  for (int32_t n = 0; n < count; n++) {
    candidate next = filtered ? taken_at(&r, n) : take(&r);
    if (next.weight == 0.0f) break; /* rounding left `target` above the last sum: the last one it is */
    drawn = next;
    sum += (double)next.weight;
    if (sum > target) break;
  }
  if (mirostat && drawn.weight > 0.0f) mirostat_follow(s, (double)drawn.weight, kept);
  return drawn.id;
}

int32_t RQ_EXPORT rq_sample(rq_error *error, rq_sampler *sampler, const float *logits, int32_t vocab_size,
                            void *scratch, void *scratch_end) {
  int32_t code = rq_check_vocab(error, vocab_size);
  if (code < 0) return code;
  if ((code = check_options(error, &sampler->how)) < 0) return code;
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
