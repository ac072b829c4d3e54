// errors.js: every error that ruvq raises on purpose: what was expected, what was found, what to do.
// The class names and the codes are those of Python's ruvq.errors.
import { ERRORS } from "./abi.js";

/** @typedef {{subject?: string, expected?: string, actual?: string, hint?: string, code?: string}} Details */

/** Base of all errors. `subject`, `expected`, `actual`, `hint` and `code` are strings, perhaps empty. */
export class RuvqError extends Error {
  /** @param {string} message what went wrong, in one line @param {Details} [details] */
  constructor(message, { subject = "", expected = "", actual = "", hint = "", code = "" } = {}) {
    const found = [expected && `expected ${expected}`, actual && `found ${actual}`].filter(Boolean).join(", ");
    super(`${subject ? `${subject}: ` : ""}${message}${found ? ` (${found})` : ""}${hint ? `; ${hint}` : ""}`);
    this.name = new.target.name;
    /** The message without the details, which follow as fields. */
    this.summary = message;
    this.subject = subject;
    this.expected = expected;
    this.actual = actual;
    this.hint = hint;
    /** Name of the core's error code ("RQ_E_MAGIC"), empty for errors of the scripts. */
    this.code = code;
  }
}

/** An argument or option can't be used so. */
export class UsageError extends RuvqError {}
/** What was asked for doesn't fit into the memory there is. */
export class MemoryLimitError extends RuvqError {}
/** A file is damaged, hostile or of another kind. */
export class FileFormatError extends RuvqError {}
/** A file or module needs another version of ruvq. */
export class VersionError extends FileFormatError {}
/** Weights or activations hold NaN, infinity or a forbidden value. */
export class DataError extends RuvqError {}
/** A digest differs from the one recorded. */
export class IntegrityError extends RuvqError {}
/** A well-formed file holds a model that can't be run. */
export class ModelError extends RuvqError {}
/** A vocabulary is inconsistent, unknown or of another model. */
export class TokenizerError extends RuvqError {}
/** A chat template is missing, can't be rendered within its limits, or refuses the conversation. */
export class TemplateError extends RuvqError {}
/** The tokens don't fit into the model's context. */
export class ContextFullError extends RuvqError {}
/** A kernel gives wrong results on this machine. */
export class SelfTestError extends RuvqError {}
/** A local file can't be read. */
export class StorageError extends RuvqError {}
/** There is no room to keep a file. Loading goes on without keeping it. */
export class QuotaError extends StorageError {}
/** A download failed, was cut or gave something else than what was asked for. */
export class DownloadError extends RuvqError {}
/** This host lacks something that ruvq needs. */
export class UnsupportedError extends RuvqError {}

/** Loading was stopped through an AbortSignal. Its `name` is "AbortError", as fetch's is. */
export class AbortError extends RuvqError {
  /** @param {string} [what] */
  constructor(what = "loading") {
    super(`${what} was stopped`, { subject: what });
  }
}

const CLASSES = {
  RuvqError, UsageError, MemoryLimitError, FileFormatError, VersionError, DataError, IntegrityError, ModelError,
  TokenizerError, TemplateError, ContextFullError, SelfTestError, StorageError, QuotaError, DownloadError,
  UnsupportedError, AbortError,
};

/** The container's codes that are not listed here are FileFormatErrors. */
const CLASS_BY_CODE = {
  RQ_E_ARGUMENT: UsageError,
  RQ_E_TOKEN: UsageError,
  RQ_E_MEMORY: MemoryLimitError,
  RQ_E_VERSION: VersionError,
  RQ_E_LAYOUT: VersionError,
  RQ_E_DATA: DataError,
  RQ_E_NONFINITE: DataError,
  RQ_E_INTEGRITY: IntegrityError,
  RQ_E_HYPERPARAMETER: ModelError,
  RQ_E_TENSOR: ModelError,
  RQ_E_ARCHITECTURE: ModelError,
  RQ_E_TOKENIZER: TokenizerError,
  RQ_E_CONTEXT: ContextFullError,
  RQ_E_SELF_TEST: SelfTestError,
};

/** @param {number} code negative @param {Details} [details] @returns {RuvqError} */
export function errorFromCode(code, details = {}) {
  const [name, meaning] = ERRORS[code] ?? [`error ${code}`, `the core returned the unknown code ${code}`];
  return new (CLASS_BY_CODE[name] ?? FileFormatError)(meaning, { ...details, code: name });
}

/** An error as a plain object that can be posted between threads. @param {unknown} error */
export function errorToPlain(error) {
  if (!(error instanceof RuvqError)) {
    return { name: "RuvqError", summary: String(error?.message ?? error), subject: "", expected: "", actual: "",
      hint: "this is a defect of ruvq, please report it", code: "", stack: String(error?.stack ?? "") };
  }
  const { name, summary, subject, expected, actual, hint, code, stack } = error;
  return { name, summary, subject, expected, actual, hint, code, stack };
}

/** The reverse of errorToPlain. @returns {RuvqError} */
export function errorFromPlain(plain) {
  const error = Object.create((CLASSES[plain.name] ?? RuvqError).prototype);
  const made = new RuvqError(plain.summary, plain);
  Object.defineProperty(error, "stack", { value: plain.stack || made.stack, configurable: true, writable: true });
  Object.defineProperty(error, "message", { value: made.message, configurable: true, writable: true });
  return Object.assign(error, { ...made, name: plain.name });
}

/** "12.3 MB", for messages. */
export function megabytes(bytes) {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
}

/** The first bytes of something unexpected, for a message. @param {Uint8Array} bytes */
export function describeStart(bytes) {
  if (bytes.length === 0) return "nothing";
  const start = Array.from(bytes.subarray(0, 16));
  const text = start.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : "·")).join("");
  return `bytes that begin with "${text}"`;
}
