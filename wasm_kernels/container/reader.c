/* reader.c: checked reads of the parser, name hashing, and text validation. */
#include "parse.h"

uint32_t rq_load_u32(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t rq_load_u64(const uint8_t *at) {
  return (uint64_t)rq_load_u32(at) | (uint64_t)rq_load_u32(at + 4) << 32;
}

float rq_load_f32(const uint8_t *at) {
  uint32_t bits = rq_load_u32(at);
  float value;
  rq_copy(&value, &bits, sizeof value);
  return value;
}

int32_t rq_reader_need(rq_reader *reader, uint64_t bytes, const char *what) {
  uint64_t left = reader->file - reader->at;
  if (bytes > left) {
    int32_t code = rq_fail(reader->error, RQ_E_TRUNCATED, "%s", what);
    rq_expected(reader->error, "%U bytes at offset %U", bytes, reader->at);
    rq_actual(reader->error, "the file ends after %U bytes", reader->file);
    rq_hint(reader->error, "the file was cut short or is damaged: download or copy it again");
    return code;
  }
  return bytes > reader->present - reader->at ? RQ_MORE : RQ_OK;
}

int32_t rq_reader_u32(rq_reader *reader, uint32_t *out, const char *what) {
  RQ_TRY(rq_reader_need(reader, 4, what));
  *out = rq_load_u32(reader->data + reader->at);
  reader->at += 4;
  return RQ_OK;
}

int32_t rq_reader_u64(rq_reader *reader, uint64_t *out, const char *what) {
  RQ_TRY(rq_reader_need(reader, 8, what));
  *out = rq_load_u64(reader->data + reader->at);
  reader->at += 8;
  return RQ_OK;
}

/* FNV-1a with a final mix, so that the low bits depend on every byte. */
uint32_t rq_name_hash(const uint8_t *name, uint64_t bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (uint64_t i = 0; i < bytes; i++) h = (h ^ name[i]) * 0x100000001b3u;
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdu;
  return (uint32_t)(h >> 32);
}

uint32_t rq_hash_slots(uint32_t count) {
  uint32_t slots = 4;
  while (slots < 2 * count) slots *= 2;
  return slots;
}

/* The well-formed sequences of Unicode's table 3-7: no overlong forms, no surrogates, nothing past
 * U+10FFFF. Length of the sequence at `text`, 0 when it is malformed. */
static uint64_t sequence_length(const uint8_t *text, uint64_t left) {
  uint8_t c = text[0];
  if (c < 0xC2 || c > 0xF4) return 0;
  uint64_t n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
  if (n > left) return 0;
  uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
  uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
  if (text[1] < low || text[1] > high) return 0;
  for (uint64_t i = 2; i < n; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  return n;
}

bool rq_text_valid(const uint8_t *text, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes;) {
    if (text[i] == 0) return false;
    if (text[i] < 0x80) {
      i++;
      continue;
    }
    uint64_t n = sequence_length(text + i, bytes - i);
    if (n == 0) return false;
    i += n;
  }
  return true;
}
