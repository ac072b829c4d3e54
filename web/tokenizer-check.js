// tokenizer-check.js: do the texts that a file records still give the tokens it was made with? The converter
// writes them (Python's ruvq.runtime.tokenizer_check); a tokenizer that is slightly off ruins answers silently.
import { TokenizerError } from "./errors.js";

const KEY = "ruvq.tokenizer.tests";
const MAX_CHARACTERS = 64 * 1024;

/**
 * @param {import("./gguf.js").GgufFile} file @param {import("./tokenizer.js").Tokenizer} tokenizer
 * @throws {TokenizerError} other tokens, or a record that can't be read
 */
export function checkTokenizer(file, tokenizer) {
  const recorded = file.metadata(KEY);
  if (recorded === undefined) return;
  for (const [text, ids] of parse(recorded)) {
    const found = tokenizer.encode(text);
    if (found.length === ids.length && found.every((id, i) => id === ids[i])) continue;
    throw new TokenizerError("a text gives other tokens than when the file was made", {
      subject: `${KEY}: ${JSON.stringify(text.slice(0, 40))}`, expected: ids.join(" ").slice(0, 200),
      actual: found.join(" ").slice(0, 200), hint: "convert the model again with this version of ruvq",
    });
  }
}

function parse(recorded) {
  try {
    if (typeof recorded !== "string" || recorded.length > MAX_CHARACTERS) throw new Error("too long, or no text");
    const tests = JSON.parse(recorded);
    const good = tests.every(([text, ids]) => typeof text === "string" && ids.every(Number.isInteger));
    if (!good) throw new Error("entries of another kind");
    return tests;
  } catch (error) {
    throw new TokenizerError("the tokenizer's test strings can't be read", {
      subject: KEY, expected: `JSON, a list of texts with their ids, at most ${MAX_CHARACTERS} characters`,
      actual: String(error.message).slice(0, 100),
    });
  }
}
