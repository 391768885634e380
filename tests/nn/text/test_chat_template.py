"""Chat templates: rendered as transformers renders them, within bounds, and refused by the model's name."""

from __future__ import annotations

import re
import resource

import pytest

from llmos.abi.error import BadInput
from llmos.nn.text.chat_template import NAMED, TRIALS, ChatTemplate, in_parts
from llmos.nn.text.sandbox import MOST_BYTES
from llmos.testing.errors import fails_with

HELLO = [{"role": "user", "content": "hi"}]
PARTS = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
EITHER = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
)
SYSTEM_PARTS = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content[0].text }}{% endif %}"
    "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
)


def render(text: str, messages: list[dict[str, object]] | None = None, limit_s: float = 0.05) -> str:
    return ChatTemplate(text, "fix:2", limit_s).render(messages or HELLO, [], opens=True, named=NAMED)


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{{ m.role }}\n{% endfor %}",
        "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}",
        "{% macro f(x) %}{% for y in x %}{{ y }},{% endfor %}{% endmacro %}{{ f(messages[0].content) }}",
        "{% for m in messages %}{% generation %}{% set a = m.content %}{{ a }}{% endgeneration %}{{ a }}{% endfor %}",
        "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ dict(a=1) }}",
        "    {% if add_generation_prompt %}\n  open\n    {% endif %}\nend",
        "{{ tools }}{{ messages[-1]['content'][::-1] }}{{ missing }}",
    ],
)
def test_it_reads_as_transformers_renders_it(text):
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [*HELLO, {"role": "assistant", "content": "<b>é"}, *HELLO]
    (theirs,), _ = utils.render_jinja_template(
        [messages], None, chat_template=text, add_generation_prompt=True, **NAMED
    )
    assert render(text, messages, 5.0) == theirs


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ messages[0].content + 5 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{{ raise_exception('no system here') }}", "no system here"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "computes for more than"),
        ("{{ 'x' * 999999999 }}", "writes more than"),
        ("{{ 10 ** 99999 }}", "4,096 bits"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|undefined"),
        ("{% set n = namespace() %}{% set n._x = 1 %}", "no names such as"),
    ],
)
def test_whatever_it_raises_is_a_refusal_whose_sentence_says_why(text, why):
    with fails_with(BadInput, model="fix:2", reason="refused") as refused:
        render(text)
    assert re.search(why, refused.value.message)


def test_one_that_does_not_compile_says_where():
    with fails_with(BadInput, model="fix:2", reason="not_compiled", template_line=2):
        ChatTemplate("\n{% for %}", "fix:2")


@pytest.mark.parametrize(
    ("text", "roles"),
    [(PARTS, ["system", "user", "assistant", "tool"]), (EITHER, []), (SYSTEM_PARTS, ["system"])],
)
def test_one_that_reads_content_by_parts_gets_parts(text, roles):
    template = ChatTemplate(text, "fix:2")
    assert template.trial()["parts"] == roles
    messages = [{"role": "system", "content": "be kind"}, *HELLO]
    shaped = [template.shape_message(one) for one in messages]
    assert [one["content"] for one in shaped] == [
        in_parts(str(one["content"])) if one["role"] in roles else one["content"] for one in messages
    ]
    rendered = template.render(shaped, [], opens=True, named=NAMED)
    assert ("be kind" in rendered, "hi" in rendered) == (True, True)


def test_the_trial_says_what_is_refused_and_why():
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    strict += "{{ messages[0].content }}"
    refuses = {"system": "no system here", "tools": "no system here"}  # it is told of tools in a system text
    assert ChatTemplate(strict, "fix:2").trial() == {"parts": [], "refuses": refuses}
    assert [*ChatTemplate("{{ messages[0].content + 5 }}", "fix:2").trial()["refuses"]] == [*TRIALS]


def test_what_it_looks_for_is_known():
    text = "{% if '</think>' in messages[0].content %}{{ messages[0].content.split('<x>') }}{% endif %}{{ '<y>' }}"
    assert ChatTemplate(text, "fix:2").sought == {"</think>", "<x>"}


DOUBLED = "{{% set n = namespace(x={0}) %}}{{% for i in range(60) %}}{{% set n.x = {1} %}}{{% endfor %}}{2}"
BOMBS = [
    "{{ 'a' * 10**10 }}",
    "{% set x = ('a' * 10**7) * 10**7 %}",
    "{% set x = [1] * 10**9 %}",
    "{{ 'a'.center(10**10) }}",
    "{{ 'a'.ljust(10**10) }}{{ 'a'.zfill(10**10) }}",
    "{{ 'a'|center(10**10) }}",
    "{{ 'a\\n'|indent(10**9) }}",
    "{{ messages|tojson(indent=10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ ['a', 'a']|join('b' * 10**7 * 6) }}",
    "{{ ('b' * 10**7).join(['a'] * 10**6) }}",
    "{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}",
    "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}",
    "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ lipsum(n=10**9) }}",
    "{{ (1).to_bytes(10**10, 'big') }}",
    "{{ range(10**9)|list|length }}",
    "{{ ([[1] * 10**5] * 10**5)|sum(start=[]) }}",
    "{{ ('a ' * 10**7)|wordwrap(1) }}",
    "{{ ('a ' * 10**7).split(' ')|length }}",
    DOUBLED.format("'a'", "n.x ~ n.x", ""),
    DOUBLED.format("'a'", "n.x + n.x", ""),
    DOUBLED.format("[1]", "n.x + n.x", ""),
    DOUBLED.format("2", "n.x * n.x", ""),
    DOUBLED.format("'a'", "[n.x, n.x]|join", ""),
    DOUBLED.format("'a'", "n.x.join(['', '', ''])", ""),
    DOUBLED.format("'a'", "'%s%s' % (n.x, n.x)", ""),
    DOUBLED.format("'a'", "'{0}{0}'.format(n.x)", ""),
    DOUBLED.format("[1]", "[n.x, n.x]", "{{ n.x }}"),
    DOUBLED.format("[1]", "[n.x, n.x]", "{{ n.x|string|length }}"),
    DOUBLED.format("[1]", "[n.x, n.x]", "{{ n.x|tojson }}"),
    DOUBLED.format("[1]", "[n.x, n.x]", "{{ '' ~ n.x }}"),
    DOUBLED.format("[1]", "[n.x, n.x]", "{{ [n.x]|join }}"),
    "{% set n = namespace(x='a') %}{% for i in range(60) %}"
    "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + DOUBLED.format("'a'", "f(n.x)", ""),
    "{% set n = namespace(x=[]) %}{% set y = 'a' * 10**7 %}"
    "{% for i in range(10**5) %}{% set n.x = n.x + [y[1:]] %}{% endfor %}",
    "{% set n = namespace(x=[]) %}{% set y = 'a' * 10**7 %}"
    "{% for i in range(10**5) %}{% set n.x = n.x + [y|upper] %}{% endfor %}",
    "{% set n = namespace(x=[]) %}{% set y = 'a' * 10**7 %}"
    "{% for i in range(10**5) %}{% set n.x = n.x + [y.lower()] %}{% endfor %}",
    "{% for i in range(10**5) %}{% for j in range(10**5) %}" + "a" * 10**5 + "{% endfor %}{% endfor %}",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", BOMBS)
def test_a_template_that_would_fill_the_memory_is_refused_by_the_models_name(text):
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with fails_with(BadInput, model="fix:2", reason="refused") as refused:
        ChatTemplate(text, "fix:2").render(HELLO, [], opens=True, named=NAMED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 2 * MOST_BYTES >> 10
    assert any(word in refused.value.message for word in ("it ", "undefined", "Range too big"))
    assert "MemoryError" not in refused.value.message


def test_a_bomb_in_a_template_is_found_at_the_pull():
    tried = ChatTemplate("{{ messages[0].content ~ ('a' * 10**10) }}", "fix:2").trial()
    assert "it writes more than" in tried["refuses"]["text"]


def test_a_long_conversation_is_written_whatever_a_template_makes_of_it_on_the_way():
    text = (
        "{% set n = namespace(all='') %}{% for m in messages %}{% set c = m['content'].split('</think>')[-1]|trim %}"
        "{% set n.all = n.all ~ '<' + m.role + '>' ~ c[0:] ~ ('%s' % loop.index) ~ (m|tojson)[:0] %}"
        "{% if loop.index0 == messages|length - 1 %}{{ n.all.replace('<', '[') }}{% endif %}{% endfor %}"
    )
    messages = [{"role": "user", "content": f"12345 number {i} of many"} for i in range(600)]
    rendered = ChatTemplate(text, "fix:2").render(messages, [], opens=True, named=NAMED)
    assert rendered == "".join(f"[user>{one['content']}{i}" for i, one in enumerate(messages, 1))
