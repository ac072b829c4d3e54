/* encode.c: text without special tokens to ids: SentencePiece by scores, byte-level BPE by ranks. */
#include "tokenizer.h"

static const uint8_t SPACE_MARK[3] = {0xE2, 0x96, 0x81}; /* U+2581 stands for a space in SentencePiece */

/* ---- SentencePiece ---- */

/* The text with spaces as U+2581, and the place of every character; NULL where it doesn't fit. */
static uint8_t *escape_spaces(rq_symbols *s, const uint8_t *text, const uint8_t *end, bool space_prefix,
                              uint8_t *to) {
  uint8_t *start = to;
  int32_t n = 0;
  for (const uint8_t *at = text; at < end || space_prefix; space_prefix = false) {
    uint32_t code_point;
    int32_t skip, bytes = space_prefix ? 0 : rq_utf8_read(at, end, &code_point, &skip);
    s->value[n++] = (uint32_t)(to - start);
    bool mark = space_prefix || *at == ' ';
    rq_copy(to, mark ? SPACE_MARK : at, mark ? 3 : (size_t)bytes);
    to += mark ? 3 : bytes;
    at += bytes;
  }
  s->count = n;
  s->value[n] = (uint32_t)(to - start);
  return to;
}

/* One symbol as the token it is, or byte by byte, or as the unknown token. */
static void put_symbol(const rq_tokenizer *t, const uint8_t *text, uint32_t bytes, rq_ids *out,
                       bool *after_unknown) {
  int32_t id = rq_token_find_one(t, text, bytes);
  uint8_t type = id < 0 ? RQ_TOKEN_UNUSED : t->types[id];
  bool unknown = false;
  if (type == RQ_TOKEN_NORMAL || type == RQ_TOKEN_USER_DEFINED) {
    rq_put_id(out, id);
  } else {
    for (uint32_t i = 0; i < bytes; i++) unknown |= t->byte_token[text[i]] < 0;
    for (uint32_t i = 0; i < bytes && !unknown; i++) rq_put_id(out, t->byte_token[text[i]]);
    if (unknown && !*after_unknown) rq_put_id(out, t->info.unknown); /* one for a run of them */
  }
  *after_unknown = unknown;
}

bool rq_spm_encode(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool space_prefix,
                   rq_ids *out, uint8_t *scratch, uint8_t *scratch_end) {
  uint64_t characters = space_prefix ? 1 : 0, escaped = 3 * characters;
  for (const uint8_t *at = text; at < end; at++) {
    characters += (*at & 0xC0) != 0x80;
    escaped += *at == ' ' ? 3 : 1;
  }
  if (escaped > (uint64_t)(scratch_end - scratch)) return false;
  rq_symbols s;
  if (!rq_symbols_take(&s, t, (int32_t)characters, scratch + escaped, scratch_end)) return false;
  s.text = scratch;
  escape_spaces(&s, text, end, space_prefix, scratch);
  rq_symbols_merge(&s);
  bool after_unknown = false;
  for (int32_t i = 0; i < s.count; i = s.next[i])
    put_symbol(t, scratch + s.value[i], s.value[s.next[i]] - s.value[i], out, &after_unknown);
  return true;
}

/* ---- byte-level BPE ---- */

/* The token that is the whole word, -1: none. */
static int32_t whole_word(const rq_tokenizer *t, const uint8_t *word, const uint8_t *end) {
  uint8_t coded[RQ_MAX_TOKEN_BYTES + 2];
  int32_t n = 0;
  for (; word < end; word++) {
    if (n > t->longest_token) return -1;
    n += rq_byte_to_unicode(*word, coded + n);
  }
  return rq_token_find_one(t, coded, (uint32_t)n);
}

static bool bpe_word(const rq_tokenizer *t, const uint8_t *word, const uint8_t *end, rq_ids *out,
                     uint8_t *scratch, uint8_t *scratch_end) {
  int32_t whole = t->ignore_merges ? whole_word(t, word, end) : -1;
  if (whole >= 0) {
    rq_put_id(out, whole);
    return true;
  }
  rq_symbols s;
  if (!rq_symbols_take(&s, t, (int32_t)(end - word), scratch, scratch_end)) return false;
  s.count = 0;
  for (; word < end; word++) { /* a byte that the vocabulary lacks is left out, and its neighbours meet */
    if (t->byte_token[*word] >= 0) s.value[s.count++] = (uint32_t)t->byte_token[*word];
  }
  rq_symbols_merge(&s);
  for (int32_t i = 0; i < s.count; i = s.next[i]) rq_put_id(out, (int32_t)s.value[i]);
  return true;
}

bool rq_bpe_encode(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, rq_ids *out,
                   uint8_t *scratch, uint8_t *scratch_end) {
  rq_words words = rq_words_of(t->pre, text, end);
  const uint8_t *word;
  while (rq_words_next(&words, &word))
    if (!bpe_word(t, word, words.at, out, scratch, scratch_end)) return false;
  return true;
}
