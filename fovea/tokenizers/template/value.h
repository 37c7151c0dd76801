// Values of the chat-template interpreter, and what they cost; private to tokenizers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/chat_template.h"
#include "fovea/tokenizers/template/str.h"

namespace fovea::tokenizers::jinja {

// Thrown inside the interpreter only; ChatTemplate turns it into an Error.
struct Failure {
  ErrorCode code;
  std::string message;
};
[[noreturn]] void fail(std::string message);
[[noreturn]] void fail_limit(std::string message);

// Counts what a render uses; every loop over a value's size and every copy passes through it first.
class Meter {
 public:
  explicit Meter(const Budget& budget) : left_(budget) {}
  void step(int64_t n = 1) {
    if ((left_.steps -= n) < 0) fail_limit("chat template: it runs for too many steps");
  }
  void scan(size_t bytes) { step(1 + static_cast<int64_t>(bytes / 32)); }  // bytes read, none made
  void charge(int64_t bytes) {
    if (bytes < 0 || (left_.memory_bytes -= bytes) < 0) fail_limit("chat template: its values take too much memory");
  }
  void enter() {
    if (--left_.depth < 0) fail_limit("chat template: it nests too deeply");
  }
  void leave() { ++left_.depth; }
  void note_printed(Owner list) {
    if (printed.empty() || printed.back() != list) printed.push_back(list);
  }
  std::vector<Owner> printed;  // lists of parts that were printed as lists
  int64_t output_bytes() const { return left_.output_bytes; }
  int64_t range_length() const { return left_.range_length; }

 private:
  Budget left_;
};
struct Nest {
  explicit Nest(Meter& m) : meter(m) {
    try {
      meter.enter();
    } catch (...) {
      meter.leave();
      throw;
    }
  }
  ~Nest() { meter.leave(); }
  Nest(const Nest&) = delete;
  Nest& operator=(const Nest&) = delete;
  Meter& meter;
};

// A string that is charged for before it grows.
class Text {
 public:
  explicit Text(Meter& meter) : meter_(meter) {}
  Text& operator+=(const Str& s) { return add(s, 0, s.size()); }
  Text& add(const Str& s, size_t begin, size_t end) {
    meter_.charge(s.cost(begin, end));
    out_.append(s, begin, end - begin);
    return *this;
  }
  Text& add(std::string_view bytes, Owner owner) {
    meter_.charge(static_cast<int64_t>(bytes.size()) + (out_.empty() ? 0 : static_cast<int64_t>(sizeof(Run))));
    out_.append(bytes, owner);
    return *this;
  }
  Text& own(std::string_view bytes) { return add(bytes, kTemplate); }  // words of the template or of the language
  Text& repeat(const Str& s, int64_t n);
  size_t size() const { return out_.size(); }
  Str take() { return std::move(out_); }

 private:
  Meter& meter_;
  Str out_;
};

struct Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Value, Value>>;  // in insertion order; small, so searched in a row
struct Seq;
struct Mapping;
struct Frame;
struct Stmt;
struct LoopState;
struct MacroRef;
struct Method;
struct Cycler;

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kView,  // of a dict: its keys, values or items
  kRange,
  kGenerator,  // gives its items once
  kDict,
  kNamespace,
  kLoop,
  kMacro,
  kGlobal,
  kMethod,
  kCycler,
  kJoiner
};

struct Value {
  Kind kind = Kind::kUndefined;
  bool markup = false;      // a string that `safe` or `escape` made: + escapes what it meets
  Owner owner = kTemplate;  // of what it prints as, but for a string, which knows itself
  union {
    int64_t i = 0;  // also a bool
    double f;
  };
  std::shared_ptr<void> ref;  // Str (a string, why it is undefined, a global's name), Seq, Mapping, ...

  static Value none();
  static Value boolean(bool b);
  static Value integer(int64_t v);
  static Value number(double v);
  static Value string(Str v);
  static Value own(std::string_view bytes) { return string(Str(bytes, kTemplate)); }  // written by the template
  static Value undefined(std::string why);
  static Value make_list(List v, Kind kind = Kind::kList, std::string label = {});
  static Value make_dict(Dict v, Kind kind = Kind::kDict);
  static Value global(std::string name);

  bool is(Kind k) const { return kind == k; }
  bool is_seq() const { return kind == Kind::kList || kind == Kind::kTuple; }
  bool has_items() const { return kind >= Kind::kList && kind <= Kind::kGenerator; }
  bool is_int() const { return kind == Kind::kInt || kind == Kind::kBool; }
  bool is_number() const { return is_int() || kind == Kind::kFloat; }
  double as_double() const { return kind == Kind::kFloat ? f : static_cast<double>(i); }
  const Str& str() const { return *static_cast<const Str*>(ref.get()); }
  const std::string& bytes() const { return str().bytes(); }
  Value marked() && {
    markup = true;
    return std::move(*this);
  }
  Value owned(Owner o) && {
    owner = o;
    return std::move(*this);
  }
  const List& items() const;
  const Dict& entries() const;
  Seq& seq() const { return *static_cast<Seq*>(ref.get()); }
  Mapping& mapping() const { return *static_cast<Mapping*>(ref.get()); }
  LoopState& loop() const { return *static_cast<LoopState*>(ref.get()); }
  const MacroRef& macro() const { return *static_cast<const MacroRef*>(ref.get()); }
  Cycler& cycler() const { return *static_cast<Cycler*>(ref.get()); }
  const Method& method() const { return *static_cast<const Method*>(ref.get()); }
};

// `depth` bounds every walk over a value, and its destruction: a container over kMaxValueDepth is refused
// when it is made. (Namespaces may still hold each other in a ring.)
constexpr int kMaxValueDepth = 100;
constexpr const char* kParts = "parts";  // the label of a message's content, where that is a list
struct Seq {
  List items;
  int depth = 1;
  std::string label;  // of a view: dict_keys, ...; of a range: how it prints; of a generator: its type
};
struct Mapping {
  Dict items;
  int depth = 1;
};
struct MacroRef {
  const Stmt* stmt;
  Frame* frame;  // where it was defined; lives as long as the render
};
struct Method {
  Value self;
  std::string name;
};
struct Cycler {  // also a joiner, with its separator as the only item
  Value items;   // a list
  size_t at = 0;
};
struct LoopState {
  List items;
  size_t at = 0;
  int depth = 0, value_depth = 1;
  const Stmt* stmt = nullptr;
  Frame* frame = nullptr;  // around the loop, for a recursive one
  List last_changed;
  bool changed_called = false;
};

[[noreturn]] void fail_undefined(const Value& v);
bool truthy(const Value& v);
bool equal(Meter& m, const Value& a, const Value& b);
int compare(Meter& m, const Value& a, const Value& b,
            const char* op);  // -1, 0, 1; 2: not ordered; fails on mixed types
bool contains(Meter& m, const Value& container, const Value& item);
const Value* find(Meter& m, const Value& dict, const Value& key);
void put(Meter& m, Dict& dict, Value key, Value value);
void put(Meter& m, const Value& mapping, Value key, Value value);
std::string type_name(const Value& v);
std::string object_name(const Value& v);  // as jinja2 says it in messages: "dict object"
// Its items; a string gives its characters, a dict its keys; what a generator had left is taken.
List iterate(Meter& m, const Value& v);
int64_t length(Meter& m, const Value& v);
List characters(Meter& m, const Str& text);
Value make_pairs(Meter& m, const Value& dict);  // a list of tuples

// Printing: what str(), repr() and json.dumps() give.
void print_str(Text& out, Meter& m, const Value& v);
void print_repr(Text& out, Meter& m, const Value& v, int depth = 0);
Str to_str(Meter& m, const Value& v);
Owner owner_of(const Value& v);  // whose it is as a whole
std::string float_repr(double v);
struct JsonStyle {
  bool ascii = false, sort = false, pretty = false;
  Str indent, comma{", ", kTemplate}, colon{": ", kTemplate};
};
void print_json(Text& out, Meter& m, const Value& v, const JsonStyle& style, int level = 0);

struct Args {
  List pos;
  std::vector<std::pair<Str, Value>> named;
};
// Arguments by the names of a signature; surplus, unknown, repeated or missing ones fail.
class Bound {
 public:
  Bound(const std::string& callee, const Args& args, const std::vector<const char*>& params, size_t required);
  const Value* operator[](size_t i) const { return values_[i]; }
  Owner owner(size_t i) const { return values_[i] ? owner_of(*values_[i]) : kTemplate; }
  bool flag(size_t i) const { return values_[i] && truthy(*values_[i]); }
  const Value* given(size_t i) const { return values_[i] && !values_[i]->is(Kind::kNone) ? values_[i] : nullptr; }
  int64_t integer(size_t i, int64_t otherwise) const;
  const Str& text(size_t i) const;  // precondition: it was given
  std::string_view word(size_t i, std::string_view otherwise) const { return values_[i] ? text(i).view() : otherwise; }

 private:
  std::string callee_;
  std::vector<const Value*> values_;
};

// What filters and methods may ask of the interpreter.
struct Machine {
  explicit Machine(const Budget& budget) : meter(budget) {}
  virtual ~Machine() = default;
  virtual Value attribute(const Value& v, const std::string& name) = 0;
  virtual Value item(const Value& v, const Value& key) = 0;
  Meter meter;
};
Value apply_filter(Machine& m, const std::string& name, const Value& v, const Args& args);
bool is_filter(const std::string& name);
bool apply_test(Machine& m, const std::string& name, const Value& v, const Args& args);
bool is_test(const std::string& name);
bool has_method(const Value& v, const std::string& name);      // that the sandbox allows
bool changes_itself(const Value& v, const std::string& name);  // a method that the sandbox refuses
Value call_method(Machine& m, const Value& self, const std::string& name, const Args& args);
Value binary(Machine& m, const std::string& op, const Value& a, const Value& b);
Value slice(Machine& m, const Value& v, const Value& from, const Value& to, const Value& by);
Value percent_format(Machine& m, const Str& format, const Value& values);
Value brace_format(Machine& m, const Str& format, const Args& args);
std::string local_time(const std::string& format);

}  // namespace fovea::tokenizers::jinja
