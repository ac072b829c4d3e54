"""Hostile chat templates (class 16 of the attacks): each must be refused as a TemplateError, in bounded time
and memory, on every host. `python tests/chat/attacks.py` prints them as JSON, for the hosts that JavaScript
runs."""

# ruff: noqa: E501 - a template is easier to judge on one line
from __future__ import annotations

import json

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

if __name__ == "__main__":
    print(json.dumps(ATTACKS))
