#include "fovea/train/data/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/nearest.h"

namespace fovea::train {
namespace {

std::string hash_of(std::span<const int32_t> ids) { return sha256_of(std::as_bytes(ids)); }

}  // namespace

int64_t Sample::n_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int32_t id) { return id >= 0; });
}

Sample Sample::next_token(std::vector<int32_t> tokens) {
  Sample out;
  out.targets.assign(tokens.begin() + 1, tokens.end());
  tokens.pop_back();
  out.tokens = std::move(tokens);
  return out;
}

void TokenStream::take(Settings& settings, std::string_view key, std::vector<int32_t> tokens, const Context& context,
                       std::string summary) {
  tokens_ = std::move(tokens);
  summary_ = std::move(summary);
  const auto n = static_cast<int64_t>(tokens_.size());
  if (n < context_ + 2) {
    settings.wrong(
        key, n == 0 ? std::string("has no tokens")
                    : fmt::format("has {} tokens, and a context of {} needs {} or more", n, context_, context_ + 2));
    return;
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i] >= 0 && tokens_[i] < context.vocab_size) continue;
    settings.wrong(key, fmt::format("has the id {} at {}; the vocabulary has {}", tokens_[i], i, context.vocab_size));
    return;
  }
}

uint64_t TokenStream::size() const { return (tokens_.size() - 1) / static_cast<uint64_t>(context_); }

Sample TokenStream::sequential(uint64_t i) const {
  const auto width = static_cast<uint64_t>(context_) + 1;
  return at(i * width % (tokens_.size() - width));
}

Sample TokenStream::at(uint64_t begin) const {
  const auto first = tokens_.begin() + static_cast<int64_t>(begin);
  return Sample::next_token({first, first + context_ + 1});
}

std::string TokenStream::fingerprint() const { return hash_of(tokens_); }

std::string ExampleList::fingerprint() const {
  std::vector<int32_t> all;
  for (const Sample& one : examples_) {
    all.insert(all.end(), one.tokens.begin(), one.tokens.end());
    all.insert(all.end(), one.targets.begin(), one.targets.end());
    all.push_back(INT32_MIN);
  }
  return hash_of(all);
}

Generator::Generator(Settings& settings, const Context& context)
    : seed_(static_cast<uint64_t>(settings.integer("seed", static_cast<int64_t>(context.seed), 0, INT64_MAX))) {
  nlohmann::ordered_json all = settings.json();
  all["seed"] = seed_;
  fingerprint_ = fmt::format("{}, vocabulary {}, context {}", all.dump(), context.vocab_size, context.context);
}

std::vector<std::string> generator_names() { return part_names<Generator>(); }

std::unique_ptr<Data> make_data(Settings& settings, const Data::Context& context) {
  std::vector<std::string> kinds = part_names<Data>();
  kinds.emplace_back("generator");
  std::sort(kinds.begin(), kinds.end());
  std::string kind;
  for (const std::string& one : kinds) {
    if (!settings.has(one)) continue;
    if (!kind.empty()) {
      settings.wrong(one, fmt::format("stands beside {}: data come from one place", kind));
      return nullptr;
    }
    kind = one;
  }
  if (kind.empty()) {
    const bool none = settings.json().empty();
    const std::string first = none ? "" : settings.json().begin().key();
    const auto nearest = nearest_names(first, kinds, 1);
    settings.wrong(none ? "tokens" : first, none ? fmt::format("is missing: data are one of {}", fmt::join(kinds, ", "))
                                                 : fmt::format("is no kind of data; there are {}; the nearest is {}",
                                                               fmt::join(kinds, ", "), nearest[0]));
    return nullptr;
  }
  if (kind == "generator") {
    const std::string name = settings.text("generator", std::nullopt);
    return make_part<Generator>(settings, "generator", name, context);
  }
  return make_part<Data>(settings, kind, kind, context);
}

Sample Order::operator()(uint64_t i) {
  if (!shuffled_) return data_.sequential(i);
  const uint64_t n = data_.size();
  if (n >= Data::kEndless) return data_.sample(i);
  if (i / n != round_) {
    round_ = i / n;
    Rng rng(Rng(seed_).next() ^ round_ * 0x9e3779b97f4a7c15u);
    permutation_.resize(n);
    for (uint32_t k = 0; k < n; ++k) permutation_[k] = k;
    for (uint64_t k = n; k > 1; --k) std::swap(permutation_[k - 1], permutation_[rng.below(k)]);
  }
  return data_.sample(permutation_[i % n]);
}

}  // namespace fovea::train
