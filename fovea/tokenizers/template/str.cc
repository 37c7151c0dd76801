#include "fovea/tokenizers/template/str.h"

namespace fovea::tokenizers::jinja {

size_t Str::run_of(size_t byte) const {
  const auto at =
      std::upper_bound(runs_.begin(), runs_.end(), byte, [](size_t b, const Run& run) { return b < run.end; });
  return static_cast<size_t>(at - runs_.begin());
}

Owner Str::owner_at(size_t byte) const {
  if (runs_.empty()) return owner_;
  return runs_[std::min(run_of(byte), runs_.size() - 1)].owner;
}

Owner Str::blend() const {
  if (runs_.empty()) return owner_;
  const auto data = std::find_if(runs_.begin(), runs_.end(), [](const Run& run) { return run.owner != kTemplate; });
  return data == runs_.end() ? kTemplate : data->owner;
}

int64_t Str::cost(size_t begin, size_t end) const {
  if (begin >= end) return 0;
  const size_t n_runs = runs_.empty() ? 0 : run_of(end - 1) - run_of(begin) + 1;
  return static_cast<int64_t>(end - begin + n_runs * sizeof(Run));
}

Str Str::substr(size_t begin, size_t n) const {
  Str out;
  begin = std::min(begin, size());
  out.owner_ = owner_at(begin);
  out.append(*this, begin, n);
  return out;
}

void Str::append(std::string_view bytes, Owner owner) {
  if (bytes.empty()) return;
  if (empty()) {
    runs_.clear();
    owner_ = owner;
  } else if (runs_.empty() && owner != owner_) {
    runs_ = {{size(), owner_}, {size() + bytes.size(), owner}};
  } else if (!runs_.empty()) {
    if (runs_.back().owner == owner)
      runs_.back().end += bytes.size();
    else
      runs_.push_back({size() + bytes.size(), owner});
  }
  bytes_ += bytes;
}

void Str::append(const Str& other, size_t begin, size_t n) {
  begin = std::min(begin, other.size());
  const size_t end = begin + std::min(n, other.size() - begin);
  other.for_each_run(begin, end, [&](size_t from, size_t to, Owner owner) {
    append(std::string_view(other.bytes_).substr(from, to - from), owner);
  });
}

std::vector<Run> Str::runs() const {
  if (!runs_.empty() || empty()) return runs_;
  return {{size(), owner_}};
}

}  // namespace fovea::tokenizers::jinja
