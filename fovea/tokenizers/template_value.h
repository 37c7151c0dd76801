// Values and syntax trees of the chat-template interpreter; private to tokenizers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::tokenizers::jinja {

// Thrown inside the interpreter only; ChatTemplate turns it into an Error.
struct Failure {
  ErrorCode code;
  std::string message;
};
[[noreturn]] void fail(std::string message);
[[noreturn]] void fail_limit(std::string message);

struct Value;
struct Stmt;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Value, Value>>;  // in insertion order; small, so searched in a row

enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kNamespace, kMacro, kGlobal, kMethod };

struct Value {
  Kind kind = Kind::kUndefined;
  int64_t i = 0;  // also a bool
  double f = 0;
  std::shared_ptr<const std::string> s;  // a string; what is undefined; a global's or method's name
  std::shared_ptr<List> list;            // items; a method's receiver
  std::shared_ptr<Dict> dict;
  const Stmt* macro = nullptr;

  static Value none();
  static Value boolean(bool b);
  static Value integer(int64_t v);
  static Value number(double v);
  static Value string(std::string v);
  static Value undefined(std::string why);
  static Value make_list(List v, Kind kind = Kind::kList);
  static Value make_dict(Dict v, Kind kind = Kind::kDict);

  bool is(Kind k) const { return kind == k; }
  bool is_seq() const { return kind == Kind::kList || kind == Kind::kTuple; }
  bool is_int() const { return kind == Kind::kInt || kind == Kind::kBool; }
  bool is_number() const { return is_int() || kind == Kind::kFloat; }
  double as_double() const { return kind == Kind::kFloat ? f : static_cast<double>(i); }
  const std::string& str() const { return *s; }
};

bool truthy(const Value& v);
bool equal(const Value& a, const Value& b, int depth = 0);
int compare(const Value& a, const Value& b, const char* op);  // -1, 0, 1; fails on mixed types
bool contains(const Value& container, const Value& item);
const Value* find(const Value& dict, const Value& key);
void put(Dict& dict, Value key, Value value);
std::string to_str(const Value& v);
std::string to_repr(const Value& v, int depth = 0);
std::string to_json(const Value& v, int indent, int level = 0);  // indent < 0: one line
std::string type_name(const Value& v);
List iterate(const Value& v);  // a string gives its characters, a dict its keys
List characters(const std::string& utf8);
std::string strip(const std::string& s, const std::string* chars, bool left, bool right);
std::string replace_all(const std::string& s, const std::string& from, const std::string& to, int64_t limit);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;
enum class Op { kLiteral, kName, kList, kTuple, kDict, kAttr, kIndex, kSlice, kCall, kFilter, kTest, kNot, kAnd, kOr, kIf, kNeg, kPos, kBinary, kCompare };
struct Expr {
  Op op;
  int line = 0;
  std::string name;  // of a variable, attribute, filter, test or operator
  Value literal;
  std::vector<ExprPtr> kids;  // null where a slice or else part is absent
  std::vector<std::pair<std::string, ExprPtr>> kwargs;
  std::vector<std::string> ops;  // of a comparison chain
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;
enum class Tag { kText, kPrint, kIf, kFor, kSet, kSetBlock, kMacro, kCallBlock, kFilterBlock, kScope, kBreak, kContinue };
struct Stmt {
  Tag tag;
  int line = 0;
  std::string text;                 // literal text; a macro's name
  ExprPtr target, value, filter;    // `filter`: of a for
  std::vector<std::string> params;  // of a macro
  std::vector<ExprPtr> defaults;    // for the last params
  std::vector<std::pair<ExprPtr, Body>> branches;  // of an if; a null condition is its else
  Body body, otherwise;
};
struct Template {
  Body body;
};

Template parse_template(const std::string& source);

// What filters and methods may ask of the interpreter.
struct Machine {
  virtual ~Machine() = default;
  virtual void step(int64_t n) = 0;
  virtual void charge(int64_t bytes) = 0;
  virtual Value attribute(const Value& v, const std::string& name) = 0;
  virtual Value item(const Value& v, const Value& key) = 0;
};
struct Args {
  List pos;
  std::vector<std::pair<std::string, Value>> named;
  const Value* get(size_t index, const char* name) const;
};
Value apply_filter(Machine& m, const std::string& name, const Value& v, const Args& args);
bool apply_test(Machine& m, const std::string& name, const Value& v, const Args& args);
bool is_filter(const std::string& name);
bool is_test(const std::string& name);
bool has_method(const Value& v, const std::string& name);
Value call_method(Machine& m, const Value& self, const std::string& name, const Args& args);

}  // namespace fovea::tokenizers::jinja
