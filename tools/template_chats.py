"""Conversations and variables that published chat templates ask for, for tools/compare_templates.py --folder: every
template sees each conversation with each of the plain settings, and each setting with a few conversations."""
import copy

USER = {"role": "user", "content": "h\u00e9 <|im_end|> q"}
SYSTEM = {"role": "system", "content": " Be brief.\n"}
DONE = {"role": "assistant", "content": "4"}
TOOL = {"role": "tool", "content": "42", "name": "f", "tool_call_id": "abc123def"}


def function(name, description, properties, **more):
    parameters = {"type": "object", "properties": properties, **more.pop("parameters", {})}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, **more}}


SUM = function("f", "adds \u4e16", {"x": {"type": "integer", "description": "a number", "enum": [1, 2]}, "y": {"type": ["string", "null"]}}, parameters={"required": ["x"]})
DEEP = function(
    "get_weather", "The weather.\nSee \"docs\" & <more>.",
    {"city": {"type": "string", "description": "A city", "default": "Oslo", "minLength": 1},
     "days": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "number", "minimum": -1.5, "nullable": True}}, "required": ["n"], "additionalProperties": False}},
     "unit": {"anyOf": [{"type": "string", "enum": ["C", "F"]}, {"type": "null"}], "title": "Unit"},
     "when": {"oneOf": [{"type": "string", "format": "date"}, {"type": "integer", "description": "epoch"}]},
     "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "maxItems": 3},
     "free": {"type": "object", "additionalProperties": {"type": "string"}}, "ref": {"$ref": "#/$defs/T"}, "flag": {"type": "boolean", "default": False}, "any": {}},
    parameters={"required": ["city", "unit"], "$defs": {"T": {"type": "string"}}, "additionalProperties": False}, strict=True,
    **{"return": {"type": "object", "properties": {"t": {"type": "number"}}}})
BARE = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}
NO_PARAMETERS = {"type": "function", "function": {"name": "ping", "description": "Nothing"}}
FLAT = {"name": "g", "description": "flat", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": []}}


def called(arguments, name="f", **more):
    return {"id": "abc123def", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def call(*calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(calls) or [called({"x": 1, "y": [True, None, 2.5]})], **more}


def without(message, *keys):
    return {k: v for k, v in message.items() if k not in keys}


PARTS = [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]
MANY = {"city": "S\u00e3o \"P\"\n", "days": [{"n": -0.0}, {"n": 1e21}], "deep": {"a": {"b": [[], {}]}}, "n": None, "t": True, "big": 123456789012, "": ""}

# As OpenAI's API has them, and as programs send them by mistake.
CONVERSATIONS = [
    [USER], [SYSTEM, USER], [SYSTEM], [{"role": "system", "content": ""}, USER], [{"role": "system", "content": PARTS}, USER],
    [{"role": "user", "content": ""}], [{"role": "user", "content": " \n\t "}], [{"role": "user", "content": None}], [{"role": "user"}], [{"role": "user", "content": []}],
    [{"role": "user", "content": "\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \U0001F600 e\u0301 \u200d \u00a0nbsp\u3000 \u2028 \\n \"q\" 'a' <b>&amp; {{ x }} {% raw %}"}, {"role": "assistant", "content": "\U0001F468\u200d\U0001F469\u200d\U0001F467"}, USER],
    [USER, DONE], [USER, DONE, USER], [SYSTEM, USER, DONE, USER, DONE, {"role": "user", "content": "why?\n"}], [DONE], [DONE, USER], [USER, USER], [USER, DONE, DONE], [USER, SYSTEM, USER],
    [SYSTEM, SYSTEM, USER], [USER, DONE, SYSTEM], [{"role": "developer", "content": "D"}, USER], [{"role": "developer", "content": "D"}, SYSTEM, USER], [{"role": "critic", "content": "x"}], [{"role": "tool", "content": "t"}],
    [{"role": "user", "content": PARTS}], [{"role": "user", "content": PARTS[:1]}, {"role": "assistant", "content": PARTS}, {"role": "user", "content": ["plain", "texts"]}],
    [{"role": "user", "content": [PARTS[0], {"type": "image"}, {"type": "video"}, {"type": "audio"}]}], [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}, PARTS[1]]}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}, {"role": "assistant", "content": [{"type": "text", "text": "two"}]}, {"role": "user", "content": [{"type": "text", "text": ""}]}],
    [{"role": "user", "content": {"type": "text", "text": "a dict"}}], [{"role": "user", "content": 7}], [{"role": "user", "content": True}, {"role": "assistant", "content": 1.5}],
    # Reasoning.
    [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}, {"role": "user", "content": "\nwhy? "}], [USER, {"role": "assistant", "content": "<think>a</think>b</think>c"}],
    [USER, {"role": "assistant", "content": "no opening</think>\n\nyes"}, USER], [USER, {"role": "assistant", "content": "[THINK]hm[/THINK]yes"}, USER], [USER, {"role": "assistant", "content": "<think>never closed"}, USER],
    [USER, {"role": "assistant", "content": "a", "reasoning_content": "\nr\n"}, USER, {"role": "assistant", "content": "b"}], [USER, {"role": "assistant", "content": "a", "reasoning_content": ""}],
    [USER, {"role": "assistant", "content": "", "reasoning_content": "only"}, USER], [USER, {"role": "assistant", "content": "a", "thinking": "t"}, USER], [USER, {"role": "assistant", "content": "a", "reasoning": "t"}],
    [USER, {"role": "assistant", "content": "a", "reasoning_content": None, "tool_calls": None}, USER], [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "a"}]}, USER],
    [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "closed": False}]}, USER], [USER, {"role": "assistant", "content": {"blocks": [{"type": "thoughts", "text": "t"}, {"type": "response", "text": "r"}]}}, USER],
    # Calls.
    [USER, call(), TOOL, TOOL], [USER, call(content=""), TOOL, DONE, USER], [USER, call(content="let me see", reasoning_content="think\n"), TOOL], [SYSTEM, USER, call(called('{"x": 1}')), TOOL, DONE],
    [USER, call(called(MANY, "get_weather")), TOOL], [USER, call(called({})), TOOL], [USER, call(called("")), TOOL], [USER, call(called("not json")), TOOL], [USER, call(called(None)), TOOL],
    [USER, call(called({"x": 1}), called({"city": "Oslo"}, "get_weather", id="fed321cba")), TOOL, {**TOOL, "content": "-3 \u00b0C", "name": "get_weather", "tool_call_id": "fed321cba"}, DONE, USER],
    [USER, without(call(called({"x": [1, {"y": "z"}]})), "content"), TOOL], [USER, call(without(called({"x": 1}), "id")), without(TOOL, "tool_call_id", "name")], [USER, call(without(called({"x": 1}), "type")), without(TOOL, "name")],
    [USER, call({"name": "f", "arguments": {"x": 1}}), TOOL], [USER, {"role": "assistant", "content": "x", "tool_calls": []}, USER], [USER, call(called({"x": 1}, id="short")), {**TOOL, "tool_call_id": "short"}],
    [USER, call(), {**TOOL, "content": [{"type": "text", "text": "part"}, {"type": "text", "text": "s"}]}], [USER, call(), {**TOOL, "content": {"t": 1.0, "ok": True}}], [USER, call(), {**TOOL, "content": [1, "a"]}], [USER, call(), {**TOOL, "content": ""}],
    [USER, call(), {**TOOL, "content": None}], [USER, call(), {"role": "ipython", "content": {"output": "1"}}], [USER, call(), {"role": "function", "name": "f", "content": "1"}], [USER, call(), {**TOOL, "content": '{"a": [1, 2]}'}, call(), TOOL],
    [USER, call(), TOOL, USER, call(reasoning_content="again"), TOOL, {"role": "assistant", "content": "end", "reasoning_content": "so"}], [USER, call(tool_plan="I plan"), TOOL], [USER, call(), USER],
    [USER, call(), {"role": "tool", "tool_call_id": "nobody", "content": "x"}], [call()], [USER, call(called({"x": 1}), content=PARTS), TOOL], [USER, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}],
    [USER, {"role": "assistant", "content": "c", "tool_responses": [{"name": "f", "response": {"a": 1}}], "tool_calls": [called({"x": 1})]}], [],
]
PLAIN = [{"add_generation_prompt": True, "tools": None, "documents": None}, {"add_generation_prompt": False, "tools": [SUM], "documents": None}]
DOCUMENTS = [{"title": "t", "text": "x", "doc_id": 1}, {"title": "\u4e16", "contents": "y", "source": "s"}]
SETTINGS = [
    {"tools": [SUM, DEEP]}, {"tools": [DEEP], "enable_thinking": False}, {"tools": [BARE, NO_PARAMETERS]}, {"tools": [FLAT]}, {"tools": [SUM, FLAT], "tool_choice": "auto"}, {"tools": []}, {"tools": {"f": SUM}},
    {"enable_thinking": True}, {"enable_thinking": False}, {"enable_thinking": None}, {"enable_thinking": False, "tools": [SUM]}, {"thinking": True}, {"thinking": False, "tools": [DEEP]}, {"enable_thinking": True, "drop_thinking": False, "clear_thinking": False},
    {"reasoning_effort": "high"}, {"reasoning_effort": "none"}, {"reasoning_effort": "max", "thinking": True}, {"reasoning_effort": "odd"}, {"thinking_budget": 0}, {"thinking_budget": 512}, {"thinking_budget": -1}, {"truncate_history_thinking": False}, {"preserve_thinking": True},
    {"documents": DOCUMENTS}, {"documents": DOCUMENTS, "tools": [SUM], "citations": True, "controls": {"citations": True, "hallucinations": True, "length": "short"}}, {"documents": []}, {"controls": {"length": "long", "originality": "abstractive"}},
    {"builtin_tools": ["python", "browser"], "model_identity": "I am T."}, {"builtin_tools": ["wolfram_alpha", "code_interpreter"], "tools_in_user_message": False, "tools": [SUM, DEEP]}, {"builtin_tools": ["browser"], "tools": [DEEP]},
    {"date_string": "1 Jan 2026"}, {"datetime": "Jan 1", "functions": '[{"name": "f"}]'}, {"custom_tools": [SUM], "tools": None}, {"system_message": "given"}, {"system_prompt": "given", "developer_instructions": "d"},
    {"xml_tools": [SUM]}, {"python_tools": ["def f(): pass"]}, {"keep_past_thinking": True}, {"add_vision_id": True}, {"continue_final_message": True}, {"bos_token": "", "eos_token": ""}, {"response_format": {"type": "json_object"}},
    {"safety_mode": "NONE", "grounding": "ENABLED"}, {"skip_preamble": True, "skip_thinking": True}, {"enable_citations": True, "enable_thinking": True, "tools": [DEEP]}, {"deliberation": True, "enable_deliberation": True, "tools": [SUM]}, {"add_think": True, "is_training": True, "training_prompt": True},
    {"use_json_tooldef": True, "tools": [SUM]}, {"environment": "ipython", "tools": [SUM]}, {"mcp_servers": [], "defer_loading": True},
]
# Those that a setting may show in: with and without calls, reasoning and a prompt for the answer.
FEW = [[SYSTEM, USER], [USER, {"role": "assistant", "content": "a", "reasoning_content": "r"}, {"role": "user", "content": [*PARTS, {"type": "image"}]}],
       [SYSTEM, USER, call(called({"x": 1}), reasoning_content="r", content="c"), TOOL, {"role": "assistant", "content": "<think>m</think>done"}], [USER, call(called(MANY, "get_weather")), TOOL]]


def contexts(conversations=None):
    out = []
    for messages in conversations or CONVERSATIONS:
        out += [{"messages": messages, "bos_token": "<s>", "eos_token": "</s>", **s} for s in PLAIN]
    if conversations is None:
        for setting in SETTINGS:
            for messages in FEW:
                out += [{"messages": messages, "bos_token": "<s>", "eos_token": "</s>", "documents": None, "tools": None, "add_generation_prompt": ask, **setting} for ask in (True, False)]
        out.append({"messages": [USER]})  # as jinja2 alone: nothing else is defined
    return copy.deepcopy(out)
