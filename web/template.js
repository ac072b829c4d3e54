// template.js: renders a chat template by a stranger with @huggingface/jinja (jinja.js, which the build copies here),
// bounded in steps, in text and in the size of values, as Python's sandbox is. No clock: the same limits everywhere.
//
// The package's interpreter is a tree walker whose methods are replaced below where a value can grow by more than
// its parts, or where work isn't one step.
import { Environment, Interpreter, parse, tokenize } from "./jinja.js";
import { TemplateError } from "./errors.js";
import { STRING_METHODS, equal, printed } from "./template-values.js";

export const MAX_TEMPLATE = 64 * 1024; // characters
const MAX_VALUE = 2 * 2 ** 20; // weight of a value: its characters, and ELEMENT for every element
const MAX_WORK = 64 * 2 ** 20; // weight of all that is made or looked at, and STEP for each step
const STEP = 64;
const ELEMENT = 32;
const LOOP_STEPS = 8; // of one item of a loop, which gets a scope of its own
const MAX_DEPTH = 64;
const MAX_RANGE = 10_000;
const MAX_SMALL = 64; // an indentation

const TEXT = typeOf("");
const ARRAY = typeOf([]);
const BOOLEAN = typeOf(true);
const DICT = typeOf({});
const NOTHING = new (typeOf(undefined))();
const FUNCTION = typeOf(() => {});
const NAMESPACE = "NamespaceValue";
const RIGHT = "a template that fits this conversation";
/** Statements that write nothing. */
const SILENT = ["Set", "Macro", "Comment"];
/** A node whose value is known. */
const known = (value) => ({ type: "Known", value });
const CONTAINERS = ["ArrayValue", "TupleValue", "ObjectValue", "KeywordArgumentsValue", NAMESPACE];
/** Expressions whose value is new; all others give one that was weighed before. */
const MAKERS = [
  "ArrayLiteral", "TupleLiteral", "ObjectLiteral", "BinaryExpression", "FilterExpression", "FilterStatement",
  "CallExpression",
];

function typeOf(value) {
  return new Environment().set("x", value).constructor;
}

/**
 * @param {string} source Jinja @param {Record<string, unknown>} variables plain values
 * @returns {string} @throws {TemplateError}
 */
export function renderTemplate(source, variables) {
  if (source.length > MAX_TEMPLATE) {
    throw limit("the template is too long", `at most ${MAX_TEMPLATE} characters`, `${source.length}`);
  }
  try {
    const options = { lstrip_blocks: true, trim_blocks: true };
    const program = parse(tokenize(withoutMarks(source), options));
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) environment.set(name, value);
    return new Metered(environment).run(program).value;
  } catch (error) {
    throw asTemplateError(error);
  }
}

/** `{% generation %}` marks what an assistant wrote, for training: a block without other effect. */
function withoutMarks(source) {
  return source
    .replace(/\{%([-+]?)\s*generation\s*([-+]?)%\}/g, "{%$1 if true $2%}")
    .replace(/\{%([-+]?)\s*endgeneration\s*([-+]?)%\}/g, "{%$1 endif $2%}");
}

function asTemplateError(error) {
  if (error instanceof TemplateError) return error;
  if (error instanceof RangeError || error?.name === "InternalError") { // the stack, or a text beyond what can be
    return limit("the template nests too deeply", "a template of ordinary depth");
  }
  return limit("the template fails", RIGHT, String(error?.message ?? error).slice(0, 300));
}

function limit(message, expected, actual = "more") {
  return new TemplateError(message, { expected, actual, hint: "use another template, with the option `template`" });
}

// ---- what templates may call, as transformers has it ----

const GLOBALS = {
  true: true, false: false, none: null, True: true, False: false, None: null,
  range: boundedRange,
  raise_exception: (message = "") => {
    throw new TemplateError("the template refuses this conversation", {
      expected: "messages that it takes", actual: String(message).slice(0, 1000),
    });
  },
  strftime_now: (format) => strftime(new Date(), String(format)),
};

function boundedRange(start, stop, step = 1) {
  const [first, end] = stop === undefined ? [0, start] : [start, stop];
  const count = Math.max(0, Math.ceil((end - first) / step));
  if (!(count <= MAX_RANGE)) {
    throw limit("a range of the template is too long", `at most ${MAX_RANGE} numbers`, String(count));
  }
  return Array.from({ length: count }, (_, i) => first + i * step);
}

/** Python's strftime in the C locale, of the directives that dates take. */
function strftime(date, format) {
  const two = (number) => String(number).padStart(2, "0");
  const name = (options) => new Intl.DateTimeFormat("en-US", options).format(date);
  const parts = {
    Y: () => String(date.getFullYear()), m: () => two(date.getMonth() + 1), d: () => two(date.getDate()),
    y: () => two(date.getFullYear() % 100), H: () => two(date.getHours()), M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()), I: () => two(date.getHours() % 12 || 12),
    p: () => (date.getHours() < 12 ? "AM" : "PM"), B: () => name({ month: "long" }), b: () => name({ month: "short" }),
    A: () => name({ weekday: "long" }), a: () => name({ weekday: "short" }), "%": () => "%",
  };
  if (format.length > 100) throw limit("a date format of the template is too long", "100 characters");
  return format.replace(/%([a-zA-Z%])/g, (all, letter) => parts[letter]?.() ?? all);
}

// ---- the interpreter, metered ----

/** `{% break %}` or `{% continue %}` on its way to its loop. */
class Jump {
  constructor(kind) {
    this.kind = kind;
    this.text = "";
  }
}

class Metered extends Interpreter {
  constructor(environment) {
    super(environment);
    this._work = 0;
    this._known = new WeakMap(); // container → {weight, height}; templates can't change one
  }

  _spend(weight) {
    if (weight > MAX_VALUE) throw limit("a value of the template is too large", `at most ${MAX_VALUE} characters`);
    this._work += STEP + weight;
    if (this._work > MAX_WORK) throw limit("the template does too much", `at most ${MAX_WORK / STEP} steps`);
  }

  /** Every node passes here. */
  evaluate(statement, environment) {
    this._spend(0);
    if (statement?.type === "Known") return statement.value;
    if (statement?.type === "Break" || statement?.type === "Continue") throw new Jump(statement.type);
    const value = super.evaluate(statement, environment);
    if (value instanceof TEXT) this._spend(value.value.length / 4);
    else if (MAKERS.includes(statement?.type)) this._spend(Math.min(MAX_VALUE, this._weigh(value)) / 32);
    return value;
  }

  /** Weight of a value; of a container once. Namespaces may change, so nothing may hold one. */
  _weigh(value) {
    return this._measure(value).weight;
  }

  _measure(value) {
    if (value instanceof TEXT) return { weight: value.value.length, height: 0 };
    if (!CONTAINERS.includes(value?.type)) return { weight: 1, height: 0 };
    const before = this._known.get(value);
    if (before) return before;
    const parts = value instanceof ARRAY ? value.value : [...value.value.entries()].flatMap(([k, v]) => [k, v]);
    this._spend(Math.min(MAX_VALUE, ELEMENT * parts.length));
    const measured = { weight: 0, height: 1 };
    for (const part of parts) {
      if (part?.type === NAMESPACE) throw limit("the template keeps a namespace in another value", "none", "one");
      const inner = typeof part === "string" ? { weight: part.length, height: 0 } : this._measure(part);
      measured.weight += ELEMENT + inner.weight;
      measured.height = Math.max(measured.height, 1 + inner.height);
    }
    if (measured.weight > MAX_VALUE) this._spend(measured.weight);
    if (measured.height > MAX_DEPTH) throw limit("values of the template lie too deep in each other", `${MAX_DEPTH}`);
    if (value.type !== NAMESPACE) this._known.set(value, measured);
    return measured;
  }

  evaluateSet(node, environment) {
    const result = super.evaluateSet(node, environment);
    if (node.assignee.type === "MemberExpression") this._weigh(this.evaluate(node.assignee.object, environment));
    return result;
  }

  evaluateBlock(statements, environment) {
    let text = "";
    for (const statement of statements) {
      const value = this._statement(statement, environment, text);
      if (SILENT.includes(statement.type)) continue;
      if (!(value instanceof TEXT)) this._spend(this._weigh(value));
      text += printed(value);
      if (text.length > MAX_VALUE) this._spend(text.length);
    }
    return new TEXT(text);
  }

  /** A statement's value; a jump out of the block takes the text so far along. */
  _statement(statement, environment, text) {
    try {
      return this.evaluate(statement, environment);
    } catch (jump) {
      if (jump instanceof Jump) jump.text = text + jump.text;
      throw jump;
    }
  }

  evaluateFor(node, environment) {
    const select = node.iterable.type === "SelectExpression" ? node.iterable : null;
    const values = this.evaluate(select ? select.lhs : node.iterable, environment);
    const items = this._items(values).map((value) => {
      this._spend(LOOP_STEPS * STEP);
      const scope = new Environment(environment);
      assign(node.loopvar, value, scope);
      return { value, scope };
    }).filter(({ scope }) => !select || this.evaluate(select.test, scope).__bool__().value);
    if (items.length === 0) return this.evaluateBlock(node.defaultBlock, new Environment(environment));
    let text = "";
    for (let i = 0; i < items.length; i += 1) {
      const { scope } = items[i];
      scope.setVariable("loop", loopOf(items, i));
      try {
        text += this.evaluateBlock(node.body, scope).value;
      } catch (jump) {
        if (!(jump instanceof Jump)) throw jump;
        text += jump.text;
        if (jump.kind === "Break") break;
      }
      if (text.length > MAX_VALUE) this._spend(text.length);
    }
    return new TEXT(text);
  }

  _items(values) {
    if (values instanceof ARRAY) return values.value;
    if (values instanceof DICT) return Array.from(values.value.keys(), (key) => new TEXT(key));
    if (values instanceof TEXT) return Array.from(values.value, (character) => new TEXT(character));
    if (values?.type === NOTHING.type) return [];
    throw limit("the template loops over something else than a list", "a list", values?.type);
  }

  evaluateMemberExpression(node, environment) {
    const owner = this.evaluate(node.object, environment);
    if (owner.type === NOTHING.type || owner instanceof FUNCTION) {
      throw limit("the template reaches into something that has no parts", "a value with parts", owner.type);
    }
    return super.evaluateMemberExpression({ ...node, object: known(owner) }, environment);
  }

  evaluateBinaryExpression(node, environment) {
    const operator = node.operator.value;
    if (operator === "and" || operator === "or") return super.evaluateBinaryExpression(node, environment);
    const [left, right] = [node.left, node.right].map((side) => this.evaluate(side, environment));
    this._spend(this._weigh(left));
    this._spend(this._weigh(right));
    if (operator === "==" || operator === "!=") return new BOOLEAN(equal(left, right) === (operator === "=="));
    if (operator === "~") return new TEXT(printed(left) + printed(right));
    if (operator === "+" && left instanceof TEXT !== right instanceof TEXT) {
      throw limit("the template adds a text to something else", "two texts", `${left.type} + ${right.type}`);
    }
    return super.evaluateBinaryExpression({ ...node, left: known(left), right: known(right) }, environment);
  }

  evaluateCallExpression(node, environment) {
    const { callee, args } = node;
    if (callee.type !== "MemberExpression" || callee.computed) return super.evaluateCallExpression(node, environment);
    const owner = this.evaluate(callee.object, environment);
    if (owner instanceof TEXT) {
      const [given, named] = this.evaluateArguments(args, environment);
      const method = STRING_METHODS[callee.property.value];
      if (method) return this._method(method, owner, given);
      if (callee.property.value === "replace") this._checkReplace(owner, given);
      const keywords = [...named].map(([key, value]) => keyword(key, value));
      const values = [...given.map(known), ...keywords];
      const changed = { ...node, callee: { ...callee, object: known(owner) }, args: values };
      return super.evaluateCallExpression(changed, environment);
    }
    return super.evaluateCallExpression({ ...node, callee: { ...callee, object: known(owner) } }, environment);
  }

  /** Calls one of STRING_METHODS with plain values. */
  _method(method, owner, given) {
    for (const value of given) this._spend(this._weigh(value));
    if (given[0] instanceof ARRAY) this._spend(given[0].value.length * owner.value.length); // join
    if (given[0] instanceof TEXT && given[0].value.length > MAX_SMALL && method.set) {
      throw limit("the template strips too many characters", `at most ${MAX_SMALL}`);
    }
    const plain = given.map((v) => (v instanceof ARRAY ? v.value.map(printed) : v.value));
    const result = method.call(owner.value, ...plain);
    return wrapped(Array.isArray(result) ? result.map(wrapped) : result);
  }

  _checkReplace(text, [old, by]) {
    if (!(old instanceof TEXT) || !(by instanceof TEXT)) return; // refused by the package
    const times = old.value ? text.value.split(old.value).length - 1 : text.value.length + 1;
    this._spend(text.value.length + times * by.value.length);
  }

  applyFilter(operand, filter, environment) {
    const name = filter.callee?.value ?? filter.value;
    const [args, named] = filter.args ? this.evaluateArguments(filter.args, environment) : [[], new Map()];
    this._spend(this._weigh(operand));
    if (name === "tojson" && operand.type === NOTHING.type) {
      throw limit("the template writes something undefined as JSON", "a value", "none");
    }
    if (name === "string") return new TEXT(printed(operand));
    if (name === "join" && operand instanceof ARRAY) return this._join(operand, args, named);
    if (name === "replace" && operand instanceof TEXT) this._checkReplace(operand, args);
    if (name === "trim" && operand instanceof TEXT) return this._method(STRING_METHODS.strip, operand, args);
    if (name === "map" && args[0] instanceof TEXT && operand instanceof ARRAY) {
      const inner = { type: "Identifier", value: args[0].value };
      return new ARRAY(operand.value.map((value) => this.applyFilter(value, inner, environment)));
    }
    const width = named.get("width") ?? named.get("indent") ?? args[0];
    if (["indent", "tojson"].includes(name) && width?.value > MAX_SMALL) {
      throw limit("an indentation of the template is too wide", `at most ${MAX_SMALL}`);
    }
    if (!filter.args || name === "selectattr" || name === "rejectattr") { // these take their arguments as they are
      return super.applyFilter(operand, filter, environment) ?? NOTHING;
    }
    const keywords = [...named].map(([key, value]) => keyword(key, value));
    return super.applyFilter(operand, { ...filter, args: [...args.map(known), ...keywords] }, environment) ?? NOTHING;
  }

  _join(operand, args, named) {
    const separator = printed(args[0] ?? named.get("d") ?? new TEXT(""));
    const attribute = args[1] ?? named.get("attribute");
    const values = attribute ? operand.value.map((v) => v.value.get(attribute.value) ?? NOTHING) : operand.value;
    this._spend(this._weigh(operand) + values.length * separator.length);
    return new TEXT(values.map(printed).join(separator));
  }
}

/** Sets the variable or variables of a loop. */
function assign(target, value, scope) {
  if (target.type === "Identifier") {
    scope.setVariable(target.value, value);
    return;
  }
  if (!(value instanceof ARRAY) || value.value.length !== target.value.length) {
    throw limit("the template can't take a value apart", `${target.value?.length} parts`, "others");
  }
  target.value.forEach((name, i) => scope.setVariable(name.value, value.value[i]));
}

/** The `loop` of an item. */
function loopOf(items, i) {
  const count = items.length;
  const loop = wrapped({
    index: i + 1, index0: i, revindex: count - i, revindex0: count - i - 1, first: i === 0, last: i === count - 1,
    length: count,
  });
  loop.value.set("previtem", items[i - 1]?.value ?? NOTHING);
  loop.value.set("nextitem", items[i + 1]?.value ?? NOTHING);
  return loop;
}

function keyword(name, value) {
  return { type: "KeywordArgumentExpression", key: { value: name }, value: known(value) };
}

function wrapped(value) {
  if (Array.isArray(value)) return new ARRAY(value);
  return new Environment().set("x", value);
}
