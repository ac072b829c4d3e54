/* merge.c: merges neighbouring symbols, best pair first: the common core of SentencePiece and BPE.
 * A heap with one entry a symbol (for the pair that it begins) whose entries move when a neighbour
 * changes: O(n log n) for any text, in memory that is known before. */
#include "tokenizer.h"

enum { NOT_THERE = -1 };
#define NO_PAIR 0xFFFFFFFFu /* priority of two symbols that don't merge */

bool rq_symbols_take(rq_symbols *s, const rq_tokenizer *t, int32_t count, uint8_t *scratch,
                     uint8_t *scratch_end) {
  uintptr_t skip = (0 - (uintptr_t)scratch) & 3;
  uint64_t entries = (uint64_t)count + 1, needed = skip + 6 * 4 * entries;
  if (scratch_end < scratch || needed > (uint64_t)(scratch_end - scratch)) return false;
  uint32_t *at = (uint32_t *)(void *)(scratch + skip);
  rq_zero(s, sizeof *s);
  s->tokenizer = t;
  s->count = count;
  s->value = at;
  s->previous = (int32_t *)(at + entries);
  s->next = (int32_t *)(at + 2 * entries);
  s->priority = at + 3 * entries;
  s->heap = (int32_t *)(at + 4 * entries);
  s->where = (int32_t *)(at + 5 * entries);
  return true;
}

/* ---- which pairs merge ---- */

/* Order of floats as an order of integers: no float comparison, whose treatment of tiny numbers a host
 * may change. Higher scores give lower priorities; -0 counts as 0. */
static uint32_t score_priority(const uint8_t *score) {
  uint32_t bits = rq_load_u32(score);
  if (bits == 0x80000000u) bits = 0;
  uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

static uint32_t spm_priority(const rq_symbols *s, int32_t left, int32_t right) {
  uint32_t begin = s->value[left], middle = s->value[right];
  uint32_t after = s->value[s->next[right]];
  int32_t id = rq_token_find(s->tokenizer, s->text + begin, middle - begin, s->text + middle, after - middle);
  if (id < 0) return NO_PAIR;
  uint8_t type = s->tokenizer->types[id];
  bool text =
      type == RQ_TOKEN_NORMAL || type == RQ_TOKEN_USER_DEFINED; /* control tokens never come from text */
  return text ? score_priority(s->tokenizer->scores + 4 * (uint64_t)(uint32_t)id) : NO_PAIR;
}

static uint32_t bpe_priority(const rq_symbols *s, int32_t left, int32_t right) {
  int32_t rank = rq_merge_find(s->tokenizer, (int32_t)s->value[left], (int32_t)s->value[right]);
  return rank < 0 ? NO_PAIR : (uint32_t)rank;
}

static uint32_t pair_priority(const rq_symbols *s, int32_t left) {
  int32_t right = s->next[left];
  if (right == s->count) return NO_PAIR;
  return s->tokenizer->info.kind == RQ_TOKENIZER_SPM ? spm_priority(s, left, right)
                                                     : bpe_priority(s, left, right);
}

/* ---- heap of symbols by (priority, position) ---- */

static bool goes_first(const rq_symbols *s, int32_t a, int32_t b) {
  return s->priority[a] != s->priority[b] ? s->priority[a] < s->priority[b] : a < b;
}

static void put(rq_symbols *s, int32_t place, int32_t symbol) {
  s->heap[place] = symbol;
  s->where[symbol] = place;
}

static void move_up(rq_symbols *s, int32_t place) {
  int32_t symbol = s->heap[place];
  while (place > 0 && goes_first(s, symbol, s->heap[(place - 1) / 2])) {
    put(s, place, s->heap[(place - 1) / 2]);
    place = (place - 1) / 2;
  }
  put(s, place, symbol);
}

static void move_down(rq_symbols *s, int32_t place) {
  int32_t symbol = s->heap[place];
  for (int32_t child; (child = 2 * place + 1) < s->heap_count; place = child) {
    if (child + 1 < s->heap_count && goes_first(s, s->heap[child + 1], s->heap[child])) child++;
    if (!goes_first(s, s->heap[child], symbol)) break;
    put(s, place, s->heap[child]);
  }
  put(s, place, symbol);
}

static void settle(rq_symbols *s, int32_t place) {
  int32_t symbol = s->heap[place];
  move_up(s, place);
  move_down(s, s->where[symbol]);
}

static void drop(rq_symbols *s, int32_t symbol) {
  int32_t place = s->where[symbol];
  if (place == NOT_THERE) return;
  s->where[symbol] = NOT_THERE;
  int32_t last = s->heap[--s->heap_count];
  if (last == symbol) return;
  put(s, place, last);
  settle(s, place);
}

/* Looks again whether a symbol and its neighbour merge, and when. */
static void update(rq_symbols *s, int32_t symbol) {
  s->priority[symbol] = pair_priority(s, symbol);
  if (s->priority[symbol] == NO_PAIR) {
    drop(s, symbol);
    return;
  }
  if (s->where[symbol] == NOT_THERE) put(s, s->heap_count++, symbol);
  settle(s, s->where[symbol]);
}

/* ---- */

static void merge_with_next(rq_symbols *s, int32_t left) {
  int32_t right = s->next[left];
  if (s->tokenizer->info.kind == RQ_TOKENIZER_BPE)
    s->value[left] = (uint32_t)s->tokenizer->merges[s->priority[left]].merged;
  drop(s, right);
  s->next[left] = s->next[right];
  if (s->next[left] < s->count) s->previous[s->next[left]] = left;
  update(s, left);
  if (s->previous[left] >= 0) update(s, s->previous[left]);
}

void rq_symbols_merge(rq_symbols *s) {
  for (int32_t i = 0; i < s->count; i++) {
    s->previous[i] = i - 1;
    s->next[i] = i + 1;
    s->where[i] = NOT_THERE;
  }
  for (int32_t i = 0; i < s->count; i++) update(s, i);
  while (s->heap_count > 0) merge_with_next(s, s->heap[0]);
}
