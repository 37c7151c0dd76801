// Runs the syntax tree of a chat template; private to tokenizers. Its jobs lie in exec.cc (statements), eval.cc
// (expressions), call.cc (macros, loops and globals that are called), attribute.cc (what a name or key gives) and
// render.cc (the data that it gets, the prompt that comes out).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fovea/tokenizers/template/syntax.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {

// The variables of one scope. Names are looked up through the scopes around it in the source.
struct Frame : std::enable_shared_from_this<Frame> {
  explicit Frame(Frame* around) : parent(around) {}
  std::map<std::string, Value> vars;
  Frame* parent;
  bool kept = false;  // a macro was defined here, so it lives until the render ends
};

class Interpreter final : public Machine {
 public:
  explicit Interpreter(const Budget& budget) : Machine(budget), root_(std::make_shared<Frame>(nullptr)) {}
  ~Interpreter() override;
  Rendered run(const Template& t, const nlohmann::ordered_json& data, const nlohmann::ordered_json& own);
  Value attribute(const Value& v, const std::string& name) override;
  Value item(const Value& v, const Value& key) override;

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Flow exec(const Body& body, Frame& f, Text& out);
  Flow exec_one(const Stmt& s, Frame& f, Text& out);
  Flow captured(const Stmt& s, Frame& f, Text& out);
  void loop(const Stmt& s, const Value& source, Frame& f, Text& out, int depth);
  void assign(const Expr& target, Value v, Frame& f);
  void set_attribute(const Value& ns, const Str& name, Value v);
  void emit(Text& out, const Value& v);
  void check_size(const Text& out) const;
  static std::shared_ptr<Frame> inside(Frame& f) { return std::make_shared<Frame>(&f); }
  void unset(const std::vector<std::string>& names, Frame& f);

  Value eval(const Expr& e, Frame& f);
  bool holds(const std::string& op, const Value& a, const Value& b);
  Args arguments(const Expr& e, size_t from, Frame& f);

  Value call(const Value& fn, const Args& a);
  Value call_macro(const Stmt& macro, Frame& around, const Args& a);
  Value macro_of(const Stmt& s, Frame& f);
  void keep(Frame& frame);
  Value cycler(const std::string& name, const Args& a);
  Value mapping(const std::string& name, const Args& a);
  Value range(const Args& a);

  std::shared_ptr<Frame> root_;
  std::vector<std::shared_ptr<Frame>> frames_;
  std::vector<std::shared_ptr<Mapping>> namespaces_;
  std::vector<std::weak_ptr<LoopState>> changed_loops_;
};

}  // namespace fovea::tokenizers::jinja
