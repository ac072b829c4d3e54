"""Runs a Jinja template by a stranger: no way out, bounded work, bounded text.

Jinja2's ImmutableSandboxedEnvironment keeps templates from attributes that lead out. It bounds neither time
nor memory, so this environment rewrites every template before it is compiled: each loop, call, filter,
comparison and piece of text passes a Meter, which counts it, weighs the values it makes and stops at the
limits. What is rewritten is what can make a value larger than its parts or take longer than its text is long.

The names, filters and methods are an allow-list: those that chat templates use, with the meaning that the
`transformers` package gives them. Not a general template engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.runtime
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from ..errors import TemplateError
from . import functions
from .meter import CURRENT, MAX_OUTPUT, MAX_SMALL, MAX_TEMPLATE, Meter, limit, text_of

# fmt: off
_STRING_METHODS = frozenset((
    "startswith", "endswith", "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "lower",
    "upper", "title", "capitalize", "replace", "join", "find", "rfind", "index", "count", "isdigit",
    "isalpha", "isalnum", "isspace", "islower", "isupper", "removeprefix", "removesuffix", "partition",
    "rpartition",
))
# fmt: on
_DICT_METHODS = frozenset(("items", "keys", "values", "get"))
_LIST_METHODS = frozenset(("index", "count"))
# fmt: off
_FILTERS = frozenset((
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select",
    "selectattr", "sort", "title", "unique", "upper",
))
# fmt: on
_THROUGH = frozenset(("dictsort", "max", "min", "sort", "unique"))  # filters that look at all of a value
# fmt: off
_COMPARING_TESTS = frozenset((
    "==", "!=", "<", ">", "<=", ">=", "eq", "equalto", "ne", "lt", "lessthan", "gt", "greaterthan", "le",
    "ge", "in", "lower", "upper",
))
# fmt: on


# ---- the environment ----


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`, which marks what an assistant wrote: its body."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja wants it

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Environment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, metered."""

    intercepted_binops = frozenset(("+", "-", "*", "**", "%", "//", "/"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # no computing while compiling: there is no meter yet
            extensions=[_Generation, loopcontrols],
            finalize=jinja2.pass_context(_printed),
            cache_size=0,
        )
        builtin = dict(self.filters)
        self.filters.clear()
        self.filters.update({name: _metered(builtin[name], name in _THROUGH) for name in _FILTERS})
        self.filters.update(
            {
                "tojson": _metered(functions.tojson, True),
                "string": _metered(text_of, True),
                "safe": _metered(text_of, True),
                "join": _metered(functions.join, True),
                "replace": _metered(functions.replace),
                "indent": _metered(functions.indent),
                "round": _metered(functions.rounded),
                "trim": _metered(functions.trim),
                "ruvq_value": _value,
                "ruvq_look": _look,
                "ruvq_text": _text,
                "ruvq_each": _each,
            }
        )
        self.globals.clear()
        self.globals.update(
            range=functions.bounded_range,
            namespace=jinja2.utils.Namespace,
            dict=dict,
            raise_exception=functions.raise_exception,
            strftime_now=functions.strftime_now,
        )

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _rewrite(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        if isinstance(obj, dict):
            return attr in _DICT_METHODS
        if isinstance(obj, (list, tuple)):
            return attr in _LIST_METHODS
        if isinstance(obj, (jinja2.runtime.LoopContext, jinja2.utils.Namespace)):
            return super().is_safe_attribute(obj, attr, value)
        return False

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, (jinja2.runtime.Macro, jinja2.runtime.LoopContext)):
            return True
        if any(obj is allowed for allowed in self.globals.values()):
            return True
        owner = getattr(obj, "__self__", None)
        return isinstance(owner, (str, dict, list, tuple, jinja2.runtime.LoopContext))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = CURRENT.get()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(obj, jinja2.runtime.LoopContext):  # a recursive loop
            args = tuple(_each(context, values) for values in args)
        elif isinstance(owner, str) and name in functions.CHECKS:
            functions.CHECKS[name](owner, *args, **{k: v for k, v in kwargs.items() if not k.startswith("_")})
        return meter.value(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        meter = CURRENT.get()
        meter.step()
        numbers = [isinstance(x, (int, float)) for x in (left, right)]
        if not all(numbers):
            if operator == "*":
                for side, times in ((left, right), (right, left)):
                    if isinstance(side, (str, list, tuple)) and isinstance(times, int):
                        meter.step(max(0, times) * (1 + meter.weigh(side)))
            elif operator != "+":
                raise limit(
                    f"the template uses {operator} on something else than numbers",
                    "numbers",
                    f"{type(left).__name__} and {type(right).__name__}",
                )
        elif operator == "**" and abs(right) > MAX_SMALL:
            raise limit("an exponent in the template is too large", f"at most {MAX_SMALL}", "more")
        return meter.value(super().call_binop(context, operator, left, right))


def _wrap(expression: Any, filter: str) -> nodes.Expr:
    return nodes.Filter(expression, filter, [], [], None, None, lineno=expression.lineno)


def _rewrite(node: Any) -> Any:
    """Puts meters into a parsed template, from the leaves up."""
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, field, _rewrite(value))
        elif isinstance(value, list):
            setattr(node, field, [_rewrite(v) if isinstance(v, nodes.Node) else v for v in value])
    if isinstance(node, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)):
        raise limit("the template asks for other templates", "one template", type(node).__name__.lower())
    if isinstance(node, nodes.TemplateData):
        return _wrap(nodes.Const(node.data, lineno=node.lineno), "ruvq_value")
    if isinstance(node, nodes.Concat):
        node.nodes = [_wrap(part, "ruvq_text") for part in node.nodes]
        return _wrap(node, "ruvq_value")
    if isinstance(node, nodes.Compare):
        node.expr = _wrap(node.expr, "ruvq_look")
        for operand in node.ops:
            operand.expr = _wrap(operand.expr, "ruvq_look")
    if isinstance(node, nodes.Test) and node.name in _COMPARING_TESTS:
        node.node = _wrap(node.node, "ruvq_look")
    if isinstance(node, nodes.For):
        node.iter = _wrap(node.iter, "ruvq_each")
    if isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return _wrap(node, "ruvq_value")
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _wrap(node, "ruvq_value")
    return node


# ---- what a rewritten template calls ----


@jinja2.pass_context
def _value(context: Any, value: Any) -> Any:
    return CURRENT.get().value(value)


@jinja2.pass_context
def _look(context: Any, value: Any) -> Any:
    return CURRENT.get().look(value)


@jinja2.pass_context
def _text(context: Any, value: Any) -> str:
    return _printed(context, value)


@jinja2.pass_context
def _each(context: Any, values: Any) -> Any:
    """What a `for` goes over, as a list: `loop.length` is known without reading ahead."""
    meter = CURRENT.get()
    return list(meter.each(values))


def _printed(context: Any, value: Any) -> str:
    return text_of(CURRENT.get().look(value))


def _metered(filter: Callable[..., Any], through: bool = False) -> Callable[..., Any]:
    """A filter whose operand and result are counted; lazy results become lists."""
    kind = getattr(filter, "jinja_pass_arg", None)

    @jinja2.pass_context
    def metered(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter = CURRENT.get()
        (meter.look if through else meter.value)(value)
        if kind is not None:
            name = kind.name
            first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
            result = filter(first[name], value, *args, **kwargs)
        else:
            result = filter(value, *args, **kwargs)
        if hasattr(result, "__next__"):
            result = list(meter.each(result))
        return meter.value(result)

    return metered


# ---- for template.py ----

_ENVIRONMENT: Environment | None = None


def compile_template(source: str) -> Any:
    """A template ready for `render`. TemplateError when it is too long or no template."""
    global _ENVIRONMENT
    if len(source) > MAX_TEMPLATE:
        raise limit("the template is too long", f"at most {MAX_TEMPLATE:,} characters", len(source))
    _ENVIRONMENT = _ENVIRONMENT or Environment()
    return _guarded(lambda: _ENVIRONMENT.from_string(source))


def render(template: Any, variables: Mapping[str, Any]) -> str:
    """The text. TemplateError whatever goes wrong in the template."""

    def run() -> str:
        token = CURRENT.set(Meter())
        try:
            pieces, length = [], 0
            for piece in template.root_render_func(template.new_context(dict(variables))):
                length += len(piece)
                if length > MAX_OUTPUT:
                    raise limit("the template writes too much", f"at most {MAX_OUTPUT:,} characters", "more")
                pieces.append(piece)
            return "".join(pieces)
        finally:
            CURRENT.reset(token)

    return _guarded(run)


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except TemplateError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise limit(
            "the template can't be read", "Jinja", f"line {error.lineno}: {error.message}"[:300]
        ) from None
    except SecurityError as error:
        raise limit(
            "the template reaches for something it may not have", "messages and tools", str(error)[:300]
        ) from None
    except RecursionError:
        raise limit("the template nests too deeply", "a template of ordinary depth", "more") from None
    except Exception as error:  # whatever a stranger's program raises
        raise limit(
            "the template fails", "one that fits this conversation", f"{type(error).__name__}: {error}"[:300]
        ) from None
