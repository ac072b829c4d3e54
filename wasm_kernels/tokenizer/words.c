/* words.c: cuts text into words before merging, as the regular expressions of the pre-tokenizers do.
 * Written as plain scanners: linear in the text, no backtracking. A regular expression applied in
 * stages (one cuts, the next cuts the pieces) sees the end of a piece as the end of the text. */
#include "tokenizer.h"

typedef const uint8_t *cursor;

/* Class of the character at `at`, which is before `end`, and where it ends. */
static int32_t class_at(cursor at, cursor end, cursor *after) {
  uint32_t code_point = 0;
  int32_t skip, n = rq_utf8_read(at, end, &code_point, &skip);
  *after = at + (n ? n : skip);
  return n ? rq_character_class(code_point) : RQ_CLASS_OTHER;
}

/* White space, letter, number, or anything else, where punctuation is no class of its own. */
static int32_t kind_at(cursor at, cursor end, cursor *after) {
  int32_t found = class_at(at, end, after);
  return found == RQ_CLASS_PUNCTUATION ? RQ_CLASS_OTHER : found;
}

/* End of the run of characters of one kind. */
static cursor run_end(cursor at, cursor end, int32_t kind) {
  cursor after;
  while (at < end && kind_at(at, end, &after) == kind) at = after;
  return at;
}

/* 's 't 're 've 'm 'll 'd: end of the contraction that begins at `at`, or `at`. */
static cursor contraction_end(cursor at, cursor end, bool any_case) {
  if (end - at < 2 || at[0] != '\'') return at;
  uint8_t fold = any_case ? 0x20 : 0;
  uint8_t first = at[1] | fold;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if (end - at < 3) return at;
  uint8_t second = at[2] | fold;
  bool two =
      (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
  return two ? at + 3 : at;
}

/* \s+(?!\S)|\s+ : all the white space but its last character where a word follows. */
static cursor space_end(cursor at, cursor end) {
  cursor run = run_end(at, end, RQ_CLASS_SPACE);
  if (run == end) return run;
  cursor last = run - 1;
  while ((*last & 0xC0) == 0x80) last--;
  return last > at ? last : run;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static cursor gpt2_end(cursor at, cursor end) {
  cursor contraction = contraction_end(at, end, false);
  if (contraction > at) return contraction;
  cursor from = *at == ' ' && at + 1 < end ? at + 1 : at, after;
  int32_t kind = kind_at(from, end, &after);
  return kind == RQ_CLASS_SPACE ? space_end(at, end) : run_end(after, end, kind);
}

static bool is_line_break(uint8_t c) { return c == '\r' || c == '\n'; }

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static cursor space_or_lines_end(cursor at, cursor end) {
  cursor last = run_end(at, end, RQ_CLASS_SPACE);
  while (last > at && !is_line_break(last[-1])) last--;
  return last > at ? last : space_end(at, end);
}

static cursor digits_end(cursor at, cursor end, int32_t most) {
  cursor after;
  for (int32_t i = 0; i < most && at < end && kind_at(at, end, &after) == RQ_CLASS_NUMBER; i++) at = after;
  return at;
}

/* '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,most}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ */
static cursor llama3_end(cursor at, cursor end, int32_t most_digits) {
  cursor contraction = contraction_end(at, end, true);
  if (contraction > at) return contraction;
  cursor after, second;
  int32_t kind = kind_at(at, end, &after);
  if (kind == RQ_CLASS_LETTER) return run_end(after, end, RQ_CLASS_LETTER);
  if (kind == RQ_CLASS_NUMBER) return digits_end(at, end, most_digits);
  int32_t following = after < end ? kind_at(after, end, &second) : RQ_CLASS_SPACE;
  if (!is_line_break(*at) && following == RQ_CLASS_LETTER) return run_end(second, end, RQ_CLASS_LETTER);
  if (kind == RQ_CLASS_OTHER || (*at == ' ' && following == RQ_CLASS_OTHER)) {
    cursor run = run_end(after, end, RQ_CLASS_OTHER);
    while (run < end && is_line_break(*run)) run++;
    return run;
  }
  return space_or_lines_end(at, end);
}

/* ---- pre-tokenizers of several stages ---- */

/* First stage \p{N}: every number character by itself. */
static cursor single_digits_part(cursor at, cursor end) {
  cursor after;
  if (kind_at(at, end, &after) == RQ_CLASS_NUMBER) return after;
  while (at < end && kind_at(at, end, &after) != RQ_CLASS_NUMBER) at = after;
  return at;
}

/* [\p{P}$+<=>^~|] */
static bool is_mark(cursor at, cursor end, cursor *after) {
  if (class_at(at, end, after) == RQ_CLASS_PUNCTUATION) return true;
  uint8_t c = *at;
  return c == '$' || c == '+' || (c >= '<' && c <= '>') || c == '^' || c == '~' || c == '|';
}

/* First stage [\p{P}$+<=>^~|]+ : marks apart from everything else. */
static cursor marks_part(cursor at, cursor end) {
  cursor after;
  bool marks = is_mark(at, end, &after);
  at = after;
  while (at < end && is_mark(at, end, &after) == marks) at = after;
  return at;
}

/* Third stage \p{N}+ : numbers apart from everything else. */
static cursor numbers_part(cursor at, cursor end) {
  cursor after;
  bool number = kind_at(at, end, &after) == RQ_CLASS_NUMBER;
  at = after;
  while (at < end && (kind_at(at, end, &after) == RQ_CLASS_NUMBER) == number) at = after;
  return at;
}

static bool three_digits(cursor at, cursor end) {
  if (end - at < 3) return false;
  for (int32_t i = 0; i < 3; i++)
    if (at[i] < '0' || at[i] > '9') return false;
  return true;
}

/* Fourth stage [0-9][0-9][0-9]. */
static cursor three_digits_part(cursor at, cursor end) {
  if (three_digits(at, end)) return at + 3;
  while (at < end && !three_digits(at, end)) at++;
  return at;
}

/* ---- */

rq_words rq_words_of(int32_t pre, const uint8_t *text, const uint8_t *end) {
  rq_words words = {text, end, text, text, text, pre};
  return words;
}

static cursor default_end(rq_words *w) {
  if (w->at == w->part_end) w->part_end = marks_part(w->at, w->end);
  if (w->at == w->word_end) w->word_end = gpt2_end(w->at, w->part_end);
  if (w->at == w->number_end) w->number_end = numbers_part(w->at, w->word_end);
  return three_digits_part(w->at, w->number_end);
}

static cursor digits_pre_end(rq_words *w) {
  if (w->at == w->part_end) w->part_end = single_digits_part(w->at, w->end);
  return gpt2_end(w->at, w->part_end);
}

bool rq_words_next(rq_words *words, const uint8_t **word) {
  *word = words->at;
  if (words->at == words->end) return false;
  switch (words->pre) {
    case RQ_PRE_GPT2: words->at = gpt2_end(words->at, words->end); break;
    case RQ_PRE_DIGITS: words->at = digits_pre_end(words); break;
    case RQ_PRE_LLAMA3: words->at = llama3_end(words->at, words->end, 3); break;
    case RQ_PRE_QWEN2: words->at = llama3_end(words->at, words->end, 1); break;
    default: words->at = default_end(words); break;
  }
  return true;
}
