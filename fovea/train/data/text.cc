// {"text": FILE or [FILE, ...]}: texts through the model's tokenizer. Packed, the default: one long run of tokens, the
// end token of the vocabulary between files. With "by": "document" no sample reads past a document, which is a file or,
// with "split", what stands between two lines that hold just that text.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

struct Texts {
  std::vector<std::vector<int32_t>> documents;
  size_t n_tokens = 0, n_files = 0;
};

std::vector<std::string> documents_of(const std::string& text, const std::string& split) {
  if (split.empty()) return {text};
  std::vector<std::string> out(1);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (text.compare(at, end - at, split) == 0) {
      out.emplace_back();
    } else {
      out.back() += text.substr(at, end + 1 - at);
    }
    at = end + 1;
  }
  std::erase_if(out, [](const std::string& one) { return one.find_first_not_of(" \n\r\t") == one.npos; });
  return out;
}

Texts read(Settings& settings, const Data::Context& context) {
  Texts out;
  const std::vector<std::string> files = settings.texts("text", {});
  const std::string split = settings.text("split", "");
  if (!context.tokenizer) settings.wrong("text", fmt::format("needs a tokenizer, and {}", context.no_tokenizer));
  if (!settings.good()) return out;
  for (const std::string& file : files) {
    const auto text = read_text_file(file);
    if (!text) {
      settings.refuse(text.error());
      return out;
    }
    for (const std::string& document : documents_of(*text, split)) {
      auto ids = context.tokenizer->encode(document);
      if (!ids) {
        settings.refuse(ids.error());
        return out;
      }
      const int32_t end = context.tokenizer->eos();
      if (end >= 0 && !ids->empty() && ids->back() != end) ids->push_back(end);
      out.n_tokens += ids->size();
      out.documents.push_back(std::move(*ids));
    }
  }
  out.n_files = files.size();
  return out;
}

class PackedText final : public TokenStream {
 public:
  PackedText(Settings& settings, const Context& context, const Texts& texts) : TokenStream(settings, context) {
    std::vector<int32_t> all;
    for (const auto& one : texts.documents) all.insert(all.end(), one.begin(), one.end());
    if (settings.good())
      take(settings, "text", std::move(all), context,
           fmt::format("{} tokens of {} file{}", texts.n_tokens, texts.n_files, texts.n_files == 1 ? "" : "s"));
  }
};

class Documents final : public ExampleList {
 public:
  Documents(Settings& settings, const Context& context, const Texts& texts) {
    const auto most = static_cast<size_t>(context.context) + 1;
    for (const auto& ids : texts.documents) {
      for (size_t begin = 0; begin + 1 < ids.size(); begin += most - 1) {
        const size_t end = std::min(ids.size(), begin + most);
        const auto at = ids.begin() + static_cast<int64_t>(begin);
        examples_.push_back(Sample::next_token({at, ids.begin() + static_cast<int64_t>(end)}));
      }
    }
    if (settings.good() && examples_.empty()) settings.wrong("text", "has no document of two tokens or more");
    summary_ = fmt::format("{} tokens of {} documents", texts.n_tokens, texts.documents.size());
  }
};

[[maybe_unused]] const bool text_registered = add_once(
    parts<Data>(), "Data", "text", [](Settings& settings, const Data::Context& context) -> std::unique_ptr<Data> {
      const bool packed = settings.one_of("by", "packed", {"packed", "document"}) == "packed";
      const Texts texts = read(settings, context);
      if (packed) return std::make_unique<PackedText>(settings, context, texts);
      return std::make_unique<Documents>(settings, context, texts);
    });

}  // namespace
}  // namespace fovea::train
