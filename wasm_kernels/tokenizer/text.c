/* text.c: characters: UTF-8, Unicode classes, and the printable code of bytes that GPT-2 introduced. */
#include "tokenizer.h"
#include "unicode_table.h"

int32_t rq_character_class(uint32_t code_point) {
  int32_t low = 0, high = RQ_COUNT(rq_unicode_ranges);
  while (high - low > 1) { /* the range that begins at `low` holds the code point */
    int32_t middle = low + (high - low) / 2;
    if (rq_unicode_ranges[middle] >> RQ_UNICODE_CLASS_BITS <= code_point)
      low = middle;
    else
      high = middle;
  }
  return (int32_t)(rq_unicode_ranges[low] & ((1u << RQ_UNICODE_CLASS_BITS) - 1));
}

/* Unicode's table 3-7: which second bytes a leading byte allows. */
static bool second_byte_fits(uint8_t first, uint8_t second) {
  uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  return second >= low && second <= high;
}

int32_t rq_utf8_read(const uint8_t *text, const uint8_t *end, uint32_t *code_point, int32_t *skip) {
  uint8_t c = text[0];
  *skip = 1;
  if (c < 0x80) {
    *code_point = c;
    return 1;
  }
  if (c < 0xC2 || c > 0xF4) return 0;
  int32_t n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
  uint32_t value = c & (0xFFu >> (n + 1));
  for (int32_t i = 1; i < n; i++) {
    if (text + i >= end) return 0;
    bool fits = i == 1 ? second_byte_fits(c, text[1]) : (text[i] & 0xC0) == 0x80;
    if (!fits) return 0;
    value = value << 6 | (text[i] & 0x3F);
    *skip = i + 1; /* a character that breaks off here is replaced as one */
  }
  *code_point = value;
  return n;
}

/* Printable bytes stand for themselves; the other 68 are numbered from U+0100 on, in order. */
static bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

int32_t rq_byte_to_unicode(uint8_t byte, uint8_t out[2]) {
  uint32_t c = byte;
  if (!stands_for_itself(c)) { /* 0x00-0x20, 0x7F-0xA0, 0xAD */
    uint32_t index = byte <= 0x20 ? c : byte <= 0xA0 ? c - 0x7F + 0x21 : 0x43;
    c = 0x100 + index;
  }
  if (c < 0x80) {
    out[0] = (uint8_t)c;
    return 1;
  }
  out[0] = (uint8_t)(0xC0 | c >> 6);
  out[1] = (uint8_t)(0x80 | (c & 0x3F));
  return 2;
}

int32_t rq_unicode_to_byte(uint32_t code_point) {
  if (code_point < 0x100) return stands_for_itself(code_point) ? (int32_t)code_point : -1;
  uint32_t index = code_point - 0x100;
  if (index <= 0x20) return (int32_t)index;
  if (index <= 0x42) return (int32_t)(index - 0x21 + 0x7F);
  return index == 0x43 ? 0xAD : -1;
}

static int32_t hex_digit(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

int32_t rq_byte_token_value(const uint8_t *text, uint32_t bytes) {
  if (bytes != 6 || !rq_equal(text, "<0x", 3) || text[5] != '>') return -1;
  int32_t high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}
