// The metadata keys of one architecture, read and checked one by one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"

namespace fovea::models {

class Keys {
 public:
  Keys(const formats::ModelSource& source, std::string architecture)
      : source_(source), architecture_(std::move(architecture)) {}

  const formats::ModelSource& source() const { return source_; }
  const std::string& architecture() const { return architecture_; }
  std::string name(std::string_view key) const { return architecture_ + "." + std::string(key); }
  bool lists(std::string_view key) const;  // whether the family reads it at all
  // What the family does not list is not there for it: read_config refuses a file with such a key.
  bool has(std::string_view key) const { return lists(key) && source_.has(name(key)); }

  // kData, kLimit or kUnsupported, naming file, key and what is allowed. The second form of a kind takes `otherwise`
  // where the key is missing.
  Result<int64_t> size(std::string_view key, int64_t min, int64_t max) const;
  Result<int64_t> size_or(std::string_view key, int64_t otherwise, int64_t min, int64_t max) const;
  Result<double> number(std::string_view key, double min, double max) const;
  Result<double> number_or(std::string_view key, double otherwise, double min, double max) const;
  Result<bool> flag_or(std::string_view key, bool otherwise) const;
  Result<std::string> text_or(std::string_view key, std::string_view otherwise) const;
  // As many as there should be; bools count as 0 and 1.
  Result<std::vector<int64_t>> integers(std::string_view key, size_t n) const;
  Result<std::vector<double>> numbers(std::string_view key, size_t n) const;
  Result<std::vector<std::string_view>> texts(std::string_view key, size_t n) const;

  // `what` follows "FILE: key KEY".
  Error problem(ErrorCode code, std::string_view key, std::string_view what) const;

 private:
  Status check_count(std::string_view key, size_t found, size_t wanted) const;

  const formats::ModelSource& source_;
  std::string architecture_;
};

}  // namespace fovea::models
