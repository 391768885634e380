"""Chat templates: rendered as transformers renders them, within bounds, and refused by the model's name."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadInput
from llmos.nn.template import NAMED, TRIALS, ChatTemplate, in_parts

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
        ("{{ 10 ** 99999 }}", "power"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|undefined"),
        ("{% set n = namespace() %}{% set n._x = 1 %}", "no names such as"),
    ],
)
def test_whatever_it_raises_is_a_refusal_that_names_the_model(text, why):
    with pytest.raises(BadInput, match=f"chat template of fix:2 refuses this conversation: .*({why})"):
        render(text)


def test_one_that_does_not_compile_says_where():
    with pytest.raises(BadInput, match=r"chat template of fix:2 does not compile: .*\(line 2\)"):
        ChatTemplate("\n{% for %}", "fix:2")


@pytest.mark.parametrize(
    ("text", "roles"),
    [(PARTS, ["system", "user", "assistant", "tool"]), (EITHER, []), (SYSTEM_PARTS, ["system"])],
)
def test_one_that_reads_content_by_parts_gets_parts(text, roles):
    template = ChatTemplate(text, "fix:2")
    assert template.trial()["parts"] == roles
    messages = [{"role": "system", "content": "be kind"}, *HELLO]
    shaped = [template.shaped(one) for one in messages]
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
