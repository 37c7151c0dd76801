#include <algorithm>
#include <cmath>
#include <map>
#include <new>
#include <stdexcept>

#include "fovea/tokenizers/chat_template.h"
#include "fovea/tokenizers/template/syntax.h"
#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace jinja {

// The variables of one scope. Names are looked up through the scopes around it in the source.
struct Frame : std::enable_shared_from_this<Frame> {
  explicit Frame(Frame* around) : parent(around) {}
  std::map<std::string, Value> vars;
  Frame* parent;
  bool kept = false;  // a macro was defined here, so it lives until the render ends
};

namespace {

enum class Flow { kNext, kBreak, kContinue };
constexpr int kMaxContextDepth = 64;
constexpr std::string_view kLeftOut[] = {"pprint", "random", "striptags", "urlize", "wordwrap"};  // jinja2 has them
const std::string kNoCaller;

class Interpreter final : public Machine {
 public:
  explicit Interpreter(const Budget& budget) : Machine(budget), root_(std::make_shared<Frame>(nullptr)) {}
  ~Interpreter() override {  // what may hold itself is emptied
    for (const auto& mapping : namespaces_) mapping->items.clear();
    for (const auto& weak : changed_loops) {
      if (const auto loop = weak.lock()) loop->last_changed.clear();
    }
  }

  Rendered run(const Template& t, const nlohmann::ordered_json& data, const nlohmann::ordered_json& own) {
    for (const char* name : {"range", "namespace", "raise_exception", "strftime_now", "dict", "cycler", "joiner"})
      root_->vars[name] = Value::global(name);
    for (const auto& [name, value] : own.items()) root_->vars[name] = from_json(value, kTemplate);
    for (const auto& [name, value] : data.items())
      root_->vars[name] = name == "messages" && value.is_array() ? messages_from(value) : from_json(value, kData);
    Text out(meter);
    exec(t.body, *root_, out);
    const Str text = out.take();
    Rendered rendered{text.bytes(), text.runs(), {}};
    for (const Owner list : meter.printed) {
      rendered.printed_parts.resize(std::max<size_t>(rendered.printed_parts.size(), list - kContent + 1));
      rendered.printed_parts[list - kContent] = true;
    }
    return rendered;
  }

  Value attribute(const Value& v, const std::string& name) override {
    meter.step();
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    if (has_method(v, name)) {
      Value method;
      method.kind = Kind::kMethod;
      method.ref = std::make_shared<Method>(Method{v, name});
      return method;
    }
    const bool internal = name.size() > 4 && name.starts_with("__") && name.ends_with("__");
    if (changes_itself(v, name) || internal)
      return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(v)));
    if (v.is(Kind::kDict) || v.is(Kind::kNamespace)) {
      if (const Value* found = find(meter, v, Value::own(name))) return *found;
    }
    if (v.is(Kind::kLoop)) {
      if (Value found = loop_attribute(v.loop(), name); !found.is(Kind::kGlobal)) return found;
    }
    if (v.is(Kind::kCycler) && name == "current") return v.cycler().items.items()[v.cycler().at];
    if (v.is(Kind::kMacro) && name == "name") return Value::own(v.macro().stmt->text);
    if (v.is(Kind::kTuple) && v.seq().label == "group" && (name == "grouper" || name == "list"))
      return v.items()[name == "list"];
    return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(v), name));
  }

  Value item(const Value& v, const Value& key) override {
    meter.step();
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    if (v.is(Kind::kDict)) {
      if (const Value* found = find(meter, v, key)) return *found;
    }
    if ((v.is_seq() || v.is(Kind::kRange)) && key.is_int()) {
      const auto n = static_cast<int64_t>(v.items().size()), i = key.i < 0 ? key.i + n : key.i;
      if (i >= 0 && i < n) return v.items()[static_cast<size_t>(i)];
    }
    if (v.is(Kind::kString) && key.is_int()) {
      const int64_t n = length(meter, v), i = key.i < 0 ? key.i + n : key.i;
      if (i >= 0 && i < n) {
        const size_t at = byte_of(v.bytes(), static_cast<size_t>(i));
        return Value::string(v.str().substr(at, character_bytes(v.bytes(), at)));
      }
    }
    if (key.is(Kind::kString)) return attribute(v, key.bytes());
    Text shown(meter);
    print_repr(shown, meter, key);
    return Value::undefined(fmt::format("{} has no element {}", object_name(v), shown.take().bytes()));
  }

 private:
  static Value from_json(const nlohmann::ordered_json& j, Owner owner, int depth = 0) {
    if (depth > kMaxContextDepth)
      fail_limit(fmt::format("chat template: its input is nested deeper than {}", kMaxContextDepth));
    switch (j.type()) {
      case nlohmann::ordered_json::value_t::boolean: return Value::boolean(j.get<bool>()).owned(owner);
      case nlohmann::ordered_json::value_t::number_integer: return Value::integer(j.get<int64_t>()).owned(owner);
      case nlohmann::ordered_json::value_t::number_unsigned:
        if (j.get<uint64_t>() > INT64_MAX) fail_limit("chat template: an integer of its input does not fit 64 bits");
        return Value::integer(j.get<int64_t>()).owned(owner);
      case nlohmann::ordered_json::value_t::number_float: return Value::number(j.get<double>()).owned(owner);
      case nlohmann::ordered_json::value_t::string: return Value::string(Str(j.get_ref<const std::string&>(), owner));
      case nlohmann::ordered_json::value_t::array: {
        List l;
        l.reserve(j.size());
        for (const auto& e : j) l.push_back(from_json(e, owner, depth + 1));
        return Value::make_list(std::move(l)).owned(owner);
      }
      case nlohmann::ordered_json::value_t::object: {
        Dict d;
        d.reserve(j.size());
        for (const auto& [k, e] : j.items())
          d.emplace_back(Value::string(Str(k, owner)), from_json(e, owner, depth + 1));
        return Value::make_dict(std::move(d)).owned(owner);
      }
      default: return Value::none().owned(owner);
    }
  }
  // Templates write '<|' + role + '|>' and mean a token, so the words that they know are theirs.
  static bool usual_role(const nlohmann::ordered_json& role) {
    static constexpr std::string_view kRoles[] = {"system",      "user",        "assistant", "tool",
                                                  "developer",   "function",    "model",     "ipython",
                                                  "environment", "observation", "context"};
    return role.is_string() &&
           std::find(std::begin(kRoles), std::end(kRoles), role.get_ref<const std::string&>()) != std::end(kRoles);
  }
  static Value messages_from(const nlohmann::ordered_json& messages) {
    List l;
    for (size_t i = 0; i < messages.size(); ++i) {
      if (!messages[i].is_object()) {
        l.push_back(from_json(messages[i], kData, 1));
        continue;
      }
      Dict d;
      for (const auto& [key, value] : messages[i].items()) {
        const Owner owner = key == "content"                     ? kContent + static_cast<Owner>(i)
                            : key == "role" && usual_role(value) ? kTemplate
                                                                 : kData;
        d.emplace_back(Value::string(Str(key, kData)), from_json(value, owner, 2));
        if (owner >= kContent && value.is_array()) d.back().second.seq().label = kParts;
      }
      l.push_back(Value::make_dict(std::move(d)).owned(kData));
    }
    return Value::make_list(std::move(l)).owned(kData);
  }

  // A value of kind kGlobal: there is no such attribute.
  static Value loop_attribute(const LoopState& loop, const std::string& name) {
    const auto n = static_cast<int64_t>(loop.items.size()), at = static_cast<int64_t>(loop.at);
    if (name == "index") return Value::integer(at + 1);
    if (name == "index0") return Value::integer(at);
    if (name == "revindex") return Value::integer(n - at);
    if (name == "revindex0") return Value::integer(n - at - 1);
    if (name == "first") return Value::boolean(at == 0);
    if (name == "last") return Value::boolean(at + 1 == n);
    if (name == "length") return Value::integer(n);
    if (name == "depth") return Value::integer(loop.depth + 1);
    if (name == "depth0") return Value::integer(loop.depth);
    if (name == "previtem") return at > 0 ? loop.items[loop.at - 1] : Value::undefined("there is no previous item");
    if (name == "nextitem") return at + 1 < n ? loop.items[loop.at + 1] : Value::undefined("there is no next item");
    return Value::global("");
  }

  void emit(Text& out, const Value& v) {
    print_str(out, meter, v);
    check_size(out);
  }
  void check_size(const Text& out) const {
    if (static_cast<int64_t>(out.size()) > meter.output_bytes())
      fail_limit("chat template: the rendered text is too long");
  }
  std::shared_ptr<Frame> inside(Frame& f) const { return std::make_shared<Frame>(&f); }
  void keep(Frame& frame) {
    for (Frame* f = &frame; f && !f->kept; f = f->parent) {
      f->kept = true;
      meter.charge(256);
      frames_.push_back(f->shared_from_this());
    }
  }

  Flow exec(const Body& body, Frame& f, Text& out) {
    const Nest nest(meter);
    for (const auto& s : body) {
      const Flow flow = exec_one(*s, f, out);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }
  Flow exec_one(const Stmt& s, Frame& f, Text& out) {
    meter.step();
    switch (s.tag) {
      case Tag::kText:
        out.own(s.text);
        check_size(out);
        break;
      case Tag::kPrint: emit(out, eval(*s.value, f)); break;
      case Tag::kIf:
        for (const auto& [condition, body] : s.branches) {
          if (!condition || truthy(eval(*condition, f))) return exec(body, f, out);
        }
        break;
      case Tag::kFor: loop(s, eval(*s.value, f), f, out, 0); break;
      case Tag::kSet: assign(*s.target, eval(*s.value, f), f); break;
      case Tag::kSetBlock:
      case Tag::kFilterBlock: return captured(s, f, out);
      case Tag::kWith: {
        const auto inner = inside(f);
        for (const auto& [target, value] : s.assigned) assign(*target, eval(*value, f), *inner);
        return exec(s.body, *inner, out);
      }
      case Tag::kMacro: f.vars[s.text] = macro_of(s, f); break;
      case Tag::kCallBlock: {
        const Value caller = macro_of(s, f);
        const Value fn = eval(*s.value->kids[0], f);
        Args args = arguments(*s.value, 1, f);
        args.named.emplace_back(Str("caller", kTemplate), caller);
        emit(out, call(fn, args));
        break;
      }
      case Tag::kScope: return exec(s.body, *inside(f), out);
      case Tag::kBlock: return exec(s.body, *inside(*root_), out);
      case Tag::kBreak: return Flow::kBreak;
      case Tag::kContinue: return Flow::kContinue;
    }
    return Flow::kNext;
  }
  Flow captured(const Stmt& s, Frame& f, Text& out) {
    const auto inner = inside(f);
    Text text(meter);
    const Flow flow = exec(s.body, *inner, text);
    Value v = Value::string(text.take());
    if (s.filter) {
      inner->vars[kCaptured] = std::move(v);
      v = eval(*s.filter, *inner);
    }
    if (s.tag == Tag::kFilterBlock && !v.is(Kind::kString))
      fail(fmt::format("sequence item 0: expected str instance, {} found", type_name(v)));
    if (s.tag == Tag::kFilterBlock)
      emit(out, v);
    else
      assign(*s.target, std::move(v), f);
    return flow;
  }
  Value macro_of(const Stmt& s, Frame& f) {
    keep(f);
    Value macro;
    macro.kind = Kind::kMacro;
    macro.ref = std::make_shared<MacroRef>(MacroRef{&s, &f});
    return macro;
  }
  void set_attribute(const Value& ns, const Str& name, Value v) {
    if (name.view().starts_with("_"))
      fail(fmt::format("a namespace takes no attribute that starts with an underscore: '{}'", name.bytes()));
    put(meter, ns, Value::string(name), std::move(v));
  }
  void assign(const Expr& target, Value v, Frame& f) {
    if (target.op == Op::kName) {
      f.vars[target.name] = std::move(v);
      return;
    }
    if (target.op == Op::kAttr) {
      const Value ns = eval(*target.kids[0], f);
      if (!ns.is(Kind::kNamespace)) fail("cannot assign attribute on non-namespace object");
      return set_attribute(ns, Str(target.name, kTemplate), std::move(v));
    }
    if (v.is(Kind::kUndefined) || (!v.has_items() && !v.is(Kind::kString) && !v.is(Kind::kDict))) {
      if (v.is(Kind::kUndefined))
        fail(fmt::format("not enough values to unpack (expected {}, got 0)", target.kids.size()));
      fail(fmt::format("cannot unpack non-iterable {} object", type_name(v)));
    }
    const List items = iterate(meter, v);
    if (items.size() > target.kids.size())
      fail(fmt::format("too many values to unpack (expected {})", target.kids.size()));
    if (items.size() < target.kids.size())
      fail(fmt::format("not enough values to unpack (expected {}, got {})", target.kids.size(), items.size()));
    for (size_t i = 0; i < items.size(); ++i) assign(*target.kids[i], items[i], f);
  }

  void loop(const Stmt& s, const Value& source, Frame& f, Text& out, int depth) {
    const Nest nest(meter);
    List items = source.is(Kind::kLoop) ? source.loop().items : iterate(meter, source);
    if (s.filter) {
      List kept;
      for (Value& v : items) {
        meter.step();
        const auto inner = inside(f);
        assign(*s.target, v, *inner);
        if (truthy(eval(*s.filter, *inner))) kept.push_back(std::move(v));
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      exec(s.otherwise, *inside(f), out);
      return;
    }
    const auto state = std::make_shared<LoopState>();
    // Wrapped once to learn how deep the items are: the loop may end up inside another value.
    state->value_depth = Value::make_list(items).seq().depth;
    state->items = std::move(items);
    state->depth = depth;
    state->stmt = &s;
    state->frame = &f;
    if (s.recursive) keep(f);
    Value shown;
    shown.kind = Kind::kLoop;
    shown.ref = state;
    for (; state->at < state->items.size(); ++state->at) {
      meter.step();
      const auto inner = inside(f);
      inner->vars["loop"] = shown;
      assign(*s.target, state->items[state->at], *inner);
      if (exec(s.body, *inner, out) == Flow::kBreak) break;
    }
  }

  Args arguments(const Expr& e, size_t from, Frame& f) {
    Args a;
    for (size_t i = from; i < e.kids.size(); ++i) {
      if (e.kids[i]->op != Op::kStar) {
        a.pos.push_back(eval(*e.kids[i], f));
        continue;
      }
      for (Value& v : iterate(meter, eval(*e.kids[i]->kids[0], f))) a.pos.push_back(std::move(v));
    }
    for (const auto& [name, value] : e.kwargs) {
      Value v = eval(*value, f);
      if (name != "**") {
        a.named.emplace_back(Str(name, kTemplate), std::move(v));
        continue;
      }
      if (!v.is(Kind::kDict)) fail(fmt::format("argument after ** must be a mapping, not {}", type_name(v)));
      meter.charge(static_cast<int64_t>(v.entries().size() * 2 * sizeof(Value)));
      for (const auto& [k, x] : v.entries()) {
        if (!k.is(Kind::kString)) fail("keywords must be strings");
        a.named.emplace_back(k.str(), x);
      }
    }
    return a;
  }

  Value eval(const Expr& e, Frame& f) {
    const Nest nest(meter);
    meter.step();
    const auto kid = [&](size_t i) { return eval(*e.kids[i], f); };
    switch (e.op) {
      case Op::kLiteral: return e.literal;
      case Op::kName:
        for (const Frame* s = &f; s; s = s->parent) {
          if (const auto it = s->vars.find(e.name); it != s->vars.end()) return it->second;
        }
        return Value::undefined(fmt::format("'{}' is undefined", e.name));
      case Op::kList:
      case Op::kTuple: {
        List l;
        meter.charge(static_cast<int64_t>(e.kids.size() * sizeof(Value)));
        for (size_t i = 0; i < e.kids.size(); ++i) l.push_back(kid(i));
        return Value::make_list(std::move(l), e.op == Op::kList ? Kind::kList : Kind::kTuple);
      }
      case Op::kDict: {
        Dict d;
        for (size_t i = 0; i < e.kids.size(); i += 2) {
          Value k = kid(i);
          put(meter, d, std::move(k), kid(i + 1));
        }
        return Value::make_dict(std::move(d));
      }
      case Op::kAttr: return attribute(kid(0), e.name);
      case Op::kIndex: {
        const Value v = kid(0);
        return item(v, kid(1));
      }
      case Op::kSlice: {
        Value part[4];
        for (size_t i = 0; i < 4; ++i) part[i] = e.kids[i] ? kid(i) : Value::none();
        return slice(*this, part[0], part[1], part[2], part[3]);
      }
      case Op::kCall: {
        const Value fn = kid(0);
        return call(fn, arguments(e, 1, f));
      }
      case Op::kFilter: {
        if (!is_filter(e.name)) {
          const bool left_out = std::find(std::begin(kLeftOut), std::end(kLeftOut), e.name) != std::end(kLeftOut);
          syntax_error(
              e.line, fmt::format(fmt::runtime(left_out ? "the filter '{}' is not done here" : "No filter named '{}'."),
                                  e.name));
        }
        const Value v = kid(0);
        return apply_filter(*this, e.name, v, arguments(e, 1, f));
      }
      case Op::kTest: {
        if (!is_test(e.name)) syntax_error(e.line, fmt::format("No test named '{}'.", e.name));
        const Value v = kid(0);
        return Value::boolean(apply_test(*this, e.name, v, arguments(e, 1, f)));
      }
      case Op::kNot: return Value::boolean(!truthy(kid(0)));
      case Op::kAnd: {
        Value v = kid(0);
        return truthy(v) ? kid(1) : v;
      }
      case Op::kOr: {
        Value v = kid(0);
        return truthy(v) ? v : kid(1);
      }
      case Op::kIf:
        if (truthy(kid(0))) return kid(1);
        if (e.kids[2]) return kid(2);
        return Value::undefined("the inline if-expression on line " + std::to_string(e.line) +
                                " evaluated to false and no else section was defined.");
      case Op::kNeg:
      case Op::kPos: {
        const Value v = kid(0);
        if (v.is(Kind::kUndefined)) fail_undefined(v);
        if (!v.is_number())
          fail(fmt::format("bad operand type for unary {}: '{}'", e.op == Op::kNeg ? "-" : "+", type_name(v)));
        if (v.is(Kind::kFloat)) return Value::number(e.op == Op::kNeg ? -v.f : v.f).owned(v.owner);
        return e.op == Op::kNeg ? binary(*this, "-", Value::integer(0), v) : Value::integer(v.i).owned(v.owner);
      }
      case Op::kBinary: {
        const Value a = kid(0);
        return binary(*this, e.name, a, kid(1));
      }
      case Op::kCompare: {
        Value a = kid(0);
        for (size_t i = 0; i < e.ops.size(); ++i) {
          Value b = kid(i + 1);
          if (!holds(e.ops[i], a, b)) return Value::boolean(false);
          a = std::move(b);
        }
        return Value::boolean(true);
      }
      case Op::kStar: fail("* is for the arguments of a call");
    }
    return {};
  }
  bool holds(const std::string& op, const Value& a, const Value& b) {
    if (op == "==") return equal(meter, a, b);
    if (op == "!=") return !equal(meter, a, b);
    if (op == "in") return contains(meter, b, a);
    if (op == "not in") return !contains(meter, b, a);
    const int c = compare(meter, a, b, op.c_str());
    if (op == "<") return c == -1;
    if (op == "<=") return c == -1 || c == 0;
    return op == ">" ? c == 1 : c == 1 || c == 0;
  }

  Value call(const Value& fn, const Args& a) {
    meter.step();
    if (fn.is(Kind::kUndefined)) fail_undefined(fn);
    if (fn.is(Kind::kMethod)) {
      if (fn.method().self.is(Kind::kLoop))
        changed_loops.push_back(std::static_pointer_cast<LoopState>(fn.method().self.ref));
      return call_method(*this, fn.method().self, fn.method().name, a);
    }
    if (fn.is(Kind::kMacro)) return call_macro(*fn.macro().stmt, *fn.macro().frame, a);
    if (fn.is(Kind::kLoop)) {
      const LoopState& state = fn.loop();
      if (!state.stmt->recursive) fail("The loop must have the 'recursive' marker to be called recursively.");
      const Bound bound("loop", a, {"iterable"}, 1);
      Text out(meter);
      loop(*state.stmt, *bound[0], *state.frame, out, state.depth + 1);
      return Value::string(out.take());
    }
    if (fn.is(Kind::kJoiner)) {  // nothing the first time
      const Bound none("joiner", a, {}, 0);
      return std::exchange(fn.cycler().at, 1) ? fn.cycler().items.items()[0] : Value::own("");
    }
    if (!fn.is(Kind::kGlobal)) fail(fmt::format("'{}' object is not callable", type_name(fn)));
    const std::string& name = fn.bytes();
    if (name == "raise_exception") fail(to_str(meter, *Bound(name, a, {"message"}, 1)[0]).bytes());
    if (name == "strftime_now") {
      const Bound format(name, a, {"format"}, 1);
      return Value::string(Str(local_time(format.text(0).bytes()), format.text(0).blend()));
    }
    if (name == "range") return range(a);
    if (name == "cycler" || name == "joiner") return cycler(name, a);
    return mapping(name, a);
  }
  Value cycler(const std::string& name, const Args& a) {
    List items = a.pos;
    if (name == "joiner") {
      const Bound bound(name, a, {"sep"}, 0);
      items = {bound[0] ? *bound[0] : Value::own(", ")};
    } else if (!a.named.empty()) {
      fail(fmt::format("{}() takes no keyword arguments", name));
    }
    if (items.empty()) fail("at least one item has to be provided");
    meter.charge(static_cast<int64_t>(items.size() * sizeof(Value) + 128));
    Value v;
    v.kind = name == "joiner" ? Kind::kJoiner : Kind::kCycler;
    v.ref = std::make_shared<Cycler>(Cycler{Value::make_list(std::move(items)), 0});
    return v;
  }
  Value mapping(const std::string& name, const Args& a) {
    const Args unnamed{a.pos, {}};
    const Bound positional(name, unnamed, {"values"}, 0);
    Value v = Value::make_dict({}, name == "dict" ? Kind::kDict : Kind::kNamespace);
    const auto add = [&](Value key, Value value) {
      if (v.is(Kind::kNamespace) && key.is(Kind::kString))
        set_attribute(v, key.str(), std::move(value));
      else
        put(meter, v, std::move(key), std::move(value));
    };
    if (const Value* from = positional[0]) {
      if (from->is(Kind::kUndefined)) fail_undefined(*from);
      for (const Value& pair : from->is(Kind::kDict) ? make_pairs(meter, *from).items() : iterate(meter, *from)) {
        const List both = iterate(meter, pair);
        if (both.size() != 2)
          fail(fmt::format("dictionary update sequence element has length {}; 2 is required", both.size()));
        add(both[0], both[1]);
      }
    }
    for (const auto& [key, value] : a.named) add(Value::string(key), value);
    if (v.is(Kind::kNamespace)) namespaces_.push_back(std::static_pointer_cast<Mapping>(v.ref));
    return v;
  }
  Value range(const Args& a) {
    const Bound bound("range", a, {"start", "stop", "step"}, 1);
    const bool one = !bound[1];
    const int64_t begin = one ? 0 : bound.integer(0, 0), end = one ? bound.integer(0, 0) : bound.integer(1, 0),
                  by = bound.integer(2, 1);
    if (by == 0) fail("range() arg 3 must not be zero");
    const double n = std::ceil((static_cast<double>(end) - static_cast<double>(begin)) / static_cast<double>(by));
    if (n > static_cast<double>(meter.range_length()))
      fail_limit(fmt::format("chat template: a range is longer than {}", meter.range_length()));
    meter.charge(std::max<int64_t>(static_cast<int64_t>(n), 0) * static_cast<int64_t>(sizeof(Value)));
    List l;
    for (int64_t i = 0; i < static_cast<int64_t>(n); ++i) l.push_back(Value::integer(begin + i * by));
    const std::string step = by == 1 ? "" : fmt::format(", {}", by);
    return Value::make_list(std::move(l), Kind::kRange, fmt::format("range({}, {}{})", begin, end, step))
        .owned(blend(bound.owner(0), blend(bound.owner(1), bound.owner(2))));
  }
  Value call_macro(const Stmt& macro, Frame& around, const Args& a) {
    const Nest nest(meter);
    const auto inner = inside(around);
    const size_t n = macro.params.size(), first_default = n - macro.defaults.size();
    std::vector<const Value*> given(n);
    for (size_t i = 0; i < std::min(n, a.pos.size()); ++i) given[i] = &a.pos[i];
    Dict extra;
    Value caller = Value::undefined("No caller defined");
    const std::string& name = macro.tag == Tag::kCallBlock ? kNoCaller : macro.text;
    for (const auto& [key, value] : a.named) {
      const auto at = std::find(macro.params.begin(), macro.params.end(), key.bytes());
      if (at != macro.params.end()) {
        const Value*& slot = given[static_cast<size_t>(at - macro.params.begin())];
        if (slot) fail(fmt::format("macro '{}' got multiple values for argument '{}'", name, key.bytes()));
        slot = &value;
      } else if (key.bytes() == "caller" && macro.uses_caller) {
        caller = value;
      } else if (macro.uses_kwargs) {
        put(meter, extra, Value::string(key), value);
      } else {
        fail(fmt::format("macro '{}' takes no keyword argument '{}'", name, key.bytes()));
      }
    }
    if (a.pos.size() > n && !macro.uses_varargs)
      fail(fmt::format("macro '{}' takes not more than {} argument(s)", name, n));
    if (macro.uses_varargs) {
      List rest;
      if (a.pos.size() > n) rest.assign(a.pos.begin() + static_cast<std::ptrdiff_t>(n), a.pos.end());
      inner->vars["varargs"] = Value::make_list(std::move(rest), Kind::kTuple);
    }
    if (macro.uses_kwargs) inner->vars["kwargs"] = Value::make_dict(std::move(extra));
    if (macro.uses_caller) inner->vars["caller"] = caller;
    for (size_t i = 0; i < n; ++i) {
      Value v = given[i] ? *given[i]
                : i >= first_default
                    ? eval(*macro.defaults[i - first_default], *inner)
                    : Value::undefined(fmt::format("parameter '{}' was not provided", macro.params[i]));
      inner->vars[macro.params[i]] = std::move(v);
    }
    Text out(meter);
    exec(macro.body, *inner, out);
    return Value::string(out.take());
  }

  std::shared_ptr<Frame> root_;
  std::vector<std::shared_ptr<Frame>> frames_;
  std::vector<std::shared_ptr<Mapping>> namespaces_;
  std::vector<std::weak_ptr<LoopState>> changed_loops;
};

// What a template can make the interpreter throw, as an error.
template <typename F>
auto guarded(const F& f) -> Result<decltype(f())> {
  try {
    return f();
  } catch (const Failure& failure) {
    return Error{failure.code, replace_invalid_utf8(failure.message), {}};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kLimit, "chat template: it takes more memory than there is", {}};
  } catch (const std::length_error&) {
    return Error{ErrorCode::kLimit, "chat template: it makes too long a text", {}};
  }
}

}  // namespace
}  // namespace jinja

Result<ChatTemplate> ChatTemplate::parse(std::string source) {
  if (source.size() > kMaxSourceBytes)
    return make_error(ErrorCode::kLimit, "chat template: it has {} bytes, the most is {}", source.size(),
                      kMaxSourceBytes);
  return jinja::guarded([&] {
    ChatTemplate t;
    t.template_ = std::make_shared<const jinja::Template>(jinja::parse_template(source));
    return t;
  });
}
Result<Rendered> ChatTemplate::render(const nlohmann::ordered_json& data, const nlohmann::ordered_json& own,
                                      Budget budget) const {
  return jinja::guarded([&] { return jinja::Interpreter(budget).run(*template_, data, own); });
}

}  // namespace fovea::tokenizers
