// Syntax trees of chat templates; private to tokenizers.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {

// Trees no deeper than this: evaluation and destruction recurse.
constexpr int kMaxTreeDepth = 200;

enum class TokenKind { kText, kVarBegin, kVarEnd, kBlockBegin, kBlockEnd, kName, kString, kInt, kFloat, kOp, kEnd };
struct Token {
  TokenKind type;
  std::string text;
  int line;
};
[[noreturn]] void syntax_error(int line, const std::string& what);
// White space control is done here: trim_blocks, lstrip_blocks, and the signs - and + of tags.
std::vector<Token> lex_template(const std::string& source);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;
enum class Op {
  kLiteral,
  kName,
  kList,
  kTuple,
  kDict,
  kAttr,
  kIndex,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kNot,
  kAnd,
  kOr,
  kIf,
  kNeg,
  kPos,
  kBinary,
  kCompare,
  kStar  // *values among the arguments of a call
};
struct Expr {
  Op op;
  int line = 0, height = 1;
  std::string name;  // of a variable, attribute, filter, test or operator
  Value literal;
  std::vector<ExprPtr> kids;                            // null where a slice or else part is absent
  std::vector<std::pair<std::string, ExprPtr>> kwargs;  // "**": a dict of them
  std::vector<std::string> ops;                         // of a comparison chain
};

using Body = std::vector<std::unique_ptr<Stmt>>;
enum class Tag {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kWith,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kScope,
  kBlock,
  kBreak,
  kContinue
};
struct Stmt {
  Tag tag;
  int line = 0;
  std::string text;                 // literal text; a macro's name
  ExprPtr target, value, filter;    // `filter`: the condition of a for; what a captured body goes through
  std::vector<std::string> params;  // of a macro or a call block
  std::vector<ExprPtr> defaults;    // for the last params
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;  // of a macro's body
  bool recursive = false;
  std::vector<std::pair<ExprPtr, Body>> branches;     // of an if; a null condition is its else
  std::vector<std::pair<ExprPtr, ExprPtr>> assigned;  // of a with
  Body body, otherwise;
  std::vector<std::string> unset, otherwise_unset;  // as in Template, of the two bodies
};
struct Template {
  Body body;
  std::vector<std::string> unset;  // names that are undefined until they are set, whatever the data has (scopes.cc)
};
// The name that a captured body has for the filters of its block; no template can spell it.
constexpr const char* kCaptured = "\x01";

void find_unset(Template& t);
Template parse_template(const std::string& source);

}  // namespace fovea::tokenizers::jinja
