/* logits.c: what can be said of logits before a token is drawn: the largest, log-probabilities; and what may
 * be changed about them: biases and penalties. The sums are in double and by rising id. */
#include "../base/fpenv.h"
#include "../base/math.h"
#include "lanes.h"
#include "model.h"

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
int32_t rq_find_largest(rq_error *error, const float *logits, int32_t vocab_size) {
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

int32_t rq_check_vocab(rq_error *error, int32_t vocab_size) {
  if (vocab_size >= 1 && vocab_size <= RQ_MAX_VOCAB) return RQ_OK;
  rq_fail(error, RQ_E_ARGUMENT, "vocab_size");
  rq_expected(error, "1 to %d", RQ_MAX_VOCAB);
  rq_actual(error, "%d", vocab_size);
  rq_hint(error, "pass the model's vocab_size");
  return RQ_E_ARGUMENT;
}

/* The logarithm of the sum of exp(logit - largest). */
static double log_total(const float *logits, int32_t vocab_size, float largest) {
  double total = 0.0;
  for (int32_t i = 0; i < vocab_size; i++) total += rq_exp((double)logits[i] - (double)largest);
  return rq_log(total);
}

static RQ_NOINLINE int32_t log_probability(rq_error *error, const float *logits, int32_t vocab_size,
                                           int32_t token, float *out) {
  int32_t largest = rq_find_largest(error, logits, vocab_size);
  if (largest < 0) return largest;
  double log_sum = log_total(logits, vocab_size, logits[largest]);
  *out = (float)((double)logits[token] - (double)logits[largest] - log_sum);
  return RQ_OK;
}

static int32_t bad_token(rq_error *error, const char *what, int32_t token, int32_t vocab_size) {
  rq_fail(error, RQ_E_TOKEN, "%s", what);
  rq_expected(error, "an id of 0 to %d", vocab_size - 1);
  rq_actual(error, "%d", token);
  rq_hint(error, "use the tokenizer of the same file");
  return RQ_E_TOKEN;
}

int32_t RQ_EXPORT rq_log_probability(rq_error *error, const float *logits, int32_t vocab_size, int32_t token,
                                     float *out) {
  int32_t code = rq_check_vocab(error, vocab_size);
  if (code < 0) return code;
  if (token < 0 || token >= vocab_size) return bad_token(error, "token", token, vocab_size);
  uint32_t saved = rq_fp_enter();
  code = log_probability(error, logits, vocab_size, token, out);
  rq_fp_leave(saved);
  return code;
}

/* Enters a token into the `count` best of those before it, which are sorted; ids rise, so that ties stay. */
static void enter(const float *logits, int32_t token, int32_t count, int32_t *filled, int32_t *tokens) {
  if (*filled == count && !(logits[token] > logits[tokens[count - 1]])) return;
  int32_t at = *filled < count ? (*filled)++ : count - 1;
  for (; at > 0 && logits[token] > logits[tokens[at - 1]]; at--) tokens[at] = tokens[at - 1];
  tokens[at] = token;
}

static RQ_NOINLINE int32_t top(rq_error *error, const float *logits, int32_t vocab_size, int32_t count,
                               int32_t *tokens, float *out) {
  int32_t largest = rq_find_largest(error, logits, vocab_size), filled = 0;
  if (largest < 0) return largest;
  for (int32_t i = 0; i < vocab_size; i++) enter(logits, i, count, &filled, tokens);
  double log_sum = log_total(logits, vocab_size, logits[largest]);
  for (int32_t n = 0; n < count; n++)
    out[n] = (float)((double)logits[tokens[n]] - (double)logits[largest] - log_sum);
  return RQ_OK;
}

static int32_t bad_count(rq_error *error, const char *what, int32_t most, int32_t count) {
  rq_fail(error, RQ_E_ARGUMENT, "%s", what);
  rq_expected(error, "0 to %d", most);
  rq_actual(error, "%d", count);
  rq_hint(error, "ask for fewer");
  return RQ_E_ARGUMENT;
}

int32_t RQ_EXPORT rq_top_log_probabilities(rq_error *error, const float *logits, int32_t vocab_size,
                                           int32_t count, int32_t *tokens, float *out) {
  int32_t code = rq_check_vocab(error, vocab_size), most = rq_min_i32(RQ_MAX_TOP, vocab_size);
  if (code < 0) return code;
  if (count < 1 || count > most) return bad_count(error, "count", most, count);
  uint32_t saved = rq_fp_enter();
  code = top(error, logits, vocab_size, count, tokens, out);
  rq_fp_leave(saved);
  return code;
}

/* ---- biases and penalties ---- */

#define LARGEST 3.4028234663852886e38f

/* Infinities become the largest finite numbers, which a sampler takes. */
static float finite(float x) { return x > LARGEST ? LARGEST : x < -LARGEST ? -LARGEST : x; }

static int32_t add_biases(rq_error *error, const rq_logit_bias *biases, int32_t count, int32_t vocab_size,
                          float *out) {
  for (int32_t n = 0; n < count; n++) {
    if (biases[n].token < 0 || biases[n].token >= vocab_size)
      return bad_token(error, "logit_bias", biases[n].token, vocab_size);
    if (!(biases[n].bias <= LARGEST)) {
      rq_fail(error, RQ_E_ARGUMENT, "logit_bias of token %d", biases[n].token);
      rq_expected(error, "a number, or -infinity for a token that never comes");
      rq_actual(error, "NaN or infinity");
      return RQ_E_ARGUMENT;
    }
    out[biases[n].token] = finite(out[biases[n].token] + biases[n].bias);
  }
  return RQ_OK;
}

/* Each token once, at its first place in `recent`, with how often it comes. */
static int32_t penalize(rq_error *error, const rq_sampling *how, const int32_t *recent, int32_t count,
                        int32_t vocab_size, float *out) {
  for (int32_t n = 0; n < count; n++) {
    int32_t token = recent[n], times = 1, before = 0;
    if (token < 0 || token >= vocab_size) return bad_token(error, "recent", token, vocab_size);
    while (before < n && recent[before] != token) before++;
    if (before < n) continue;
    for (int32_t after = n + 1; after < count; after++) times += recent[after] == token;
    float logit = out[token];
    logit = logit > 0.0f ? logit / how->repeat_penalty : logit * how->repeat_penalty;
    out[token] = finite(logit - how->presence_penalty - (float)times * how->frequency_penalty);
  }
  return RQ_OK;
}

static RQ_NOINLINE int32_t adjust(rq_error *error, const rq_sampling *how, int32_t vocab_size,
                                  const rq_logit_bias *biases, int32_t bias_count, const int32_t *recent,
                                  int32_t recent_count, float *out) {
  int32_t code = add_biases(error, biases, bias_count, vocab_size, out);
  return code < 0 ? code : penalize(error, how, recent, recent_count, vocab_size, out);
}

int32_t RQ_EXPORT rq_adjust_logits(rq_error *error, const rq_sampler *sampler, const float *logits,
                                   int32_t vocab_size, const rq_logit_bias *biases, int32_t bias_count,
                                   const int32_t *recent, int32_t recent_count, float *out) {
  int32_t code = rq_check_vocab(error, vocab_size);
  if (code < 0) return code;
  if (bias_count < 0 || bias_count > vocab_size)
    return bad_count(error, "logit_bias", vocab_size, bias_count);
  if (recent_count < 0 || recent_count > RQ_MAX_RECENT)
    return bad_count(error, "recent", RQ_MAX_RECENT, recent_count);
  uint32_t saved = rq_fp_enter();
  rq_copy(out, logits, (size_t)vocab_size * sizeof(float));
  code = adjust(error, &sampler->how, vocab_size, biases, bias_count, recent, recent_count, out);
  rq_fp_leave(saved);
  return code;
}
