/* tokenize.c: the public calls: text to ids, special tokens included, and ids to bytes. */
#include "tokenizer.h"

/* A byte of text may become a word of its own of three bytes (U+FFFD), each a symbol of six numbers. */
enum { SCRATCH_PER_BYTE = 3 + 3 * 6 * 4, SCRATCH_FIXED = 256 };

RQ_EXPORT int32_t rq_tokenize_scratch(int32_t text_bytes) {
  if (text_bytes < 0) return RQ_E_ARGUMENT;
  if (text_bytes > RQ_TOKENIZE_MAX_TEXT) return RQ_E_LIMIT;
  return text_bytes * SCRATCH_PER_BYTE + SCRATCH_FIXED;
}

/* Copies text with U+FFFD for what is no UTF-8; returns its end, NULL where it doesn't fit. */
static uint8_t *clean_text(const uint8_t *text, int32_t bytes, uint8_t *to, const uint8_t *to_end) {
  static const uint8_t REPLACEMENT[3] = {0xEF, 0xBF, 0xBD};
  const uint8_t *end = text + bytes;
  while (text < end) {
    uint32_t code_point;
    int32_t skip, n = rq_utf8_read(text, end, &code_point, &skip);
    int32_t written = n ? n : 3;
    if (to_end - to < written) return NULL;
    rq_copy(to, n ? text : REPLACEMENT, (size_t)written);
    to += written;
    text += n ? n : skip;
  }
  return to;
}

static int32_t too_small(rq_error *error, const char *what, int32_t needed) {
  rq_fail(error, RQ_E_MEMORY, "%s", what);
  if (needed) rq_expected(error, "room for %d ids", needed);
  rq_hint(error, "give what rq_tokenize_scratch says; 4 ids for each byte of text and 5 more always suffice");
  return RQ_E_MEMORY;
}

/* Text between special tokens. */
static bool encode_text(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool after_special,
                        rq_ids *out, uint8_t *scratch, uint8_t *scratch_end) {
  if (text == end) return true;
  if (t->info.kind == RQ_TOKENIZER_BPE) return rq_bpe_encode(t, text, end, out, scratch, scratch_end);
  return rq_spm_encode(t, text, end, after_special && t->info.add_space_prefix, out, scratch, scratch_end);
}

/* Special tokens are found first, the longest at the leftmost place. */
static bool encode_all(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool parse_special,
                       rq_ids *out, uint8_t *scratch, uint8_t *scratch_end) {
  const uint8_t *from = text;
  bool after_special = true; /* the beginning counts as such */
  for (const uint8_t *at = text; at < end;) {
    int32_t id = rq_special_match(t, at, end, parse_special);
    if (id < 0) {
      at++;
      continue;
    }
    if (!encode_text(t, from, at, after_special, out, scratch, scratch_end)) return false;
    rq_put_id(out, id);
    after_special = true;
    uint32_t bytes;
    rq_token_text(t, id, &bytes);
    from = at = at + bytes;
  }
  return encode_text(t, from, end, after_special, out, scratch, scratch_end);
}

RQ_EXPORT int32_t rq_tokenize(rq_error *error, const void *tokenizer, const uint8_t *text, int32_t text_bytes,
                              int32_t flags, int32_t *ids, int32_t ids_capacity, void *scratch,
                              void *scratch_end) {
  const rq_tokenizer *t = tokenizer;
  if (text_bytes < 0 || text_bytes > RQ_TOKENIZE_MAX_TEXT || ids_capacity < 0) {
    rq_fail(error, RQ_E_ARGUMENT, "text");
    rq_expected(error, "0 to %d bytes", (int32_t)RQ_TOKENIZE_MAX_TEXT);
    rq_actual(error, "%d bytes, room for %d ids", text_bytes, ids_capacity);
    rq_hint(error, "cut the text at a line end and tokenize the pieces");
    return RQ_E_ARGUMENT;
  }
  uint8_t *clean = scratch, *end = scratch_end;
  uint8_t *rest = clean_text(text, text_bytes, clean, end);
  if (!rest) return too_small(error, "scratch memory", 0);
  rq_ids out = {ids, ids_capacity, 0};
  if (flags & RQ_TOKENIZE_SPECIAL && t->info.add_bos) rq_put_id(&out, t->info.bos);
  if (!encode_all(t, clean, rest, (flags & RQ_TOKENIZE_PARSE_SPECIAL) != 0, &out, rest, end))
    return too_small(error, "scratch memory", 0);
  if (flags & RQ_TOKENIZE_SPECIAL && t->info.add_eos) rq_put_id(&out, t->info.eos);
  return out.count <= ids_capacity ? out.count : too_small(error, "ids", out.count);
}

/* ---- ids to text ---- */

typedef struct bytes_out {
  uint8_t *to;
  int32_t capacity, count; /* count also of what no longer fitted */
} bytes_out;

static void put_byte(bytes_out *out, uint8_t byte) {
  if (out->count < out->capacity) out->to[out->count] = byte;
  out->count++;
}

static void put_bytes(bytes_out *out, const uint8_t *text, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; i++) put_byte(out, text[i]);
}

static void put_spm_text(bytes_out *out, const uint8_t *text, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes;) {
    bool mark = bytes - i >= 3 && text[i] == 0xE2 && text[i + 1] == 0x96 && text[i + 2] == 0x81;
    put_byte(out, mark ? ' ' : text[i]);
    i += mark ? 3 : 1;
  }
}

static void put_bpe_text(bytes_out *out, const uint8_t *text, uint32_t bytes) {
  for (const uint8_t *at = text, *end = text + bytes; at < end;) {
    uint32_t code_point = 0;
    int32_t skip, n = rq_utf8_read(at, end, &code_point, &skip);
    int32_t byte = n ? rq_unicode_to_byte(code_point) : -1;
    if (!n) n = skip;
    if (byte >= 0)
      put_byte(out, (uint8_t)byte);
    else
      put_bytes(out, at, (uint32_t)n); /* an added token that was never coded: as it is */
    at += n;
  }
}

static void put_token(const rq_tokenizer *t, int32_t id, bool special, bytes_out *out) {
  uint32_t bytes;
  const uint8_t *text = rq_token_text(t, id, &bytes);
  switch (t->types[id]) {
    case RQ_TOKEN_NORMAL:
      if (t->info.kind == RQ_TOKENIZER_SPM)
        put_spm_text(out, text, bytes);
      else
        put_bpe_text(out, text, bytes);
      break;
    case RQ_TOKEN_BYTE: put_byte(out, (uint8_t)rq_byte_token_value(text, bytes)); break;
    case RQ_TOKEN_USER_DEFINED: put_bytes(out, text, bytes); break;
    default: /* control, unknown, unused */
      if (special) put_bytes(out, text, bytes);
      break;
  }
}

RQ_EXPORT int32_t rq_detokenize(rq_error *error, const void *tokenizer, int32_t id, int32_t special,
                                uint8_t *out, int32_t out_capacity) {
  const rq_tokenizer *t = tokenizer;
  if (id < 0 || id >= t->info.vocab_size) {
    rq_fail(error, RQ_E_TOKEN, "token id");
    rq_expected(error, "0 to %d", t->info.vocab_size - 1);
    rq_actual(error, "%d", id);
    rq_hint(error, "the ids are of another vocabulary");
    return RQ_E_TOKEN;
  }
  bytes_out bytes = {out, out_capacity, 0};
  put_token(t, id, special != 0, &bytes);
  if (bytes.count <= out_capacity) return bytes.count;
  rq_fail(error, RQ_E_MEMORY, "token %d", id);
  rq_expected(error, "room for %d bytes", bytes.count);
  rq_actual(error, "%d", out_capacity);
  rq_hint(error, "no token has more than %d bytes", (int32_t)RQ_MAX_TOKEN_BYTES);
  return RQ_E_MEMORY;
}
