#include "fovea/models/support/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "fovea/base/bytes.h"

namespace fovea::models {
namespace {

constexpr std::string_view kTensors[] = {kRopeFactors, kLongFactors, kShortFactors};
constexpr double kMaxFactor = 1e6, kMinFactor = 1e-6, kMaxContext = 1 << 28;

class Reader {
 public:
  Reader(const Keys& keys, const RopeKeys& at, tensor::RopePairing pairing, int64_t turned, int64_t n_ctx)
      : keys_(keys), at_(at), n_(turned / 2), turned_(turned), n_ctx_(n_ctx) {
    out_.table.pairing = pairing;
  }

  Status begin(double base) {
    FOVEA_ASSIGN_OR_RETURN(base_, keys_.number_or(at_.base, base, 1, 1e12));
    for (int64_t i = 0; i < n_; ++i)
      theta_.push_back(std::pow(base_, -2.0 * static_cast<double>(i) / static_cast<double>(turned_)));
    return {};
  }

  Result<std::vector<float>> llama3_divisors() const {
    FOVEA_ASSIGN_OR_RETURN(const double by, factor());
    FOVEA_ASSIGN_OR_RETURN(const double original, original_context());
    FOVEA_ASSIGN_OR_RETURN(const double low, keys_.number(key("low_freq_factor"), kMinFactor, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const double high, keys_.number(key("high_freq_factor"), kMinFactor, kMaxFactor));
    if (low >= high)
      return keys_.problem(ErrorCode::kData, key("low_freq_factor"), fmt::format("is {}, not below {}", low, high));
    std::vector<float> divisors;
    for (const double theta : theta_) {
      const double waves = original * theta / (2 * std::numbers::pi);  // in the original context
      const double mix = std::clamp((waves - low) / (high - low), 0.0, 1.0);
      divisors.push_back(static_cast<float>(1 / ((1 - mix) / by + mix)));
    }
    return divisors;
  }

  Result<RopeTables> read(double base) {
    FOVEA_RETURN_IF_ERROR(begin(base));
    if (at_.tensors) {
      FOVEA_ASSIGN_OR_RETURN(const std::vector<double> factors, tensor_factors(kRopeFactors));
      for (size_t i = 0; i < factors.size(); ++i) theta_[i] /= factors[i];
    }
    FOVEA_RETURN_IF_ERROR(check_all());
    FOVEA_ASSIGN_OR_RETURN(std::string type, keys_.text_or(key("type"), ""));
    if (type.empty()) type = untyped();
    static constexpr std::pair<std::string_view, Status (Reader::*)()> kScalings[] = {
        {"none", &Reader::none},     {"linear", &Reader::linear}, {"dynamic", &Reader::none},
        {"llama3", &Reader::llama3}, {"yarn", &Reader::yarn},     {"longrope", &Reader::longrope}};
    for (const auto& [name, scale] : kScalings) {
      if (name != type) continue;
      FOVEA_RETURN_IF_ERROR((this->*scale)());
      if (out_.table.inv_freq.empty()) out_.table.inv_freq.assign(theta_.begin(), theta_.end());
      return std::move(out_);
    }
    return keys_.problem(
        ErrorCode::kUnsupported, key("type"),
        fmt::format("is {}; none, linear, dynamic, llama3, yarn and longrope are supported", quote(type)));
  }

 private:
  std::string key(std::string_view name) const { return std::string(at_.scaling) + std::string(name); }

  // Also what the file's scaling has no use for: it says what is wrong with the file.
  Status check_all() const {
    for (const char* name : {"factor", "attn_factor", "attention_factor", "yarn_beta_fast", "yarn_beta_slow",
                             "low_freq_factor", "high_freq_factor"})
      FOVEA_RETURN_IF_ERROR(keys_.number_or(key(name), 1, kMinFactor, kMaxFactor));
    for (const char* name : {"mscale", "mscale_all_dim"})
      FOVEA_RETURN_IF_ERROR(keys_.number_or(key(name), 0, 0, kMaxFactor));
    FOVEA_RETURN_IF_ERROR(keys_.number_or(key("original_context_length"), 1, 1, kMaxContext));
    FOVEA_RETURN_IF_ERROR(keys_.flag_or(key("truncate"), true));
    for (const char* name : {"short_factors", "long_factors"}) {
      if (keys_.has(key(name))) FOVEA_RETURN_IF_ERROR(factors_of("", name));
    }
    return {};
  }

  // A factor alone is linear; divisors for long contexts alone are LongRoPE's.
  std::string untyped() const {
    if (at_.tensors && keys_.source().find_tensor(kLongFactors)) return "longrope";
    return keys_.has(key("factor")) || (at_.tensors && keys_.has("rope.scale_linear")) ? "linear" : "none";
  }

  // Positive divisors of every pair from a tensor of the file; none if it is not there.
  Result<std::vector<double>> tensor_factors(std::string_view name) const {
    std::vector<double> factors;
    const formats::TensorInfo* tensor = keys_.source().find_tensor(name);
    if (!tensor) return factors;
    const std::string where = fmt::format("tensor {}", name), &file = keys_.source().name();
    if (tensor->dtype != kernels::DType::kF32 || tensor->dims != std::vector<int64_t>{n_})
      return Error{ErrorCode::kData, fmt::format("{}: {} should be F32 [{}]", file, where, n_), where};
    for (int64_t i = 0; i < n_; ++i) {
      float value;
      std::memcpy(&value, tensor->data.data() + i * static_cast<int64_t>(sizeof(float)), sizeof(float));
      if (!std::isfinite(value) || value <= 0)
        return Error{ErrorCode::kData, fmt::format("{}: {} holds {}", file, where, value), where};
      factors.push_back(value);
    }
    return factors;
  }

  Result<std::vector<double>> factors_of(std::string_view tensor, std::string_view name) const {
    if (!keys_.has(key(name))) {
      FOVEA_ASSIGN_OR_RETURN(std::vector<double> factors, tensor_factors(tensor));
      if (factors.empty())
        return keys_.problem(ErrorCode::kData, key(name), fmt::format("is missing, and so is tensor {}", tensor));
      return factors;
    }
    FOVEA_ASSIGN_OR_RETURN(std::vector<double> factors, keys_.numbers(key(name), static_cast<size_t>(n_)));
    for (const double factor : factors) {
      if (!(factor >= kMinFactor && factor <= kMaxFactor))
        return keys_.problem(ErrorCode::kData, key(name), fmt::format("holds {}", factor));
    }
    // As transformers reckons with them, and as GGUF files hold them.
    for (double& factor : factors) factor = static_cast<double>(static_cast<float>(factor));
    return factors;
  }

  Result<double> factor() const {
    const bool old_name = !keys_.has(key("factor")) && at_.tensors && keys_.has("rope.scale_linear");
    return keys_.number(old_name ? "rope.scale_linear" : key("factor"), kMinFactor, kMaxFactor);
  }
  Result<double> original_context() const { return keys_.number(key("original_context_length"), 1, kMaxContext); }
  // The factor, or how much longer than the original the context is.
  Result<double> factor_or_ratio(double original) const {
    if (keys_.has(key("factor"))) return factor();
    return static_cast<double>(n_ctx_) / original;
  }

  Status none() { return {}; }

  Status linear() {
    FOVEA_ASSIGN_OR_RETURN(const double by, factor());
    for (double& theta : theta_) theta /= by;
    return {};
  }

  Status llama3() {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<float> divisors, llama3_divisors());
    for (size_t i = 0; i < theta_.size(); ++i) theta_[i] /= divisors[i];
    return {};
  }

  Status yarn() {
    FOVEA_ASSIGN_OR_RETURN(const double original, original_context());
    FOVEA_ASSIGN_OR_RETURN(const double by, factor_or_ratio(original));
    FOVEA_ASSIGN_OR_RETURN(const double fast, keys_.number_or(key("yarn_beta_fast"), 32, kMinFactor, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const double slow, keys_.number_or(key("yarn_beta_slow"), 1, kMinFactor, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const bool truncate, keys_.flag_or(key("truncate"), at_.truncates));
    if (base_ <= 1) return keys_.problem(ErrorCode::kData, at_.base, "is 1, with which yarn has no dimensions");
    const auto dimension = [&](double rotations) {
      return static_cast<double>(turned_) * std::log(original / (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(base_));
    };
    double low = dimension(fast), high = dimension(slow);
    if (truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, static_cast<double>(turned_ - 1));
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < n_; ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      theta_[static_cast<size_t>(i)] *= ramp / by + (1 - ramp);
    }
    const auto mscale = [by](double m) { return by <= 1 ? 1.0 : 0.1 * m * std::log(by) + 1; };
    FOVEA_ASSIGN_OR_RETURN(const double m, keys_.number_or(key("mscale"), 0, 0, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const double m_all, keys_.number_or(key("mscale_all_dim"), 0, 0, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const double times, keys_.number_or(key("attn_factor"), 1, kMinFactor, kMaxFactor));
    const double own = m > 0 && m_all > 0 ? mscale(m) / mscale(m_all) : mscale(1);
    FOVEA_ASSIGN_OR_RETURN(const double whole,
                           keys_.number_or(key("attention_factor"), own * times, kMinFactor, kMaxFactor));
    out_.table.attn_factor = static_cast<float>(whole);
    return {};
  }

  Status longrope() {
    FOVEA_ASSIGN_OR_RETURN(const double original, original_context());
    FOVEA_ASSIGN_OR_RETURN(const double by, factor_or_ratio(original));
    FOVEA_ASSIGN_OR_RETURN(const std::vector<double> small, factors_of(kShortFactors, "short_factors"));
    FOVEA_ASSIGN_OR_RETURN(const std::vector<double> large, factors_of(kLongFactors, "long_factors"));
    const double own = by <= 1 || original <= 1 ? 1 : std::sqrt(1 + std::log(by) / std::log(original));
    FOVEA_ASSIGN_OR_RETURN(const double times, keys_.number_or(key("attn_factor"), own, kMinFactor, kMaxFactor));
    FOVEA_ASSIGN_OR_RETURN(const double whole, keys_.number_or(key("attention_factor"), times, kMinFactor, kMaxFactor));
    out_.table.attn_factor = static_cast<float>(whole);
    out_.beyond = out_.table;
    out_.short_context = static_cast<int>(original);
    for (int64_t i = 0; i < n_; ++i) {
      const auto at = static_cast<size_t>(i);
      out_.table.inv_freq.push_back(static_cast<float>(theta_[at] / small[at]));
      out_.beyond->inv_freq.push_back(static_cast<float>(theta_[at] / large[at]));
    }
    return {};
  }

  const Keys& keys_;
  const RopeKeys& at_;
  int64_t n_, turned_, n_ctx_;
  double base_ = 0;
  std::vector<double> theta_;
  RopeTables out_;
};

}  // namespace

std::span<const std::string_view> rope_tensors() { return kTensors; }

Result<RopeTables> read_rope(const Keys& keys, tensor::RopePairing pairing, int64_t turned, int64_t n_ctx,
                             const RopeKeys& at, double base) {
  return Reader(keys, at, pairing, turned, n_ctx).read(base);
}

Result<std::vector<float>> llama3_divisors(const Keys& keys, int64_t turned) {
  const RopeKeys at;
  Reader reader(keys, at, {}, turned, 0);
  FOVEA_RETURN_IF_ERROR(reader.begin(10000));
  return reader.llama3_divisors();
}

}  // namespace fovea::models
