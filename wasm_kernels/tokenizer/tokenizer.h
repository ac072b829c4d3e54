/* tokenizer.h: an opened vocabulary and the parts of the tokenizer.
 * The vocabulary's texts stay in the file's bytes; here lie offsets, types and hash tables. Not here:
 * Unicode normalisation, which none of the supported vocabularies' reference encoders in GGUF do. */
#ifndef RQ_TOKENIZER_H
#define RQ_TOKENIZER_H
#include "../container/container.h"

enum {
  RQ_TOKENIZE_MAX_TEXT = 16777216, /* bytes of text in one call */
  RQ_MAX_TOKEN_BYTES = 4096,       /* of one token's text: bounds the work of a merge */
  RQ_MAX_PROBES = 1024,            /* of a hash table: a vocabulary made to collide is refused */
};

/* tokenizer.ggml.token_type */
enum {
  RQ_TOKEN_UNDEFINED = 0,
  RQ_TOKEN_NORMAL = 1,
  RQ_TOKEN_UNKNOWN = 2,
  RQ_TOKEN_CONTROL = 3,
  RQ_TOKEN_USER_DEFINED = 4,
  RQ_TOKEN_UNUSED = 5,
  RQ_TOKEN_BYTE = 6,
};

/* How text is cut into words before merging (BPE). */
enum { RQ_PRE_NONE, RQ_PRE_DEFAULT, RQ_PRE_GPT2, RQ_PRE_DIGITS, RQ_PRE_LLAMA3, RQ_PRE_QWEN2 };

typedef struct rq_bpe_merge {
  int32_t left, right, merged;
} rq_bpe_merge;

typedef struct rq_tokenizer {
  rq_tokenizer_info info;
  int32_t pre;           /* RQ_PRE_* */
  int32_t ignore_merges; /* BPE: a word that is a token is taken whole */
  int32_t longest_token; /* bytes */
  int32_t special_count;
  int32_t merge_count;
  uint32_t table_mask, merge_mask;
  const uint8_t *texts;      /* the token array as stored: u64 length, then text */
  const uint8_t *scores;     /* (vocab) f32 as stored, SPM only */
  uint32_t *starts;          /* (vocab) of each text, from `texts` */
  uint8_t *types;            /* (vocab) RQ_TOKEN_* */
  uint32_t *table;           /* (table_mask + 1) id + 1 by text, 0: empty */
  rq_bpe_merge *merges;      /* (merge_count) by rank */
  uint32_t *merge_table;     /* (merge_mask + 1) rank + 1 by (left, right), 0: empty */
  int32_t *specials;         /* (special_count) control, unknown and user-defined tokens, by text */
  int32_t special_from[257]; /* position in `specials` by first byte */
  int32_t byte_token[256];   /* id of a byte, -1: none */
} rq_tokenizer;

/* ---- vocabulary ---- */

static inline const uint8_t *rq_token_text(const rq_tokenizer *t, int32_t id, uint32_t *bytes) {
  const uint8_t *text = t->texts + t->starts[id];
  *bytes = (uint32_t)rq_load_u64(text - 8);
  return text;
}
/* Id of the token with the text a followed by b, -1: none. */
int32_t rq_token_find(const rq_tokenizer *t, const uint8_t *a, uint32_t a_bytes, const uint8_t *b,
                      uint32_t b_bytes);
int32_t rq_token_find_one(const rq_tokenizer *t, const uint8_t *text, uint32_t bytes);
/* Enters a token; RQ_E_TOKENIZER for a text that is there already or a vocabulary made to collide. */
int32_t rq_token_enter(rq_error *error, rq_tokenizer *t, int32_t id);
/* Rank of the merge of two tokens, -1: none. */
int32_t rq_merge_find(const rq_tokenizer *t, int32_t left, int32_t right);
int32_t rq_merge_enter(rq_error *error, rq_tokenizer *t, int32_t rank);
/* Slots of a hash table for `count` entries: a power of two, at most half full. */
uint64_t rq_table_slots(uint64_t count);

/* Sorts the special tokens by text and fills special_from. */
void rq_specials_sort(rq_tokenizer *t);
/* Longest special token that the text begins with, -1: none. User-defined tokens always count, control
 * and unknown tokens where `parse_special` is set. */
int32_t rq_special_match(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool parse_special);

/* ---- text ---- */

enum { RQ_CLASS_OTHER, RQ_CLASS_LETTER, RQ_CLASS_NUMBER, RQ_CLASS_PUNCTUATION, RQ_CLASS_SPACE };
int32_t rq_character_class(uint32_t code_point);
/* Length of the first character, 1 to 4; 0 and *skip > 0 where the first *skip bytes are none. */
int32_t rq_utf8_read(const uint8_t *text, const uint8_t *end, uint32_t *code_point, int32_t *skip);
/* GPT-2's reversible code of bytes as printable characters: writes 1 or 2 bytes of UTF-8. */
int32_t rq_byte_to_unicode(uint8_t byte, uint8_t out[2]);
/* The byte that a character stands for, -1: none. */
int32_t rq_unicode_to_byte(uint32_t code_point);
/* "<0x41>" gives 0x41, anything else -1. */
int32_t rq_byte_token_value(const uint8_t *text, uint32_t bytes);

/* Walks the words of valid UTF-8. */
typedef struct rq_words {
  const uint8_t *at, *end;
  const uint8_t *part_end;   /* of the piece that the first stage cut off */
  const uint8_t *word_end;   /* of the piece that the second stage cut off ("default" only) */
  const uint8_t *number_end; /* and the third */
  int32_t pre;
} rq_words;
rq_words rq_words_of(int32_t pre, const uint8_t *text, const uint8_t *end);
/* The next word is [*word, words->at); false at the end. */
bool rq_words_next(rq_words *words, const uint8_t **word);

/* ---- merging ---- */

/* A row of symbols of which neighbours are merged, best pair first, leftmost among equals. At most one
 * heap entry a symbol, for the pair that it begins. All arrays lie in the scratch memory. */
typedef struct rq_symbols {
  const rq_tokenizer *tokenizer;
  const uint8_t *text; /* SPM: of the whole row */
  int32_t count;
  int32_t heap_count;
  uint32_t *value;    /* (count + 1) SPM: offset in the text; BPE: token id */
  int32_t *previous;  /* (count) -1: none */
  int32_t *next;      /* (count) `count`: none */
  uint32_t *priority; /* (count) lower goes first */
  int32_t *heap;      /* (count) symbols */
  int32_t *where;     /* (count) place in the heap, -1: not there */
} rq_symbols;
/* Takes the arrays for `count` symbols from the scratch memory; false where they don't fit. */
bool rq_symbols_take(rq_symbols *symbols, const rq_tokenizer *t, int32_t count, uint8_t *scratch,
                     uint8_t *scratch_end);
void rq_symbols_merge(rq_symbols *symbols);

/* ---- output ---- */

typedef struct rq_ids {
  int32_t *ids; /* (capacity) */
  int32_t capacity;
  int32_t count; /* also counts what no longer fitted */
} rq_ids;
static inline void rq_put_id(rq_ids *out, int32_t id) {
  if (out->count < out->capacity) out->ids[out->count] = id;
  out->count++;
}
/* Encode text without special tokens; false where the scratch memory is too small. */
bool rq_spm_encode(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, bool space_prefix,
                   rq_ids *out, uint8_t *scratch, uint8_t *scratch_end);
bool rq_bpe_encode(const rq_tokenizer *t, const uint8_t *text, const uint8_t *end, rq_ids *out,
                   uint8_t *scratch, uint8_t *scratch_end);

#endif
