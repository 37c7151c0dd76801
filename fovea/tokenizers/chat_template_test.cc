#include "fovea/tokenizers/chat_template.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <map>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace chat_template_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

Result<std::string> rendered(const std::string& source, const Json& context = Json::object(),
                             const Budget& budget = {}) {
  const auto t = ChatTemplate::parse(source);
  if (!t) return t.error();
  auto r = t->render(context, Json::object(), budget);
  if (!r) return r.error();
  return std::move(r->text);
}
std::string text_of(const std::string& source, const Json& context = Json::object()) {
  const auto r = rendered(source, context);
  EXPECT_TRUE(r.has_value()) << source << "\n" << (r ? "" : r.error().message);
  return r ? *r : "";
}
Error refused(const std::string& source, const Json& context = Json::object(), const Budget& budget = {}) {
  const auto r = rendered(source, context, budget);
  EXPECT_FALSE(r.has_value()) << source << "\nrendered: " << (r ? r->substr(0, 200) : "");
  return r ? Error{} : r.error();
}

TEST(ChatTemplate, RendersAsJinja2Does) {
  std::ifstream file(source_dir() + "/tests/golden/templates.json");
  const Json golden = Json::parse(file);
  int n_rendered = 0;
  for (const auto& c : golden["cases"]) {
    const auto r = rendered(c["template"].get<std::string>(), c.contains("context") ? c["context"] : golden["context"]);
    ASSERT_EQ(r.has_value(), c.contains("expected")) << c["template"] << (r ? *r : r.error().message);
    if (r) {
      EXPECT_EQ(*r, c["expected"].get<std::string>()) << c["template"];
      ++n_rendered;
    } else {
      EXPECT_EQ(r.error().code, ErrorCode::kData) << c["template"];
      if (c["same_words"] == true) {
        EXPECT_EQ(r.error().message, c["error"].get<std::string>()) << c["template"];
      }
    }
  }
  EXPECT_GE(n_rendered, 100);
}

// Templates with what those of the families in use need: tools, reasoning, switches, dates, documents, macros that call
// themselves, roles that must alternate.
TEST(ChatTemplate, RendersThoseOfFamiliesAsJinja2Does) {
  std::ifstream file(source_dir() + "/tests/golden/family_templates.json");
  const Json golden = Json::parse(file);
  std::map<std::string, std::string> sources;
  int n_rendered = 0;
  for (const auto& c : golden["cases"]) {
    const auto name = c["template"].get<std::string>();
    std::string& source = sources[name];
    if (source.empty()) {
      source = read_file(source_dir() + "/tests/data/templates/" + name).value();
      for (size_t at = source.find("strftime_now("); at != source.npos; at = source.find("strftime_now(", at))
        source.replace(at, source.find(')', at) + 1 - at, "'1 Jan 2026'");  // as the golden has it
    }
    Json context = golden["extras"][c["extra"].get<size_t>()];
    context["messages"] = golden["messages"][c["messages"].get<size_t>()];
    const auto r = rendered(source, context);
    ASSERT_EQ(r.has_value(), !c["expected"].is_null()) << name << context << (r ? *r : r.error().message);
    if (r) {
      EXPECT_EQ(*r, c["expected"].get<std::string>()) << name << context;
      ++n_rendered;
    } else {
      EXPECT_EQ(r.error().code, ErrorCode::kData) << name;
    }
  }
  EXPECT_EQ(sources.size(), 9u);
  EXPECT_GE(n_rendered, 200);
}

TEST(ChatTemplate, SyntaxErrorsNameTheLine) {
  for (const auto& [source, message] :
       {std::pair{"a\n{% if x %}", "line 2: 'endif' is missing"},
        std::pair{"\n\n{{ 'a }}", "line 3: a string is never closed"},
        std::pair{"{% include 'x' %}", "line 1: 'include' is not allowed"},
        std::pair{"{{ a | nope }}", "line 1: No filter named 'nope'."},
        std::pair{"{{ 99999999999999999999 }}", "line 1: an integer does not fit 64 bits"}}) {
    const Error e = refused(source);
    EXPECT_EQ(e.code, ErrorCode::kData) << source;
    EXPECT_THAT(e.message, HasSubstr(message));
  }
}

TEST(ChatTemplate, UnknownFiltersAndTestsFailOnlyWhereTheyRun) {
  EXPECT_EQ(text_of("{% if tools %}{{ tools | from_json }}{{ 1 is notest }}{% endif %}ok"), "ok");
  EXPECT_THAT(refused("a\n{{ 1 | from_json }}").message, HasSubstr("line 2: No filter named 'from_json'."));
  EXPECT_THAT(refused("{{ 1 is notest }}").message, HasSubstr("No test named 'notest'."));
  for (const char* name : {"pprint", "random", "striptags", "urlize", "wordwrap"})
    EXPECT_THAT(refused(fmt::format("{{{{ 'a' | {} }}}}", name)).message, HasSubstr("is not done here")) << name;
  EXPECT_THAT(refused("{% autoescape true %}{% endautoescape %}").message, HasSubstr("autoescape is refused"));
}

TEST(ChatTemplate, MessagesAreValidUtf8WhateverTheTemplateIs) {
  EXPECT_THAT(refused("{{ \u20ac }}").message, HasSubstr("unexpected character '\u20ac'"));
  for (const char* source : {"{{ \xC3 }}", "{{ a \xFF }}", "{{ x.\xE2\x82 }}", "{% \xF0\x9F %}",
                             "{{ raise_exception('\xC3') }}", "{{ d['\xC3'].x }}", "{{ 'a' | \xC3 }}"}) {
    const Error e = refused(source);
    EXPECT_TRUE(is_utf8(e.message)) << source;
    EXPECT_EQ(e.code, ErrorCode::kData) << source;
  }
}

// Against Python's own words: each character alone, and the rules that look around.
TEST(ChatTemplate, CasesOfLettersAreThoseOfUnicode) {
  EXPECT_EQ(text_of("{{ '\u039f\u0394\u039f\u03a3.'.lower() }}|{{ '\u03a3' | lower }}|{{ 'a\u03a3\u0301b'.lower() }}"),
            "\u03bf\u03b4\u03bf\u03c2.|\u03c3|a\u03c3\u0301b");
  EXPECT_EQ(text_of("{{ '\ufb03'.upper() }}{{ '\ufb03'.title() }}{{ '\u1f80'.upper() }}"), "FFIFfi\u1f08\u0399");
}

std::string owners(const Rendered& r) {  // t: the template's, d: data, 0, 1, ...: the content of that message
  std::string out;
  for (const Run& run : r.runs) {
    const char c = run.owner == kTemplate ? 't'
                   : run.owner == kData   ? 'd'
                                          : static_cast<char>('0' + run.owner - kContent);
    out.resize(run.end, c);
  }
  return out;
}
TEST(ChatTemplate, SaysWhoWroteEachByte) {
  const auto owned = [](const std::string& source) {
    const Json data = {{"messages", {{{"role", "user"}, {"content", "ab"}}, {{"role", "mine"}, {"content", "cd"}}}},
                       {"s", "xy"},
                       {"n", 7}};
    const auto r = ChatTemplate::parse(source)->render(data, {{"bos_token", "<s>"}});
    EXPECT_TRUE(r.has_value()) << source << (r ? "" : r.error().message);
    return r ? r->text + " " + owners(*r) : "";
  };
  EXPECT_EQ(owned("{{ bos_token }}{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"),
            "<s>userabminecd ttttttt00dddd11");
  EXPECT_EQ(owned("{{ (messages[0].content ~ s)[1:3] | upper }}{{ n + 1 }}{{ 1 + 1 }}"), "BX82 0ddt");
  EXPECT_EQ(owned("{{ [s, 'q'] }}{{ s | tojson }}"), "['xy', 'q']\"xy\" tddddttttttdddd");
  EXPECT_EQ(owned("{{ s.partition('x')[1] }}{{ s.replace('x', '-') }}{{ '%s|%s' % (s, 'a') }}"), "x-yxy|a dtdddtt");
  EXPECT_EQ(owned("{{ 'a-b'.split('-') | join(s) }}"), "axyb tddt");
  EXPECT_EQ(owned(""), " ");
}

// Every text but for roles and types as `word`.
Json spelling(const Json& value, const std::string& word) {
  if (value.is_string()) return word;
  if (!value.is_structured()) return value;
  Json out = value;
  for (auto& [key, element] : out.items()) {
    if (!value.is_object() || !element.is_string() || (key != "role" && key != "type"))
      element = spelling(element, word);
  }
  return out;
}
std::string own_text(const Rendered& r) {  // each stretch of data as one NUL
  std::string out;
  size_t begin = 0;
  for (const Run& run : r.runs) {
    if (run.owner == kTemplate)
      out.append(r.text, begin, run.end - begin);
    else if (out.empty() || out.back() != '\0')
      out += '\0';
    begin = run.end;
  }
  return out;
}
TEST(ChatTemplate, TextsThatSpellTokensLeaveTheTemplatesOwnTextAsItIs) {
  std::ifstream file(source_dir() + "/tests/golden/templates.json");
  const Json golden = Json::parse(file);
  int n_pairs = 0;
  for (const auto& c : golden["cases"]) {
    if (!c.contains("context")) continue;
    const auto t = ChatTemplate::parse(c["template"].get<std::string>());
    ASSERT_TRUE(t.has_value());
    for (const auto& [evil, inert] : {std::pair{"<|im_end|>", "<|qqqqqq|>"}, std::pair{"<|eot_id|>", "<|qqqqqq|>"},
                                      std::pair{"<end_of_turn>", "<qqqqqqqqqqq>"}, std::pair{"</s>", "<qq>"}}) {
      const Json own = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
      std::vector<std::string> texts;
      for (const char* word : {evil, inert}) {
        Json context = c["context"];
        for (const char* name : {"messages", "tools"}) context[name] = spelling(context[name], word);
        for (const char* name : {"bos_token", "eos_token"}) context.erase(name);
        const auto r = t->render(context, own);
        texts.push_back(r ? own_text(*r) : "refused");
        if (r) {
          EXPECT_EQ(own_text(*r).find(inert), std::string::npos) << c["template"];
        }
      }
      EXPECT_EQ(texts[0], texts[1]) << evil << c["template"];
      n_pairs += texts[0] != "refused";
    }
  }
  EXPECT_GE(n_pairs, 100);
}

TEST(ChatTemplate, IntegersOverSixtyFourBitsAreRefusedNotWrapped) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}", "{{ 4611686018427387904 * 2 }}",
        "{{ 2 ** 63 }}", "{{ 1e30 | int }}", "{{ '99999999999999999999' | int }}",
        "{{ (-9223372036854775807 - 1) | abs }}", "{{ -(-9223372036854775807 - 1) }}",
        "{{ (-9223372036854775807 - 1) // -1 }}", "{{ '%d' % 1e30 }}"}) {
    EXPECT_EQ(refused(source).code, ErrorCode::kLimit) << source;
  }
  EXPECT_EQ(refused("{{ x }}", {{"x", 18446744073709551615u}}).code, ErrorCode::kLimit);
  EXPECT_EQ(text_of("{{ -9223372036854775807 - 1 }}{{ (-9223372036854775807 - 1) % -1 }}"), "-92233720368547758080");
}

TEST(ChatTemplate, NestedMacrosSeeTheLocalsAroundThem) {
  EXPECT_EQ(text_of("{% macro a(x) %}{% macro b() %}{{ x }}{% endmacro %}{{ b() }}{% endmacro %}{{ a(1) }}{{ a(2) }}"),
            "12");
  // Also when the inner one outlives the call that made it.
  EXPECT_EQ(text_of("{% set ns = namespace() %}{% macro a(x) %}{% macro b() %}{{ x }}{% endmacro %}{% set ns.f = b "
                    "%}{% endmacro %}"
                    "{{ a(1) }}{{ ns.f() }}"),
            "1");
}

TEST(ChatTemplate, ValuesThatHoldThemselvesEndWithTheRender) {  // no leak: seen under asan
  EXPECT_EQ(text_of("{% set ns = namespace() %}{% set ns.a = [ns] %}{% set ns.b = {'n': ns} %}ok"), "ok");
  EXPECT_EQ(refused("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}").code, ErrorCode::kLimit);
  EXPECT_EQ(text_of("{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}{% set x = loop.changed(loop) "
                    "%}{% endfor %}"
                    "{% set y = ns.l.changed([ns.l]) %}ok"),
            "ok");
}

// Row T9 of the bad inputs. Each ends in a sentence, soon and in bounded memory.
TEST(ChatTemplate, T9HostileTemplatesEndWithinTheirBudget) {
  const std::string big = "{% set s = 'a' * 1000000 %}", list = "{% set ns = namespace(l=[1]) %}";
  const std::string doubled = list + "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
  const std::vector<std::string> cases = {
      "{% for i in range(1000000000) %}{% endfor %}",                                    // a range of 10^9
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",  // no end in sight
      "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",  // recursion
      "{% macro f(x) %}{{ f(f(x)) }}{% endmacro %}{{ f(1) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{{ 'a' * 10000000000 }}",
      "{{ [1] * 10000000000 }}",
      "{{ 'a' * 9223372036854775807 }}",
      big + "{{ s | replace('a', s) }}",
      big + "{{ s.replace('', s) }}",
      big + "{{ s | tojson * 500 }}",
      big + "{{ (s.replace('a', '\\n')) | indent(1000, blank=true) }}",
      big + "{{ '\\n' * 1000000 | indent(9223372036854775807, true) }}",
      "{{ ('<' * 30000000) | escape }}",
      big + "{{ [s, s] | join(s) * 200 }}",
      big + "{{ s.join(s) }}",
      "{{ '%9999999999d' % 1 }}",
      "{{ '{:9999999999}'.format(1) }}",
      "{{ 'a'.center(9999999999) }}",
      "{{ 'a'.zfill(9223372036854775807) }}",
      "{{ [1] | batch(9223372036854775807, 0) | list }}",
      "{{ [1] | slice(9223372036854775807) | list }}",
      "{{ {'a': [1, 2, 3]} | tojson(indent=999) * 999999 }}",
      doubled + "{{ ns.l }}",
      doubled + "{{ ns.l == ns.l }}",
      doubled + "{{ ns.l | tojson }}",
      doubled + "{{ ns.l < ns.l }}",
      list + "{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",  // doubles itself
      list +
          "{% set m = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% set m.l = [m.l, m.l] "
          "%}{% endfor %}{{ ns.l == m.l }}",
      list + "{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
      list + "{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}",  // deeper than the stack
      list + "{% for i in range(99999) %}{% set ns.l = [ns.l.copy] %}{% endfor %}",
      list + "{% for i in range(99999) %}{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      big + "{% for i in range(99999) %}{{ s == s ~ '' }}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = s[500000] %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = 'b' in s %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = s.count('aab') %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = s | length %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = s.strip('a') %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = (s ~ 'b').rfind(s) %}{% endfor %}",
      big + "{% for i in range(99999) %}{% set x = s | int %}{% endfor %}",
      big + "{% for c in s %}{% endfor %}{% for c in s %}{% endfor %}",
      big + "{{ (s ~ ' ') | list | length }}{{ s[::-1] }}{{ s | list | sort }}",
      "{{ range(100000) | list | sort | unique | list }}",
      "{% for i in range(99999) %}{% set x = range(99999) %}{% endfor %}",
      "{% for i in range(99999) %}{% macro m() %}{% endmacro %}{% set x = namespace(a=m) %}{% set x = range(999) %}{% "
      "endfor %}",
      "{{ strftime_now('%c' * 1000) }}",
      "{{ ('\\t' * 1000).expandtabs(9223372036854775807) }}",
      "{{ cycler(*range(100000)).next() }}{% set c = namespace(v=1) %}{% for i in range(99999) %}{% set c.v = "
      "cycler(c.v) "
      "%}{% endfor %}",
      "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
      // Stretches of two owners in turn cost more than their bytes.
      "{% set ns = namespace(s=messages[0] ~ 'a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{{ (messages[0] ~ 'a') * 10000000 }}",
      "{% for i in range(99999) %}{{ '%s' % ('a' * 9999) | title | lower | upper }}{% endfor %}",
      "{{ messages | map('map', 'map') | list }}",
      std::string(300, '(') + "1" + std::string(300, ')'),
      "{{ " + std::string(5000, '-') + "1 }}",
      "{{ 1" + std::string(5000, ' ') +
          [] {
            std::string s;
            for (int i = 0; i < 5000; ++i) s += "+1";
            return s;
          }() +
          " }}",
  };
  // A tenth of the default, so that the test is quick; the costliest few run with the default too.
  const Budget tenth{.steps = 200'000, .output_bytes = 1 << 20, .memory_bytes = 12 << 20};
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string source = cases[i][0] == '(' ? "{{ " + cases[i] + " }}" : cases[i];
    const auto began = std::chrono::steady_clock::now();
    EXPECT_FALSE(refused(source, {{"messages", {1, 2}}}, i % 16 == 1 ? Budget{} : tenth).message.empty());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    EXPECT_LT(took.count(), 60) << source.substr(0, 200);  // about 1 s at most; far more where it has no bound
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 2'000'000) << "KiB; 0.3 GB here, more under asan, which keeps what is freed";
}

}  // namespace chat_template_test
}  // namespace fovea::tokenizers
