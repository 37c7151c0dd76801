#include "fovea/base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/text_file.h"
#include "fovea/base/utf8.h"

namespace fovea {
namespace {

using Json = nlohmann::ordered_json;

// Tells how far the reader has come: events carry no position.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  Cursor(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    ++at_;
    if (reached_) *reached_ = at_;
    return *this;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }
  bool operator!=(const Cursor& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

// Builds the document from the events of nlohmann's reader. Returning false ends the reading.
class Builder {
 public:
  Builder(std::string_view text, const std::string& name, const char** reached)
      : text_(text), name_(name), reached_(reached) {}

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(int64_t value) { return put(value); }
  bool number_unsigned(uint64_t value) { return put(value); }
  bool number_float(double value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() {
    keys_.pop_back();
    return close();
  }
  bool end_array() { return close(); }

  bool key(std::string& key) {
    if (!keys_.back().insert(key).second) {
      // The reader stands behind the closing quote; within a string every other quote has a backslash before it.
      size_t begin = at() - 1;
      do begin = text_.rfind('"', begin - 1);
      while (begin > 0 && text_[begin - 1] == '\\');
      error_ = make_error(ErrorCode::kData, "{}, {}: the key {} stands twice in one object", name_,
                          place_in(text_, begin), quote(key));
      return false;
    }
    key_ = std::move(key);
    return true;
  }

  bool parse_error(size_t position, const std::string& token, const nlohmann::detail::exception& problem) {
    const bool too_large = problem.id == 406;
    size_t byte = std::min(position > 0 ? position - 1 : 0, text_.size());
    if (too_large) byte = std::min(text_.size(), std::max(position, token.size()) - token.size());
    const std::string place = place_in(text_, byte);
    if (too_large) {
      error_ = make_error(ErrorCode::kData, "{}, {}: the number {} is too large", name_, place, escaped_line(token));
      return false;
    }
    const size_t n = byte < text_.size() ? code_point_at(text_.data() + byte, text_.data() + text_.size()).bytes : 0;
    const std::string_view what = text_.substr(byte, std::max<size_t>(n, 1));
    error_ = make_error(ErrorCode::kData, "{}, {}: not JSON: {}", name_, place,
                        what.empty() ? "it ends there" : "unexpected " + quote(what));
    return false;
  }

  Json root;
  const Error& error() const { return error_; }

 private:
  size_t at() const { return static_cast<size_t>(*reached_ - text_.data()); }

  Json* put(Json value, int) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // Not by operator[], which looks through all keys before.
    auto& members = *parent.get_ptr<Json::object_t*>();
    members.push_back({std::move(key_), std::move(value)});
    return &members.back().second;
  }
  template <typename T>
  bool put(T&& value) {
    (void)put(Json(std::forward<T>(value)), 0);
    return true;
  }
  bool open(Json value) {
    if (open_.size() == kMaxJsonDepth) {
      error_ = make_error(ErrorCode::kLimit, "{}, {}: it is nested deeper than {}", name_, place_in(text_, at() - 1),
                          kMaxJsonDepth);
      return false;
    }
    if (value.is_object()) keys_.emplace_back();
    open_.push_back(put(std::move(value), 0));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& name_;
  const char** reached_;
  Error error_;
  std::vector<Json*> open_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
  std::string key_;
};

}  // namespace

std::string place_in(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, byte);
  const size_t newline = before.rfind('\n');
  const std::string_view line = newline == before.npos ? before : before.substr(newline + 1);
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return fmt::format("line {}, column {}", 1 + std::count(before.begin(), before.end(), '\n'),
                     1 + std::count_if(line.begin(), line.end(), starts_character));
}

Result<Json> parse_json(std::string_view text, const std::string& name) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  // nlohmann's reader takes it for the end, whatever follows.
  if (const size_t nul = text.find('\0'); nul != text.npos)
    return make_error(ErrorCode::kData, "{}, {}: not JSON: unexpected \"\\x00\"", name, place_in(text, nul));
  const char* reached = text.data();
  Builder builder(text, name, &reached);
  if (!Json::sax_parse(Cursor(text.data(), &reached), Cursor(text.data() + text.size(), nullptr), &builder))
    return builder.error();
  return std::move(builder.root);
}

Result<Json> read_json(const std::string& path, uint64_t max_bytes) {
  FOVEA_ASSIGN_OR_RETURN(const std::string bytes, read_file(path, max_bytes));
  const std::string name = path == "-" ? "standard input" : escaped_line(path);
  return parse_json(decode_marked(bytes).value_or(bytes), name);
}

}  // namespace fovea
