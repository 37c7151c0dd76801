// Which names a scope hides before it sets them. Jinja decides that by the text alone: a name that a scope first meets
// where it is set, outside of any `if`, and that no scope around it has, is undefined in the loops, macros and captured
// bodies before that place, whatever the data has under this name.
#include <set>

#include "fovea/tokenizers/template/syntax.h"

namespace fovea::tokenizers::jinja {
namespace {

class ScopeReader {
 public:
  explicit ScopeReader(const ScopeReader* around) : around_(around) {}

  // The scope's own statements first: a scope inside may be hidden from by what comes after it.
  std::vector<std::string> read(Body& body) {
    meet(body);
    go_inside(body);
    return std::move(unset_);
  }
  void have(const std::string& name) { seen_.insert(name); }
  void have(const Expr& target) {
    if (target.op == Op::kName) have(target.name);
    for (const ExprPtr& kid : target.kids) have(*kid);
  }

 private:
  bool has(const std::string& name) const {
    for (const ScopeReader* scope = this; scope; scope = scope->around_) {
      if (scope->seen_.contains(name)) return true;
    }
    return false;
  }
  void loads(const Expr* e) {
    if (!e) return;
    if (e->op == Op::kName) have(e->name);
    for (const ExprPtr& kid : e->kids) loads(kid.get());
    for (const auto& [name, value] : e->kwargs) loads(value.get());
  }
  void stores(const std::string& name) {
    if (branches_ == 0 && !has(name)) unset_.push_back(name);
    have(name);
  }
  void stores(const Expr& target) {
    if (target.op == Op::kName) stores(target.name);
    if (target.op == Op::kAttr) loads(&target);
    if (target.op == Op::kTuple) {
      for (const ExprPtr& kid : target.kids) stores(*kid);
    }
  }

  void meet(const Body& body) {
    for (const auto& s : body) {
      if (s->tag == Tag::kIf) {
        ++branches_;
        for (const auto& [condition, branch] : s->branches) loads(condition.get()), meet(branch);
        --branches_;
        continue;
      }
      loads(s->value.get());
      if (s->tag == Tag::kFilterBlock) loads(s->filter.get());
      for (const auto& [target, value] : s->assigned) loads(value.get());
      if (s->tag == Tag::kSet || s->tag == Tag::kSetBlock) stores(*s->target);
      if (s->tag == Tag::kMacro) stores(s->text);
    }
  }
  void go_inside(Body& body) {
    for (auto& s : body) {
      for (auto& [condition, branch] : s->branches) go_inside(branch);
      ScopeReader inner(s->tag == Tag::kBlock ? nullptr : this);
      if (s->tag == Tag::kFor) inner.have("loop"), inner.have(*s->target);
      for (const auto& [target, value] : s->assigned) inner.have(*target);
      for (const std::string& param : s->params) inner.have(param);
      for (const ExprPtr& value : s->defaults) inner.loads(value.get());
      s->unset = inner.read(s->body);
      s->otherwise_unset = ScopeReader(this).read(s->otherwise);
    }
  }

  const ScopeReader* around_;
  std::set<std::string, std::less<>> seen_;
  std::vector<std::string> unset_;
  int branches_ = 0;  // of ifs around
};

}  // namespace

void find_unset(Template& t) { t.unset = ScopeReader(nullptr).read(t.body); }

}  // namespace fovea::tokenizers::jinja
