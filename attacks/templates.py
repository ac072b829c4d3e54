"""Class 16: chat templates that work without end, grow without end, look for a way out or are none. Each must
be refused as a TemplateError, in bounded time and memory."""

# ruff: noqa: E501 - a template is easier to judge on one line
from __future__ import annotations

from collections.abc import Iterator

from attacks.case import Case

MEGABYTE = "{% set x = 'xxxxxxxxxxxxxxxx' %}" + "{% set x = x ~ x %}" * 16
ATTACKS = {
    # work
    "a range without end": "{% for i in range(10**9) %}x{% endfor %}",
    "an empty body": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
    "{% if a == b %}{% endif %}{% endfor %}{% endfor %}{% endfor %}",
    "loops in a macro": "{% macro m(n) %}{% for i in range(999) %}{{ m(n + 1) }}{% endfor %}{% endmacro %}{{ m(0) }}",
    "a macro without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a large loop in a condition": "{% for i in range(9999) if i > 9999 %}{% endfor %}" * 99,
    "a search in a large text": MEGABYTE
    + "{% for i in range(9999) %}{% if x ~ 'y' in x ~ x %}{% endif %}{% endfor %}",
    "sorting without end": "{% for i in range(9999) %}{% set y = range(9999) | list | sort %}{% endfor %}",
    # memory
    "multiplied text": "{{ 'x' * 10**10 }}",
    "multiplied lists": "{% set x = [1] * 10**9 %}{{ x | length }}",
    "doubled text": "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled by plus": "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled lists": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "lists in lists": "{% set ns = namespace(x=['x']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% endfor %}{{ ns.x | tojson }}",
    "dicts in dicts": "{% set ns = namespace(x={'a': 'x'}) %}{% for i in range(60) %}"
    "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "lists too deep": "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "replaced by larger text": MEGABYTE + "{{ x.replace('x', x) | length }}",
    "the filter that replaces": MEGABYTE + "{{ (x | replace('x', x)) | length }}",
    "joined with a large text": MEGABYTE + "{{ range(9999) | list | map('string') | join(x) | length }}",
    "a wide indentation": "{{ 'a\nb' | indent(10**10) }}",
    "a wide JSON": "{{ [1] | tojson(indent=10**9) }}",
    "a huge output": MEGABYTE + "{% for i in range(999) %}{{ x }}{% endfor %}",
    "a huge block": MEGABYTE + "{% set y %}{% for i in range(999) %}{{ x }}{% endfor %}{% endset %}{{ y }}",
    # a way out
    "attributes of a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attributes of a function": "{{ raise_exception.__globals__['__builtins__'] }}",
    "attributes by filter": "{{ '' | attr('__class__') }}",
    "attributes by map": "{{ ([''] | map(attribute='__class__') | first).mro() }}",
    "globals of a namespace": "{{ namespace.__init__.__globals__ }}",
    "a generator's frame": "{{ (messages | map('upper')).gi_frame.f_globals }}",
    "format strings": "{{ '{0.__class__}'.format(messages) }}",
    "a constructor": "{{ messages.constructor.constructor('return 1')() }}",
    "another file": "{% include '/etc/passwd' %}",
    "an imported file": "{% import 'os' as os %}{{ os }}",
    "changed messages": "{{ messages.append(1) }}{{ messages.pop() }}",
    "an unknown filter": "{{ 'x' | pprint }}",
    # no template
    "unclosed": "{% for x in messages %}",
    "nonsense": "{{ 1 + }}",
    "nested too deeply": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a chain too long": "{{ " + "+".join(["1"] * 20000) + " }}",
    "over the size limit": "x" * (64 * 1024 + 1),
    "refused by itself": "{{ raise_exception('not like this') }}",
}

ACCEPTED = {
    "ChatML": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}",
    "a macro": "{% macro turn(m) %}[{{ m.role }}] {{ m.content }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "a namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "a thousand turns": "{% for i in range(1000) %}{{ messages[0].content }}{% if i == 500 %}{% continue %}{% endif %}\n{% endfor %}",
    "a large text": MEGABYTE + "{{ x }}",
    "loops in loops": "{% for a in range(99) %}{% for b in range(99) %}{{ a * b }}{% endfor %}{% endfor %}",
    "just below the size limit": "x" * (64 * 1024),
    "JSON of what is given": "{{ messages | tojson }}",
    "a refusal that isn't reached": "{% if messages | length > 9 %}{{ raise_exception('long') }}{% endif %}fine",
}


def templates() -> Iterator[Case]:
    for name, source in ATTACKS.items():
        file = f"template-{name.replace(' ', '-')}"
        yield Case(file, 16, source.encode(), "", stage="template", error="TemplateError")
    for name, source in ACCEPTED.items():
        yield Case(f"ok-template-{name.replace(' ', '-')}", 0, source.encode(), None, stage="template")


GENERATORS = (templates,)
