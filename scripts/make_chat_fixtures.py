"""Makes crates/sources/tests/fixtures/chats.json: conversations, and what transformers makes of them through chat templates.

Run with Python packages `transformers` and `jinja2` installed, after scripts/make_tokenizer_fixtures.py:

    python scripts/make_chat_fixtures.py

The templates are written for this file. Each uses the constructs of a well-known model's template, by which it is named. The
committed file is of transformers 5.24.0 and jinja2 3.1.6.
"""

import datetime
import json
import tempfile
from pathlib import Path

import jinja2
import transformers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

FIXTURES = Path(__file__).resolve().parent.parent / "crates/sources/tests/fixtures"

# When the templates run, in seconds since 1970, UTC.
NOW = 1772694489

TEMPLATES = {
    "chatml": """\
{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "llama2": """\
{%- if messages[0]['role'] == 'system' -%}
  {%- set turns = messages[1:] -%}
  {%- set first = messages[0]['content'] -%}
{%- else -%}
  {%- set turns = messages -%}
  {%- set first = false -%}
{%- endif -%}
{%- for turn in turns -%}
  {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('Turns of user and assistant have to alternate!') }}
  {%- endif -%}
  {%- if loop.index0 == 0 and first != false -%}
    {%- set content = '<<RULES>>\\n' + first + '\\n<</RULES>>\\n\\n' + turn['content'] -%}
  {%- else -%}
    {%- set content = turn['content'] -%}
  {%- endif -%}
  {%- if turn['role'] == 'user' -%}
    {{ bos_token + '[Q] ' + content.strip() + ' [/Q]' }}
  {%- elif turn['role'] == 'assistant' -%}
    {{ ' ' + content.strip() + ' ' + eos_token }}
  {%- endif -%}
{%- endfor -%}
""",
    "llama3": """\
{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date is defined %}
    {%- if strftime_now is defined %}
        {%- set date = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set rules = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set rules = "" %}
{%- endif %}
{{- "<|im_start|>system\\n\\n" }}
{%- if tools is not none %}{{- "Tools there are.\\n" }}{%- endif %}
{{- "Today: " + date + "\\n\\n" }}
{{- rules }}
{{- "<|im_end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|im_start|>' + message['role'] + '\\n\\n'+ message['content'] | trim + '<|im_end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call of a tool at a time!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- endif %}
    {%- endif %}
{%- endfor %}
""",
    "mistral": """\
{%- if messages[0]["role"] == "system" %}
    {%- set rules = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- set questions = turns | selectattr("role", "equalto", "user") | list %}
{%- set answers = turns | rejectattr("role", "equalto", "user") | map(attribute="role") | unique | join("/") %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for turn in turns %}
    {%- if not (turn.role == "tool" or (turn.tool_calls is defined and turn.tool_calls is not none)) %}
        {%- if (turn["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Turns should go user, assistant, user, assistant...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if turn["role"] == "user" %}
        {%- if loop.last and rules is defined %}
            {{- "[Q] " + rules + "\\n\\n" + turn["content"] + "[/Q]" }}
        {%- else %}
            {{- "[Q] " + turn["content"] + "[/Q]" }}
        {%- endif %}
        {%- if turn == questions[-1] %}{{- "(" ~ (questions | length) ~ ", " ~ answers ~ ")" }}{%- endif %}
    {%- elif turn.tool_calls is defined and turn.tool_calls is not none %}
        {{- "[CALLS][" }}
        {%- for call in turn.tool_calls %}
            {%- set out = call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif turn["role"] == "assistant" %}
        {{- " " + turn["content"]|trim + eos_token}}
    {%- elif turn["role"] == "tool" %}
        {%- set content = turn.content.content if turn.content.content is defined else turn.content %}
        {{- '[RESULT]{"content": ' + content|string + "}[/RESULT]" }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles, and a first system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('There is no system role') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<|im_start|>' + role + '
' + (message['content'][0]['text'] if message['content'] is not string else message['content']) | trim + '<|im_end|>
' }}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>model
'}}{% endif %}""",
    "phi": """\
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|im_end|>\\n'}}{% elif message['role'] in ['user', 'human'] %}{{'<|user|>\\n' + message['content'] + '<|im_end|>\\n'}}{% elif message['role'] == 'assistant' and 'tool_calls' not in message %}{{'<|assistant|>\\n' + message['content'] + '<|im_end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "qwen": """\
{%- macro shown(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}{%- if 'text' in item -%}{{- item.text -}}{%- endif -%}{%- endfor -%}
    {%- elif content is none or content is undefined -%}
        {{- '' -}}
    {%- endif -%}
{%- endmacro -%}
{%- if tools %}{{- '<tools>' }}{%- endif %}
{%- set ns = namespace(asking=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- set content = shown(message.content) %}
    {%- if ns.asking and message.role == "user" and not(content.startswith('<result>') and content.endswith('</result>')) %}
        {%- set ns.asking = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = shown(message.content) %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if call.function %}{%- set call = call.function %}{%- endif %}
                {{- '<call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}
                {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
                {{- '}\\n</call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<result>\\n' + content + '\\n</result>' }}
        {%- if loop.last or loop.nextitem.role != "tool" or loop.previtem is not defined %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
""",
    "deepseek": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, rules='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- set ns.rules = ns.rules + message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.rules}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<|User|>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{{'nothing'}}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is not defined %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<|Assistant|>' + content + eos_token}}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{{'<|Out|>' + message['content']}}{%- endif %}{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}{{'<|Assistant|>'}}{% endif %}""",
    "zephyr": """\
{% for message in messages %}
    {% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
    {% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
    {% elif message['role'] == 'assistant' %}
        {# what the model wrote #}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
    {% endif %}
    {%+ if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
    {% endif %}
{% endfor %}
""",
    "granite": """\
{%- if messages[0]['role'] == 'system' %}
    {%- set rules = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set rules %}
Today's date: {{ strftime_now('%B %d, %Y') }}.
You are helpful
    {%- if tools and documents %} with both{% elif tools %} with tools{% elif documents %} with documents{% else %}, alone{% endif %}.
    {%- endset %}
    {%- set turns = messages %}
{%- endif %}
{{- '<|im_start|>system<|im_end|>' + rules + eos_token + '\\n' }}
{%- if documents %}
    {%- for document in documents %}{{- document['text'] }}{%- endfor %}
{%- endif %}
{%- for turn in turns %}
    {{- '<|im_start|>' + turn['role'] + '<|im_end|>' }}
    {%- if turn.content is string %}{{- turn['content'] }}{%- endif %}
    {%- for name, value in turn.items() if name not in ('role', 'content') %}
        {{- '\\n' + name ~ ': ' ~ (value | tojson(indent=2)) }}
    {%- endfor %}
    {{- eos_token + '\\n' }}
{%- endfor %}
""",
    "smollm": """\
{%- for message in messages -%}
    {%- if message.role == "system" -%}{%- continue -%}{%- endif -%}
    {%- if loop.index > 6 -%}{%- break -%}{%- endif -%}
    {%- if message.role == "assistant" -%}
        {% generation %}
        {{- "<|im_start|>assistant\\n" + (message.content | default("") if message.content is string else "") | replace("<think>", "") + "<|im_end|>\\n" -}}
        {% endgeneration %}
    {%- else -%}
        {{- "<|im_start|>" ~ message.role ~ "\\n" -}}
        {{- message.content if message.content is string else message.content | map(attribute="text") | join(" ") -}}
        {{- "<|im_end|>\\n" -}}
    {%- endif -%}
{%- endfor -%}
{%- generation -%}<|endoftext|>{%- endgeneration -%}
""",
    "python": """\
{{ true }} {{ none }} {{ [1, 'a', 2.5, none, true] }} {{ {'a': 1, "it's": 'b'} }} {{ 1.0 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }} {{ 2 ** 5 }}
{{ 'x' ~ 1 ~ none ~ false }} {{ 'ab' * 2 }} {{ missing }}|{{ messages[0].missing }}|{{ missing | default('gone') }}
{{ 'ab' is sequence }} {{ {} is sequence }} {{ [] is sequence }} {{ 'ab' is iterable }} {{ 3 is iterable }} {{ {} is mapping }} {{ 'a' is string }} {{ 1 is number }} {{ true is boolean }}
{{ 'the ship'.title() }} {{ 'the ship' | title }} {{ 'The Ship'.upper() }} {{ 'The Ship' | lower }} {{ 'the ship'.capitalize() }} {{ 'a,b,c'.split(',') }} {{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }}
{{ 'aXbXc'.replace('X', '-') }} {{ 'aXbXc'.replace('X', '-', 1) }} {{ 'abc'.find('c') }} {{ 'abcabc'.count('b') }} {{ ' x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ ', '.join(['a', 'b']) }}
{{ 'héllo'[1] }} {{ 'héllo'[-1] }} {{ 'héllo'[1:3] }} {{ 'héllo'[::-1] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3][-2:] }} {{ [1, 2, 3][::2] }} {{ 'a' in 'cat' }} {{ 'a' in {'a': 1} }} {{ (1, 2) }}
{{ {'b': 'é"\\\\\\n', 'a': [1, 2.0, true, none, 1e-7, 1e20]} | tojson }} {{ {'b': 'é😀<&>', 'a': []} | tojson(ensure_ascii=True, sort_keys=True) }} {{ {'b': {'c': [1, {}]}} | tojson(indent=4) }} {{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}
{{ '%s is %d' | format('n', 3) }} {{ '{} of {}'.format(1, 'b') }} {{ {'b': 1, 'a': 2} | dictsort }} {{ {'a': 1}.get('b', 'none') }} {{ {'a': 1}.keys() | list }} {{ range(3) | list }} {{ [3, 1, 2] | sort }} {{ [1, 2] + [3] }} {{ [1, 2, 3] | sum }}
{%- for key, value in {'a': 1, 'b': [2]}.items() %} {{ key }}={{ value }}{% if not loop.last %},{% endif %}{% else %}none{% endfor %}
{%- with a = 1, b = 2 %} {{ a + b }}{% endwith %} {{ 'yes' if messages else 'no' }} {{ messages | length > 1 and messages[1].role == 'user' }} {{ loop is defined }} {{ dict(a=1).a }} {{ '' | trim or 'empty' }}
{%- macro two(a, b='z') %}({{ a }}{{ b }}{{ caller() if caller is defined }}){% endmacro %} {{ two('x') }} {{ two('x', b='y') }}{% call two('q') %}!{% endcall %}
  {% raw %}{{ raw }}{% endraw %} {{ messages | map(attribute='role') | join(',') }} {{ messages | first | length }} {{ (messages | last).role }} {{ "a\\tb" }} {{ 1 == 1.0 }} {{ not none }} {{ 10 | string | length }} {{ '3' | int + 1 }} {{ 3.7 | int }} {{ 2.5 | round }}
{% filter upper %}done{% endfilter %}

""",
}

CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "How many ships came?"}, {"role": "assistant", "content": " Three, he counted. \n"}]},
    [
        {"role": "system", "content": "  Answer as the keeper of a lighthouse.\n"},
        {"role": "user", "content": "Quoi? <|im_end|> 東京 <think>"},
        {"role": "assistant", "content": "<think>\nfog, I think\n</think>\n\nFog."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "He counted no more.", "reasoning": "no ships"},
    ],
    {
        "id": 7,
        "tools": None,
        "messages": [
            {"role": "user", "content": "Tell me the salt of 1987.", "name": None},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "salt", "arguments": {"year": 1987, "é": [1.5, True]}}}],
            },
            {"role": "tool", "content": "12345"},
            {"role": "assistant", "content": "12345 tonnes."},
        ],
    },
    [{"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}, {"role": "assistant", "content": "Two."}],
    [{"role": "assistant", "content": "I begin."}, {"role": "assistant", "content": "I go on."}],
]

SPECIAL = {
    "smollm": {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
    "sentencepiece": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


def case(name, base):
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATES[name], **SPECIAL[base]}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # What the other class of transformers makes of the file itself is not the matter here.
        tokenizer = json.loads((FIXTURES / "tokenizers" / base / "tokenizer.json").read_text())
        tokenizer.update(truncation=None, padding=None)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for conversation in CONVERSATIONS:
        messages = conversation["messages"] if isinstance(conversation, dict) else conversation
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            ids = tokenizer.apply_chat_template(messages, return_dict=False)
            expected.append({"text": text, "ids": ids})
        except Exception as error:  # noqa: BLE001, what a template refuses is a result too
            expected.append({"error": f"{type(error).__name__}: {error}"})
    return {"name": name, "base": base, "settings": settings, "expected": expected}


def main():
    assert transformers.__version__ == "5.24.0" and jinja2.__version__ == "3.1.6", "say the versions anew"
    chat_template_utils.datetime = Clock
    cases = [case(name, "smollm") for name in TEMPLATES] + [case(name, "sentencepiece") for name in ("llama2", "mistral")]
    fixture = {"now": NOW, "conversations": CONVERSATIONS, "cases": cases}
    (FIXTURES / "chats.json").write_text(json.dumps(fixture, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
