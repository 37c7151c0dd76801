// Keys and values that a method has made itself (gathered, turned, averaged) as a page for the parts of a KeyPlan
// (KeyPlan::add_page), and the turns that keys need for it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "fovea/attention/key_plan.h"
#include "fovea/tensor/ops/attention/rope.h"

namespace fovea::attention {

// One page in the types and widths of a call's cache; empty at first. Slots are filled in any order. With a v_dim of 0
// it has keys alone, and attention must not read it.
class OwnPage {
 public:
  explicit OwnPage(const KeyPlan::Layout& layout);
  OwnPage(const OwnPage& other);
  OwnPage& operator=(const OwnPage&) = delete;

  KeyBlock block() const { return {bytes_.get(), bytes_.get() + key_bytes_, positions_.data()}; }
  int32_t position(int slot) const { return positions_[static_cast<size_t>(slot)]; }
  // k and v as wide as the model's heads or as the layout, which may be wider: zeros past their end.
  void put(int slot, int32_t position, std::span<const float> k, std::span<const float> v);
  // The value in a slot of another page of the same layout, to the bit; the key too if none is given.
  void put(int slot, int32_t position, std::span<const float> k, const KeyBlock& from, int from_slot);
  void put(int slot, int32_t position, const KeyBlock& from, int from_slot);
  size_t bytes() const { return n_bytes_ + sizeof(positions_); }
  void clear(int slot) { positions_[static_cast<size_t>(slot)] = kernels::kNoPosition; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  void put_key(int slot, std::span<const float> k);

  KeyPlan::Layout layout_;
  size_t key_bytes_, n_bytes_;
  std::unique_ptr<std::byte, Free> bytes_;
  std::array<int32_t, kernels::kPageKeys> positions_;
};

// Turns keys by numbers of places: the angle of n places is the product of those of its digits, which stand in tables,
// so that no sine is taken for a key. float32; n is below 2^21.
class KeyTurns {
 public:
  explicit KeyTurns(const tensor::RopeTable& rope);
  // A key that is not turned, as attention wants it at `position`, which is not negative.
  void turn(int32_t position, std::span<float> k) const { rotate(position, factor_, k); }
  // A turned key by `places` more, back if they are negative.
  void move(int32_t places, std::span<float> k) const { rotate(places, 1.0f, k); }

 private:
  static constexpr int kBits = 7, kLevels = 3, kDigits = 1 << kBits;
  void rotate(int32_t places, float factor, std::span<float> k) const;

  size_t n_pairs_;
  tensor::RopePairing pairing_;
  float factor_;
  std::vector<float> cos_, sin_;  // [kLevels, kDigits, n_pairs]
};

// Those of the tables that a sequence's layers turn by, made at first use; copies of a state share them.
class KnownTurns {
 public:
  const KeyTurns* of(const tensor::RopeTable* rope);  // null for null

 private:
  std::vector<std::pair<const tensor::RopeTable*, std::shared_ptr<const KeyTurns>>> known_;
};

}  // namespace fovea::attention
