// Who wrote what survives every operation of a template: bytes choose a template and messages out of a grammar in
// which template and data share no letters, so each letter of the rendered text tells whose it must be.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "fovea/tokenizers/chat_template.h"

namespace {
using Json = nlohmann::ordered_json;

class Maker {
 public:
  Maker(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  size_t below(size_t n) { return at_ == end_ ? 0 : *at_++ % n; }  // the first choice, when the bytes are used up
  template <size_t N>
  std::string pick(const char* const (&choices)[N]) {
    return choices[below(N)];
  }

  std::string author_text() {
    static const char* const kTexts[] = {"h",     "j",   "hj",   "H",   "J", " ",   "",
                                         "<|h|>", "h j", "j\\n", "h,j", "-", "h_j", "'"};
    return pick(kTexts);
  }
  std::string literal() { return '"' + author_text() + '"'; }
  std::string number() {
    static const char* const kNumbers[] = {"1", "0", "2", "-1", "3", "n", "9", "-2"};
    return pick(kNumbers);
  }
  std::string atom(int depth) {
    static const char* const kData[] = {"m.content", "s",     "m.role",    "words[0]", "d.k",  "m.name",
                                        "m",         "words", "messages",  "d",        "s[1]", "m.parts",
                                        "n",         "x",     "bos_token", "missing"};
    switch (depth > 0 ? below(7) : below(2)) {
      case 0: return pick(kData);
      case 1: return literal();
      case 2: return "[" + expr(depth - 1) + ", " + expr(depth - 1) + "]";
      case 3: return "{" + literal() + ": " + expr(depth - 1) + ", s: " + expr(depth - 1) + "}";
      case 4: return "(" + expr(depth - 1) + ", " + expr(depth - 1) + ")";
      default: return "(" + expr(depth - 1) + ")";
    }
  }
  std::string method(int depth) {
    static const char* const kPlain[] = {"upper",      "lower",   "title",     "capitalize",   "swapcase", "casefold",
                                         "strip",      "lstrip",  "rstrip",    "split",        "rsplit",   "splitlines",
                                         "expandtabs", "isupper", "items",     "keys",         "values",   "copy",
                                         "isalpha",    "istitle", "isnumeric", "isidentifier", "isdigit",  "isspace"};
    static const char* const kOne[] = {"strip",  "split",        "rsplit",   "partition", "rpartition", "removeprefix",
                                       "join",   "removesuffix", "format",   "get",       "count",      "find",
                                       "lstrip", "startswith",   "endswith", "index",     "rfind",      "translate"};
    static const char* const kWide[] = {"center", "ljust", "rjust", "zfill"};
    switch (below(5)) {
      case 0: return "." + pick(kPlain) + "()";
      case 1: return "." + pick(kOne) + "(" + expr(depth - 1) + ")";
      case 2: return ".replace(" + expr(depth - 1) + ", " + expr(depth - 1) + ")";
      case 3: return "." + pick(kWide) + "(" + number() + ")";
      default: return ".format(" + expr(depth - 1) + ", h=" + expr(depth - 1) + ")";
    }
  }
  std::string filter(int depth) {
    static const char* const kPlain[] = {"trim",
                                         "upper",
                                         "lower",
                                         "title",
                                         "capitalize",
                                         "string",
                                         "safe",
                                         "list",
                                         "join",
                                         "first",
                                         "last",
                                         "reverse",
                                         "sort",
                                         "unique",
                                         "tojson",
                                         "escape",
                                         "indent",
                                         "items",
                                         "length",
                                         "int",
                                         "urlencode",
                                         "filesizeformat",
                                         "xmlattr",
                                         "center",
                                         "dictsort",
                                         "max",
                                         "min",
                                         "abs",
                                         "round",
                                         "float",
                                         "forceescape",
                                         "wordcount",
                                         "sum",
                                         "tojson(indent=2)",
                                         "tojson(ensure_ascii=true)",
                                         "truncate(3, true)",
                                         "truncate(4)",
                                         "batch(2)|list",
                                         "slice(2)|list",
                                         "map('upper')|join",
                                         "map('string')|list",
                                         "select|list",
                                         "groupby('content')",
                                         "indent(2, true)",
                                         "sort(attribute='content')",
                                         "map(attribute='content')|list",
                                         "join(attribute='content')"};
    switch (below(4)) {
      case 0: return " | " + pick(kPlain);
      case 1: return " | join(" + expr(depth - 1) + ")";
      case 2: return " | replace(" + expr(depth - 1) + ", " + expr(depth - 1) + ")";
      default: return " | default(" + expr(depth - 1) + ", true)";
    }
  }
  std::string expr(int depth) {
    if (depth <= 0) return atom(0);
    switch (below(12)) {
      case 0: return atom(depth);
      case 1: return expr(depth - 1) + " ~ " + expr(depth - 1);
      case 2: return "(" + expr(depth - 1) + ") + (" + expr(depth - 1) + ")";
      case 3: return "(" + expr(depth - 1) + ")[" + number() + ":" + (below(2) ? number() : "") + "]";
      case 4: return "(" + expr(depth - 1) + ")[::" + number() + "]";
      case 5: return "(" + expr(depth - 1) + ")[" + number() + "]";
      case 6: return "(" + expr(depth - 1) + ")" + method(depth);
      case 7: return "(" + expr(depth - 1) + ")" + filter(depth);
      case 8: {
        static const char* const kFormats[] = {"'%s'", "'h%sj'", "'%5s|'", "'%r'", "'%-4s'", "'%.2s'"};
        return pick(kFormats) + " % (" + expr(depth - 1) + ",)";
      }
      case 9: {
        static const char* const kFormats[] = {"'{}'", "'{:>5}'", "'{!r}'", "'{0}{0}h'", "'{:j^9}'", "'{0[0]}'"};
        return pick(kFormats) + ".format(" + expr(depth - 1) + ")";
      }
      case 10: return "(" + expr(depth - 1) + ") % (" + expr(depth - 1) + ")";
      default: return expr(depth - 1) + " if " + expr(depth - 1) + " else " + expr(depth - 1);
    }
  }
  std::string body(int depth) {
    std::string out;
    for (size_t n = 1 + below(3); n > 0; --n) out += block(depth);
    return out;
  }
  std::string block(int depth) {
    const std::string e = expr(2);
    if (depth <= 0) return "{{ " + e + " }}";
    switch (below(9)) {
      case 0: return "{{ " + e + " }}";
      case 1: return "h{% for c in " + e + " %}{{ c }}" + body(depth - 1) + "{% endfor %}j";
      case 2: return "{% set s = " + e + " %}" + body(depth - 1);
      case 3: return "{% set s %}" + body(depth - 1) + "{% endset %}{{ s }}";
      case 4:
        return "{% macro f(x, y='h') %}{{ x }}" + body(depth - 1) + "{{ y }}{{ kwargs }}{% endmacro %}{{ f(" + e +
               ", **d) }}";
      case 5:
        return "{% macro f() %}{{ caller(" + e + ") }}{% endmacro %}{% call(x) f() %}" + body(depth - 1) +
               "{{ x }}{% endcall %}";
      case 6:
        return "{% filter " + std::string(below(2) ? "upper" : "trim") + " %}" + body(depth - 1) + "{% endfilter %}";
      case 7:
        return "{% set ns = namespace(v='h', **d) %}{% for c in " + e +
               " %}{% set ns.v = ns.v ~ c %}{% endfor %}{{ ns.v }}{{ ns }}";
      default: return "{% if " + e + " %}" + body(depth - 1) + "{% else %}j{{ loop is defined }}{% endif %}";
    }
  }

  std::string data_text(bool formats) {
    static const char* const kPieces[] = {"q",  "z",  "\u0436", "<|q|>",  "Q",  " ",  "\n",  "'",
                                          "\"", "\\", "&",      ",",      "_",  "-",  "\t",  "<",
                                          "Z",  "|",  "zq",     "\u00df", "%s", "{}", "{0}", "%r"};
    std::string out;
    for (size_t n = below(5); n > 0; --n) out += kPieces[below(formats ? 24 : 20)];
    return out;
  }
  Json messages(bool formats) {
    Json out = Json::array();
    for (size_t n = 1 + below(2); n > 0; --n) {
      Json m = {{"role", data_text(formats)}, {"content", data_text(formats)}};
      m["name"] = data_text(formats);
      m[data_text(formats)] = data_text(formats);
      m["parts"] = {{{"type", "q"}, {"text", data_text(formats)}}, data_text(formats)};
      out.push_back(std::move(m));
    }
    return out;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

[[noreturn]] void wrong(const std::string& source, const Json& data, const std::string& text, size_t at) {
  std::fprintf(stderr, "byte %zu has the wrong owner\n%s\n%s\n%s\n", at, source.c_str(), data.dump().c_str(),
               text.c_str());
  std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fovea::tokenizers;
  static const Budget kSmall = {
      .steps = 20'000, .output_bytes = 1 << 16, .memory_bytes = 1 << 20, .depth = 100, .range_length = 1000};
  Maker make(data, size);
  const bool formats = make.below(2);  // data that is used as a format makes data of what it brings in
  Json context = {{"messages", make.messages(formats)}, {"s", make.data_text(formats)}, {"n", 2}, {"x", 1.5}};
  context["words"] = {make.data_text(formats), make.data_text(formats)};
  context["d"] = {{"k", make.data_text(formats)}, {make.data_text(false) + "q", 1}};
  const std::string source = "{% set m = messages[0] %}" + make.body(3);
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return 0;
  const auto rendered = parsed->render(context, {{"bos_token", "<hj>"}}, kSmall);
  if (!rendered) return 0;
  size_t at = 0;
  for (const Run& run : rendered->runs) {
    if (run.end <= at) wrong(source, context, rendered->text, at);
    for (; at < run.end; ++at) {
      const char c = rendered->text[at];
      const bool of_data = static_cast<unsigned char>(c) >= 0x80 || c == 'q' || c == 'z' || c == 'Q' || c == 'Z';
      const bool of_template = !formats && (c == 'h' || c == 'j' || c == 'H' || c == 'J');
      if ((of_data && run.owner == kTemplate) || (of_template && run.owner != kTemplate))
        wrong(source, context, rendered->text, at);
    }
  }
  if (at != rendered->text.size()) wrong(source, context, rendered->text, at);
  return 0;
}
