// template-values.js: values of chat templates as Python prints, compares and strips them; the package that renders
// templates in JavaScript does so in JavaScript's way.
import { TemplateError } from "./errors.js";

/* eslint no-control-regex: "off" -- control characters are white space too */
// what Python's str.strip() takes for white space
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

function edges(text, chars) {
  const drop = chars === undefined || chars === null ? (c) => SPACE.test(c) : (c) => chars.includes(c);
  const characters = Array.from(text);
  let first = 0;
  let end = characters.length;
  while (first < end && drop(characters[first])) first += 1;
  const left = characters.slice(first).join("");
  while (end > first && drop(characters[end - 1])) end -= 1;
  return { left, right: characters.slice(0, end).join(""), both: characters.slice(first, end).join("") };
}

function strips(side) {
  const method = function strip(chars) {
    return edges(String(this), chars)[side];
  };
  return Object.assign(method, { set: true }); // its argument is a set of characters
}

/** Methods of texts that the package lacks, or has without their arguments. `this` is the text. */
export const STRING_METHODS = {
  strip: strips("both"), lstrip: strips("left"), rstrip: strips("right"),
  removeprefix(prefix) { return this.startsWith(prefix) ? this.slice(prefix.length) : String(this); },
  removesuffix(suffix) { return suffix && this.endsWith(suffix) ? this.slice(0, -suffix.length) : String(this); },
  capitalize() { return this.slice(0, 1).toUpperCase() + this.slice(1).toLowerCase(); },
  find(part) { return this.indexOf(part); },
  rfind(part) { return this.lastIndexOf(part); },
  count(part) { return part ? this.split(part).length - 1 : this.length + 1; },
  join(parts) { return parts.join(this); },
  splitlines() {
    const lines = this.split(/\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/);
    if (lines.at(-1) === "") lines.pop();
    return lines;
  },
  isdigit() { return /^\d+$/.test(this); },
  isspace() { return this.length > 0 && Array.from(this).every((c) => SPACE.test(c)); },
};

/** A value as Python's str() has it. @throws {TemplateError} for one without a text */
export function printed(value) {
  return value.type === "StringValue" ? value.value : shown(value);
}

function shown(value) {
  switch (value.type) {
    case "UndefinedValue": return "";
    case "NullValue": return "None";
    case "BooleanValue": return value.value ? "True" : "False";
    case "IntegerValue": case "FloatValue": return value.toString();
    case "StringValue": return quoted(value.value);
    case "ArrayValue": return `[${value.value.map(shown).join(", ")}]`;
    case "TupleValue": return `(${value.value.map(shown).join(", ")}${value.value.length === 1 ? "," : ""})`;
    case "ObjectValue":
      return `{${Array.from(value.value, ([key, inner]) => `${quoted(key)}: ${shown(inner)}`).join(", ")}}`;
    default:
      throw new TemplateError("the template prints something that has no text", {
        expected: "texts, numbers, lists and dicts", actual: value.type,
      });
  }
}

/** Python's repr of a text, of the characters that are likely in one. */
function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t");
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

const NUMBERS = ["IntegerValue", "FloatValue", "BooleanValue"];
const LISTS = ["ArrayValue", "TupleValue"];

/** Python's ==. @returns {boolean} */
export function equal(left, right) {
  if (NUMBERS.includes(left.type) && NUMBERS.includes(right.type)) return Number(left.value) === Number(right.value);
  if (left.type !== right.type) return false;
  if (LISTS.includes(left.type)) {
    return left.value.length === right.value.length && left.value.every((v, i) => equal(v, right.value[i]));
  }
  if (left.type === "ObjectValue") {
    const [a, b] = [left.value, right.value];
    return a.size === b.size && Array.from(a).every(([key, v]) => b.has(key) && equal(v, b.get(key)));
  }
  return left.type === "NullValue" || left.type === "UndefinedValue" || left.value === right.value;
}
