// libFuzzer target: a vocabulary and a text from any bytes. A sound vocabulary (the 256 bytes and
// merges of them) must encode as the slow twin does and give the bytes back; an arbitrary one must be
// refused or work. Seeds: tests/fuzz/tokenizer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fovea/tokenizers/testing/slow_tokenizer.h"
#include "fovea/tokenizers/testing/vocabulary.h"
#include "fovea/tokenizers/unicode_forms.h"
#include "fovea/tokenizers/utf8.h"

namespace {

using namespace fovea::tokenizers;
using Ids = std::vector<int32_t>;

void require(bool fact) {
  if (!fact) std::abort();
}

std::string_view pre_of(uint8_t byte) { return pre_tokenizers()[byte % pre_tokenizers().size()].names[0]; }

void check_streaming(const Tokenizer& tokenizer, const Ids& ids) {
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = stream.push(id);
    require(is_utf8(part));
    text += part;
  }
  require(text + stream.finish() == replace_invalid_utf8(*tokenizer.decode(ids)));
}

// [pre] [number of merges] [left right]... [text]
void sound_vocabulary(const uint8_t* data, size_t size) {
  if (size < 2) return;
  const std::string_view pre = pre_of(data[0]);
  const size_t n_merges = std::min<size_t>(data[1] % 64, (size - 2) / 2);
  TestVocabulary vocabulary;
  const auto token = [&vocabulary](uint8_t byte) {  // the upper half: a merged token, once there are some
    const size_t merged = vocabulary.size() - 256;
    return static_cast<int32_t>(byte >= 128 && merged > 0 ? 256 + byte % merged : byte);
  };
  for (size_t i = 0; i < n_merges; ++i) vocabulary.merge(token(data[2 + 2 * i]), token(data[3 + 2 * i]));
  fovea::Rng random(data[0]);
  if (data[0] & 64) vocabulary.shuffle_merges(random);
  const Vocabulary v = vocabulary.view(pre);
  const auto tokenizer = Tokenizer::create(v);
  const auto slow = SlowTokenizer::create(v);
  require(tokenizer.has_value() && slow.has_value());
  const std::string_view text(reinterpret_cast<const char*>(data) + 2 + 2 * n_merges, size - 2 - 2 * n_merges);
  const std::string_view shown = text.substr(0, 4096);
  std::vector<uint32_t> offsets;
  const auto ids = (*tokenizer)->encode(shown, {}, &offsets);
  require(ids.has_value() && offsets.size() == ids->size());
  require(*ids == *slow->encode(shown));
  const std::string composed = find_pre_tokenizer(pre)->nfc ? normalized(UnicodeForm::kNfc, shown) : std::string(shown);
  require(*(*tokenizer)->decode(*ids) == composed);
  for (size_t i = 0; i < ids->size(); ++i) {
    require(offsets[i] < shown.size() && (i == 0 || offsets[i - 1] <= offsets[i]));
    const std::string_view piece = (*tokenizer)->piece((*ids)[i]);
    require(composed != shown || shown.substr(offsets[i], piece.size()) == piece);
  }
  check_streaming(**tokenizer, *ids);
}

// [pre] [number of tokens] [number of merges], then lines: tokens, merges and the text.
void any_vocabulary(const uint8_t* data, size_t size) {
  if (size < 3) return;
  Vocabulary v;
  v.name = "fuzz";
  v.kind = "gpt2";
  v.pre = pre_of(data[0]);
  std::string_view rest(reinterpret_cast<const char*>(data) + 3, size - 3);
  const auto line = [&rest] {
    const std::string_view part = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    return part;
  };
  for (int n = data[1]; n > 0 && !rest.empty(); --n) {
    v.tokens.push_back(line());
    v.types.push_back(static_cast<TokenType>(v.tokens.back().size() % 7));
  }
  for (int n = data[2]; n > 0 && !rest.empty(); --n) v.merges.push_back(line());
  v.bos = v.tokens.empty() ? -1 : 0;
  v.eos = data[1] & 1 ? 1 : -1;
  v.add_bos = data[1] & 2;
  v.add_eos = data[1] & 4;
  const auto tokenizer = Tokenizer::create(v);
  if (!tokenizer) return require(!tokenizer.error().message.empty());
  for (const bool special : {false, true}) {
    std::vector<uint32_t> offsets;
    const auto ids = (*tokenizer)->encode(rest, {.parse_special = special}, &offsets);
    require(ids.has_value() && ids->size() == offsets.size());
    require((*tokenizer)->decode(*ids, true).has_value());
    check_streaming(**tokenizer, *ids);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > (1 << 16)) return 0;
  if (data[0] & 128)
    any_vocabulary(data, size);
  else
    sound_vocabulary(data, size);
  return 0;
}
