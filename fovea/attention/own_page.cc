#include "fovea/attention/own_page.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "fovea/base/check.h"
#include "fovea/kernels/attention.h"

namespace fovea::attention {
namespace {

constexpr std::align_val_t kPageAlignment{64};
constexpr size_t kWidestHead = 256;

// As wide as a page's, zeros past its end.
const float* widened(std::span<const float> x, int width, std::array<float, kWidestHead>& room) {
  FOVEA_CHECK(x.size() <= static_cast<size_t>(width), "own page: {} numbers in a slot of {}", x.size(), width);
  if (x.size() == static_cast<size_t>(width)) return x.data();
  std::fill(std::copy(x.begin(), x.end(), room.begin()), room.end(), 0.0f);
  return room.data();
}

}  // namespace

void OwnPage::Free::operator()(std::byte* bytes) const { ::operator delete(bytes, kPageAlignment); }

OwnPage::OwnPage(const KeyPlan::Layout& layout)
    : layout_(layout),
      key_bytes_(kernels::key_bytes(layout.k_type, layout.k_dim)),
      n_bytes_(key_bytes_ + kernels::value_bytes(layout.v_type, layout.v_dim)),
      bytes_(static_cast<std::byte*>(::operator new(n_bytes_, kPageAlignment))) {
  std::memset(bytes_.get(), 0, n_bytes_);  // a dead slot must not hold NaN: 0 * NaN would leak into z
  positions_.fill(kernels::kNoPosition);
}

OwnPage::OwnPage(const OwnPage& other)
    : layout_(other.layout_),
      key_bytes_(other.key_bytes_),
      n_bytes_(other.n_bytes_),
      bytes_(static_cast<std::byte*>(::operator new(other.n_bytes_, kPageAlignment))),
      positions_(other.positions_) {
  std::memcpy(bytes_.get(), other.bytes_.get(), n_bytes_);
}

void OwnPage::put_key(int slot, std::span<const float> k) {
  std::array<float, kWidestHead> room;
  kernels::key_write(bytes_.get(), layout_.k_type, layout_.k_dim, slot, widened(k, layout_.k_dim, room));
}

void OwnPage::put(int slot, int32_t position, std::span<const float> k, std::span<const float> v) {
  put_key(slot, k);
  positions_[static_cast<size_t>(slot)] = position;
  if (layout_.v_dim == 0) return;
  std::array<float, kWidestHead> room;
  kernels::value_write(bytes_.get() + key_bytes_, layout_.v_type, layout_.v_dim, slot, widened(v, layout_.v_dim, room));
}

void OwnPage::put(int slot, int32_t position, std::span<const float> k, const KeyBlock& from, int from_slot) {
  put_key(slot, k);
  kernels::value_copy(bytes_.get() + key_bytes_, slot, from.v, from_slot, layout_.v_type, layout_.v_dim);
  positions_[static_cast<size_t>(slot)] = position;
}

void OwnPage::put(int slot, int32_t position, const KeyBlock& from, int from_slot) {
  kernels::key_copy(bytes_.get(), slot, from.k, from_slot, layout_.k_type, layout_.k_dim);
  kernels::value_copy(bytes_.get() + key_bytes_, slot, from.v, from_slot, layout_.v_type, layout_.v_dim);
  positions_[static_cast<size_t>(slot)] = position;
}

KeyTurns::KeyTurns(const tensor::RopeTable& rope)
    : n_pairs_(rope.inv_freq.size()), pairing_(rope.pairing), factor_(rope.attn_factor) {
  cos_.resize(size_t{kLevels} * kDigits * n_pairs_);
  sin_.resize(cos_.size());
  for (size_t at = 0, level = 0; level < kLevels; ++level) {
    for (size_t digit = 0; digit < kDigits; ++digit) {
      for (size_t i = 0; i < n_pairs_; ++i, ++at) {
        const double angle = static_cast<double>(rope.inv_freq[i]) * static_cast<double>(digit << (level * kBits));
        cos_[at] = static_cast<float>(std::cos(angle));
        sin_[at] = static_cast<float>(std::sin(angle));
      }
    }
  }
}

void KeyTurns::rotate(int32_t places, float factor, std::span<float> k) const {
  FOVEA_CHECK(std::abs(places) < 1 << (kLevels * kBits), "key turns: {} places", places);
  FOVEA_CHECK(2 * n_pairs_ <= k.size(), "key turns: {} angles for a key of {}", n_pairs_, k.size());
  const bool halves = pairing_ == tensor::RopePairing::kHalves;
  const size_t step = halves ? 1 : 2, other = halves ? n_pairs_ : 1;
  if (factor != 1.0f) std::for_each_n(k.begin(), 2 * n_pairs_, [factor](float& x) { x *= factor; });
  const float sign = places < 0 ? -1.0f : 1.0f;
  auto left = static_cast<uint32_t>(std::abs(places));
  for (size_t level = 0; left > 0; ++level, left >>= kBits) {
    const size_t digit = left & (kDigits - 1);
    if (digit == 0) continue;
    const float *c = cos_.data() + (level * kDigits + digit) * n_pairs_, *s = sin_.data() + (c - cos_.data());
    for (size_t i = 0; i < n_pairs_; ++i) {
      float &a = k[i * step], &b = k[i * step + other];
      const float x = a, y = b, sine = sign * s[i];
      a = x * c[i] - y * sine;
      b = x * sine + y * c[i];
    }
  }
}

const KeyTurns* KnownTurns::of(const tensor::RopeTable* rope) {
  if (!rope) return nullptr;
  for (const auto& [table, turns] : known_) {
    if (table == rope) return turns.get();
  }
  known_.emplace_back(rope, std::make_shared<KeyTurns>(*rope));
  return known_.back().second.get();
}

}  // namespace fovea::attention
