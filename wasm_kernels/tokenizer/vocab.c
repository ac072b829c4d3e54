/* vocab.c: finding tokens by text, merges by their two tokens, and special tokens inside text. */
#include "tokenizer.h"

/* ---- hash tables: open addressing, linear probing ----
 * Nothing lies further than RQ_MAX_PROBES from its own place: entering refuses that, finding relies on it. */

uint64_t rq_table_slots(uint64_t count) {
  uint64_t slots = 8;
  while (slots < 2 * count) slots *= 2;
  return slots;
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *text, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; i++) hash = (hash ^ text[i]) * 0x100000001B3u; /* FNV-1a */
  return hash;
}

static uint32_t hash_finish(uint64_t hash) {
  hash ^= hash >> 32;
  hash *= 0x9E3779B97F4A7C15u;
  return (uint32_t)(hash >> 32);
}

static uint32_t text_hash(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes) {
  return hash_finish(hash_bytes(hash_bytes(0xCBF29CE484222325u, a, a_bytes), b, b_bytes));
}

int32_t rq_token_find(const rq_tokenizer *t, const uint8_t *a, uint32_t a_bytes, const uint8_t *b,
                      uint32_t b_bytes) {
  if (a_bytes + b_bytes > (uint32_t)t->longest_token) return -1;
  uint32_t slot = text_hash(a, a_bytes, b, b_bytes) & t->table_mask;
  for (int32_t probes = 0; t->table[slot] && probes <= RQ_MAX_PROBES; probes++) {
    int32_t id = (int32_t)t->table[slot] - 1;
    uint32_t bytes;
    const uint8_t *text = rq_token_text(t, id, &bytes);
    if (bytes == a_bytes + b_bytes && rq_equal(text, a, a_bytes) && rq_equal(text + a_bytes, b, b_bytes))
      return id;
    slot = (slot + 1) & t->table_mask;
  }
  return -1;
}

int32_t rq_token_find_one(const rq_tokenizer *t, const uint8_t *text, uint32_t bytes) {
  return rq_token_find(t, text, bytes, text, 0);
}

static int32_t too_many_collisions(rq_error *error, const char *key) {
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "texts that spread over a hash table");
  rq_actual(error, "more than %d entries in one place", (int32_t)RQ_MAX_PROBES);
  rq_hint(error, "the vocabulary was made to be slow; take the model from another source");
  return RQ_E_TOKENIZER;
}

int32_t rq_token_enter(rq_error *error, rq_tokenizer *t, int32_t id) {
  uint32_t bytes;
  const uint8_t *text = rq_token_text(t, id, &bytes);
  uint32_t slot = text_hash(text, bytes, text, 0) & t->table_mask;
  for (int32_t probes = 0; t->table[slot]; slot = (slot + 1) & t->table_mask) {
    int32_t other = (int32_t)t->table[slot] - 1;
    uint32_t other_bytes;
    const uint8_t *other_text = rq_token_text(t, other, &other_bytes);
    if (bytes == other_bytes && rq_equal(text, other_text, bytes)) {
      rq_fail(error, RQ_E_TOKENIZER, "tokenizer.ggml.tokens[%d]", id);
      rq_expected(error, "every text once");
      rq_actual(error, "'%.*s' again, after token %d", (int)(bytes < 80 ? bytes : 80), (const char *)text,
                other);
      rq_hint(error, "convert the model again; text could become either of the two ids");
      return RQ_E_TOKENIZER;
    }
    if (++probes > RQ_MAX_PROBES) return too_many_collisions(error, "tokenizer.ggml.tokens");
  }
  t->table[slot] = (uint32_t)id + 1;
  return RQ_OK;
}

static uint32_t pair_hash(int32_t left, int32_t right) {
  return hash_finish(((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0xD6E8FEB86659FD93u);
}

int32_t rq_merge_find(const rq_tokenizer *t, int32_t left, int32_t right) {
  uint32_t slot = pair_hash(left, right) & t->merge_mask;
  for (int32_t probes = 0; t->merge_table[slot] && probes <= RQ_MAX_PROBES; probes++) {
    int32_t rank = (int32_t)t->merge_table[slot] - 1;
    if (t->merges[rank].left == left && t->merges[rank].right == right) return rank;
    slot = (slot + 1) & t->merge_mask;
  }
  return -1;
}

int32_t rq_merge_enter(rq_error *error, rq_tokenizer *t, int32_t rank) {
  int32_t left = t->merges[rank].left, right = t->merges[rank].right;
  uint32_t slot = pair_hash(left, right) & t->merge_mask;
  for (int32_t probes = 0; t->merge_table[slot]; slot = (slot + 1) & t->merge_mask) {
    int32_t other = (int32_t)t->merge_table[slot] - 1;
    if (t->merges[other].left == left && t->merges[other].right == right) {
      rq_fail(error, RQ_E_TOKENIZER, "tokenizer.ggml.merges[%d]", rank);
      rq_expected(error, "every pair of tokens once");
      rq_actual(error, "tokens %d and %d again, after merge %d", left, right, other);
      rq_hint(error, "convert the model again; the merge could have either of the two ranks");
      return RQ_E_TOKENIZER;
    }
    if (++probes > RQ_MAX_PROBES) return too_many_collisions(error, "tokenizer.ggml.merges");
  }
  t->merge_table[slot] = (uint32_t)rank + 1;
  return RQ_OK;
}

/* ---- special tokens ---- */

static bool text_before(const rq_tokenizer *t, int32_t a, int32_t b) {
  uint32_t a_bytes, b_bytes;
  const uint8_t *x = rq_token_text(t, a, &a_bytes), *y = rq_token_text(t, b, &b_bytes);
  for (uint32_t i = 0; i < a_bytes && i < b_bytes; i++)
    if (x[i] != y[i]) return x[i] < y[i];
  return a_bytes < b_bytes;
}

static void sift_down(const rq_tokenizer *t, int32_t *ids, int32_t at, int32_t count) {
  for (int32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && text_before(t, ids[child], ids[child + 1])) child++;
    if (!text_before(t, ids[at], ids[child])) return;
    int32_t moved = ids[at];
    ids[at] = ids[child];
    ids[child] = moved;
  }
}

/* Heap sort: no recursion, and no order of the file makes it slow. */
void rq_specials_sort(rq_tokenizer *t) {
  int32_t *ids = t->specials;
  for (int32_t i = t->special_count / 2; i > 0; i--) sift_down(t, ids, i - 1, t->special_count);
  for (int32_t last = t->special_count - 1; last > 0; last--) {
    int32_t largest = ids[0];
    ids[0] = ids[last];
    ids[last] = largest;
    sift_down(t, ids, 0, last);
  }
  int32_t position = 0;
  for (int32_t byte = 0; byte <= 256; byte++) {
    uint32_t bytes;
    while (position < t->special_count && rq_token_text(t, ids[position], &bytes)[0] < byte) position++;
    t->special_from[byte] = position;
  }
}

/* First special in [low, high) whose byte at `depth` is not below `byte`; all of them are longer than that.
 */
static int32_t lower_bound(const rq_tokenizer *t, int32_t low, int32_t high, uint32_t depth, uint32_t byte) {
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    uint32_t bytes;
    if (rq_token_text(t, t->specials[middle], &bytes)[depth] < byte)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

int32_t rq_special_match(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool parse_special) {
  int32_t low = t->special_from[text[0]], high = t->special_from[text[0] + 1], found = -1;
  for (uint32_t depth = 1; low < high;
       depth++) { /* [low, high): those that share `depth` bytes with the text */
    int32_t id = t->specials[low];
    uint32_t bytes;
    rq_token_text(t, id, &bytes);
    if (bytes == depth) { /* the shortest comes first, and no text is there twice */
      if (parse_special || t->types[id] == RQ_TOKEN_USER_DEFINED) found = id;
      low++;
    }
    if (text + depth >= end) break;
    low = lower_bound(t, low, high, depth, text[depth]);
    high = lower_bound(t, low, high, depth, text[depth] + 1u);
  }
  return found;
}
