// The tests of jinja2: what may stand after `is`, and in select() and its kin.
#include <map>

#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

using Test = bool (*)(Machine& m, const Value& v, const Value* arg);

// 0, 1 or another; of a text, which % fills in, another.
int64_t remainder(Machine& m, const Value& v, const Value& by) {
  const Value r = binary(m, "%", v, by);
  if (!r.is_number()) return 2;
  return r.is(Kind::kFloat) ? (r.f == 0 ? 0 : r.f == 1 ? 1 : 2) : r.i;
}
template <int kSign, bool kOrEqual>
bool ordered(Machine& m, const Value& v, const Value* arg) {
  const int c = compare(m.meter, v, *arg, kSign < 0 ? (kOrEqual ? "<=" : "<") : (kOrEqual ? ">=" : ">"));
  return c == kSign || (kOrEqual && c == 0);
}
bool test_equal(Machine& m, const Value& v, const Value* arg) { return equal(m.meter, v, *arg); }
bool test_unequal(Machine& m, const Value& v, const Value* arg) { return !equal(m.meter, v, *arg); }

struct Entry {
  bool takes_argument;
  Test test;
};
const std::map<std::string, Entry>& tests() {
  static const std::map<std::string, Entry> kTests = {
      {"!=", {true, test_unequal}},
      {"<", {true, ordered<-1, false>}},
      {"<=", {true, ordered<-1, true>}},
      {"==", {true, test_equal}},
      {">", {true, ordered<1, false>}},
      {">=", {true, ordered<1, true>}},
      {"boolean", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kBool); }}},
      {"callable",
       {false,
        [](Machine&, const Value& v, const Value*) {
          return v.is(Kind::kMacro) || v.is(Kind::kGlobal) || v.is(Kind::kMethod) || v.is(Kind::kLoop) ||
                 v.is(Kind::kJoiner) || v.is(Kind::kUndefined);
        }}},
      {"defined", {false, [](Machine&, const Value& v, const Value*) { return !v.is(Kind::kUndefined); }}},
      {"divisibleby", {true, [](Machine& m, const Value& v, const Value* arg) { return remainder(m, v, *arg) == 0; }}},
      {"eq", {true, test_equal}},
      {"equalto", {true, test_equal}},
      {"even",
       {false, [](Machine& m, const Value& v, const Value*) { return remainder(m, v, Value::integer(2)) == 0; }}},
      {"false", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kBool) && !v.i; }}},
      {"filter",
       {false, [](Machine& m, const Value& v, const Value*) { return is_filter(to_str(m.meter, v).bytes()); }}},
      {"float", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kFloat); }}},
      {"ge", {true, ordered<1, true>}},
      {"greaterthan", {true, ordered<1, false>}},
      {"gt", {true, ordered<1, false>}},
      {"in", {true, [](Machine& m, const Value& v, const Value* arg) { return contains(m.meter, *arg, v); }}},
      {"integer", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kInt); }}},
      {"iterable",
       {false,
        [](Machine&, const Value& v, const Value*) {
          return v.has_items() || v.is(Kind::kString) || v.is(Kind::kDict) || v.is(Kind::kLoop) ||
                 v.is(Kind::kUndefined);
        }}},
      {"le", {true, ordered<-1, true>}},
      {"lessthan", {true, ordered<-1, false>}},
      {"lower",
       {false, [](Machine& m, const Value& v, const Value*) { return is_lower_text(to_str(m.meter, v).view()); }}},
      {"lt", {true, ordered<-1, false>}},
      {"mapping", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kDict); }}},
      {"ne", {true, test_unequal}},
      {"none", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kNone); }}},
      {"number", {false, [](Machine&, const Value& v, const Value*) { return v.is_number(); }}},
      {"odd",
       {false, [](Machine& m, const Value& v, const Value*) { return remainder(m, v, Value::integer(2)) == 1; }}},
      {"sameas",
       {true, [](Machine&, const Value& v,
                 const Value* arg) { return v.kind == arg->kind && (v.ref ? v.ref == arg->ref : v.i == arg->i); }}},
      {"sequence",
       {false,
        [](Machine&, const Value& v, const Value*) {
          return v.is_seq() || v.is(Kind::kRange) || v.is(Kind::kString) || v.is(Kind::kDict) || v.is(Kind::kUndefined);
        }}},
      {"string", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kString); }}},
      {"test", {false, [](Machine& m, const Value& v, const Value*) { return is_test(to_str(m.meter, v).bytes()); }}},
      {"true", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kBool) && v.i; }}},
      {"undefined", {false, [](Machine&, const Value& v, const Value*) { return v.is(Kind::kUndefined); }}},
      {"upper",
       {false, [](Machine& m, const Value& v, const Value*) { return is_upper_text(to_str(m.meter, v).view()); }}},
  };
  return kTests;
}

}  // namespace

bool is_test(const std::string& name) { return tests().count(name); }

bool apply_test(Machine& m, const std::string& name, const Value& v, const Args& args) {
  m.meter.step();
  const auto at = tests().find(name);
  if (at == tests().end()) fail(fmt::format("No test named '{}'.", name));
  const Entry& entry = at->second;
  const Bound bound("test '" + name + "'", args,
                    entry.takes_argument ? std::vector<const char*>{"other"} : std::vector<const char*>{},
                    entry.takes_argument);
  return entry.test(m, v, entry.takes_argument ? bound[0] : nullptr);
}

}  // namespace fovea::tokenizers::jinja
