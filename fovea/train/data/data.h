// What a model is trained on: samples by number. A sample is a function of its number and the config alone, so that
// a run can go on anywhere and gives the same bits on any machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/tensor/ops/loss/cross_entropy.h"  // kNoTarget
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/train/part.h"

namespace fovea::train {

using tensor::kNoTarget;

// What nets that look at pictures get besides tokens.
struct Picture {
  int64_t channels = 0, height = 0, width = 0;
  std::vector<float> pixels = {};  // [channels, height, width], about -1 to 1
  int32_t label = -1;              // -1: there is none
  std::vector<uint8_t> mask = {};  // [height, width]: 0 or the number of the object there, from 1; may be empty
  std::vector<float> noise = {};   // like pixels: what a denoising net is to find, where it is not drawn
  int32_t time = -1;               // and at which step of the schedule
};

// tokens[i] is read, and targets[i] should be what follows; kNoTarget: nothing is wanted there.
struct Sample {
  std::vector<int32_t> tokens = {}, targets = {};
  std::shared_ptr<const Picture> picture = {};
  int64_t n_targets() const;
  // Of n + 1 tokens, the first n with the last n as targets.
  static Sample next_token(std::vector<int32_t> tokens);
};

class Data {
 public:
  struct Context {
    const tokenizers::Tokenizer* tokenizer = nullptr;  // null: the model has none, and texts are refused
    std::string no_tokenizer = {};                     // why
    const formats::ModelSource* source = nullptr;      // with the chat template; null: messages are refused
    int64_t vocab_size = 0;
    int64_t context = 0;                          // tokens of a sample at most
    uint64_t seed = 0;                            // where the settings say no other
    int64_t n_labels = 0;                         // labels of pictures are below this; 0: nobody asks
    int64_t channels = 0, height = 0, width = 0;  // of the pictures that are wanted; 0: none are, or any
  };
  virtual ~Data() = default;
  // Samples of one round; generators have as many as anybody asks for.
  static constexpr uint64_t kEndless = uint64_t{1} << 62;
  virtual uint64_t size() const = 0;
  virtual Sample sample(uint64_t index) const = 0;  // index < size()
  // Number i of the whole run in the order "sequential".
  virtual Sample sequential(uint64_t i) const { return sample(i % size()); }
  // What is drawn from: these data alone, or the parts of a mix. Samples of one are of one kind.
  virtual std::vector<const Data*> parts() const { return {this}; }
  // Tells these data from others.
  virtual std::string fingerprint() const = 0;
  // In one line for people: "12,345 tokens of 2 files".
  virtual std::string summary() const = 0;
};

// A long run of tokens, cut as the order says.
class TokenStream : public Data {
 public:
  // Refuses what is too short for the context, has ids outside the vocabulary.
  TokenStream(Settings& settings, const Context& context) : context_(context.context) {}
  uint64_t size() const override;
  Sample sample(uint64_t index) const override { return at(index * static_cast<uint64_t>(context_)); }
  // Sample i begins at token (i (context + 1)) mod (n - context - 1).
  Sample sequential(uint64_t i) const override;
  std::string fingerprint() const override;
  std::string summary() const override { return summary_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }

 protected:
  void take(Settings& settings, std::string_view key, std::vector<int32_t> tokens, const Context& context,
            std::string summary);

 private:
  Sample at(uint64_t begin) const;
  int64_t context_;
  std::vector<int32_t> tokens_;
  std::string summary_;
};

// Examples that stand each for themselves.
class ExampleList : public Data {
 public:
  uint64_t size() const override { return examples_.size(); }
  Sample sample(uint64_t index) const override { return examples_[index]; }
  std::string fingerprint() const override;
  std::string summary() const override { return summary_; }

 protected:
  std::vector<Sample> examples_ = {};
  std::string summary_ = {};
};

// Samples that are drawn. Its settings are those of the generator and "seed".
class Generator : public Data {
 public:
  uint64_t size() const override { return kEndless; }
  Sample sample(uint64_t index) const override {
    Rng rng(Rng(seed_).next() ^ index * 0x9e3779b97f4a7c15u);
    return draw(rng);
  }
  std::string fingerprint() const override { return fingerprint_; }
  std::string summary() const override { return fingerprint_; }

 protected:
  Generator(Settings& settings, const Context& context);
  virtual Sample draw(Rng& rng) const = 0;
  uint64_t seed() const { return seed_; }

 private:
  uint64_t seed_;
  std::string fingerprint_;
};

// {"tokens": FILE}, {"text": ...}, {"jsonl": FILE}, {"images": FILE, ...}, {"image_folder": FOLDER},
// {"generator": NAME, ...}. Null, and the
// settings know why.
std::unique_ptr<Data> make_data(Settings& settings, const Data::Context& context);
std::vector<std::string> generator_names();

// Sample i of the run in the order "sequential" or "shuffled"; the latter goes through all of them in each round, in a
// new order that the seed says.
class Order {
 public:
  Order(const Data& data, bool shuffled, uint64_t seed) : data_(data), shuffled_(shuffled), seed_(seed) {}
  Sample operator()(uint64_t i);

 private:
  const Data& data_;
  bool shuffled_;
  uint64_t seed_;
  uint64_t round_ = UINT64_MAX;
  std::vector<uint32_t> permutation_;  // of the round
};

}  // namespace fovea::train
