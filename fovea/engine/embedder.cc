#include "fovea/engine/embedder.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/hf_folder.h"

namespace fovea::engine {
namespace {

constexpr std::pair<Pooling, std::string_view> kNames[] = {
    {Pooling::kMean, "mean"}, {Pooling::kCls, "cls"}, {Pooling::kLast, "last"}};

// As a GGUF file numbers them; 0 says nothing.
Result<std::optional<Pooling>> pooling_in(const formats::ModelSource& source, const std::string& architecture) {
  const std::string key = architecture + ".pooling_type";
  if (source.has(formats::kSentenceModule))
    return make_error(ErrorCode::kUnsupported,
                      "{}: its vectors are made with {}, which does not run here; --pooling gives those without it",
                      source.name(), quote(source.text_of(formats::kSentenceModule)));
  if (!source.has(key)) return std::optional<Pooling>();
  FOVEA_ASSIGN_OR_RETURN(const uint64_t number, source.get_u64(key));
  if (number == 0) return std::optional<Pooling>();
  if (number > std::size(kNames))
    return make_error(ErrorCode::kUnsupported, "{}: {} is {}; 1 (mean), 2 (cls) and 3 (last) run here", source.name(),
                      source.called(key), number);
  return std::optional<Pooling>(kNames[number - 1].first);
}

// How many ids a tokenizer puts behind every text.
Result<size_t> added_behind(const tokenizers::Tokenizer& tokenizer) {
  FOVEA_ASSIGN_OR_RETURN(const auto none, tokenizer.encode(""));
  FOVEA_ASSIGN_OR_RETURN(const auto some, tokenizer.encode("a"));
  const auto [a, b] = std::mismatch(none.rbegin(), none.rend(), some.rbegin(), some.rend());
  return static_cast<size_t>(a - none.rbegin());
}

}  // namespace

std::string_view name_of(Pooling pooling) { return kNames[static_cast<size_t>(pooling)].second; }

std::optional<Pooling> pooling_of(std::string_view name) {
  for (const auto& [pooling, known] : kNames) {
    if (name == known) return pooling;
  }
  return std::nullopt;
}

Result<Embedder> Embedder::create(Session& session, const EmbedderOptions& options) {
  Embedder out(session);
  const formats::ModelSource& source = session.model().source();
  out.normalize_ = options.normalize;
  if (options.pooling) {
    out.pooling_ = *options.pooling;
  } else {
    FOVEA_ASSIGN_OR_RETURN(const auto found, pooling_in(source, session.model().config().architecture));
    out.pooling_ = found.value_or(session.makes_text() ? Pooling::kLast : Pooling::kMean);
  }
  out.max_tokens_ = session.n_ctx();
  if (source.has(formats::kSentenceTokens)) {
    FOVEA_ASSIGN_OR_RETURN(const uint64_t most, source.get_u64(formats::kSentenceTokens));
    if (most < 1)
      return make_error(ErrorCode::kData, "{}: {} is 0", source.name(), source.called(formats::kSentenceTokens));
    out.max_tokens_ = static_cast<int64_t>(std::min(most, static_cast<uint64_t>(out.max_tokens_)));
  }
  return out;
}

Result<Embedder::Tokens> Embedder::tokens(const tokenizers::Tokenizer& tokenizer, std::string_view text) const {
  FOVEA_ASSIGN_OR_RETURN(auto ids, tokenizer.encode(text));
  const auto most = static_cast<size_t>(max_tokens_);
  if (ids.size() <= most) return Tokens{std::move(ids), false};
  FOVEA_ASSIGN_OR_RETURN(const size_t added, added_behind(tokenizer));
  const auto behind = static_cast<std::ptrdiff_t>(std::min(added, most));
  ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(most) - behind, ids.end() - behind);
  return Tokens{std::move(ids), true};
}

void Embedder::finish(std::span<const double> sum, int64_t n_rows, float* out) const {
  double squares = 0;
  for (const double v : sum) squares += v * v;
  // Of all zeros the length is no divisor.
  const double by = normalize_ ? 1 / std::max(std::sqrt(squares), 1e-12) : 1 / static_cast<double>(n_rows);
  for (size_t i = 0; i < sum.size(); ++i) out[i] = static_cast<float>(sum[i] * by);
}

Status Embedder::embed_together(std::span<const std::vector<int32_t>> texts, const std::atomic<bool>* cancel,
                                float* out) {
  std::vector<Session::Feed> feeds;
  for (const auto& text : texts) {
    feeds.push_back({session_->begin(), text, Session::Logits::kNone, attention::Phase::kPromptEnd});
  }
  const auto rows = session_->hidden(feeds, cancel);
  for (const auto& feed : feeds) session_->remove(feed.sequence);
  if (!rows) return rows.error();
  const auto width = static_cast<size_t>(dim());
  std::vector<double> sum(width);
  const float* row = rows->data();
  for (const auto& text : texts) {
    std::fill(sum.begin(), sum.end(), 0);
    const size_t first = pooling_ == Pooling::kLast ? text.size() - 1 : 0;
    const size_t end = pooling_ == Pooling::kCls ? 1 : text.size();
    for (size_t i = first; i < end; ++i) {
      for (size_t c = 0; c < width; ++c) sum[c] += row[i * width + c];
    }
    finish(sum, static_cast<int64_t>(end - first), out);
    row += text.size() * width, out += width;
  }
  return {};
}

// A decoder reads a long text part by part.
Status Embedder::embed_in_chunks(std::span<const int32_t> text, const std::atomic<bool>* cancel, float* out) {
  const attention::SequenceId sequence = session_->begin();
  const auto width = static_cast<size_t>(dim()), chunk = static_cast<size_t>(session_->chunk());
  std::vector<double> sum(width);
  size_t n = 0;
  Status done;
  for (size_t at = 0; at < text.size() && done; at += chunk) {
    const auto part = text.subspan(at, std::min(chunk, text.size() - at));
    const bool last = at + part.size() == text.size();
    const Session::Feed feed{sequence, part, Session::Logits::kNone,
                             last ? attention::Phase::kPromptEnd : attention::Phase::kPrompt};
    const auto rows = session_->hidden({&feed, 1}, cancel);
    if (!rows) {
      done = rows.error();
      break;
    }
    for (size_t i = 0; i < part.size(); ++i) {
      const bool counts =
          pooling_ == Pooling::kMean || (pooling_ == Pooling::kCls ? at + i == 0 : at + i + 1 == text.size());
      for (size_t c = 0; counts && c < width; ++c) sum[c] += rows->data()[i * width + c];
      n += counts;
    }
  }
  session_->remove(sequence);
  if (done) finish(sum, static_cast<int64_t>(n), out);
  return done;
}

Result<std::vector<float>> Embedder::embed(std::span<const std::vector<int32_t>> texts, const std::atomic<bool>* cancel,
                                           const std::function<void(size_t done)>& progress) {
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty()) return make_error(ErrorCode::kUsage, "text {} has no tokens", i + 1);
    if (static_cast<int64_t>(texts[i].size()) > max_tokens_)
      return make_error(ErrorCode::kLimit, "text {} has {} tokens; up to {} are read", i + 1, texts[i].size(),
                        max_tokens_);
  }
  const auto width = static_cast<size_t>(dim());
  std::vector<float> out(texts.size() * width);
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    int64_t n = 0;
    while (end < texts.size() && end - begin < kPassTexts &&
           (end == begin || n + static_cast<int64_t>(texts[end].size()) <= kPassTokens))
      n += static_cast<int64_t>(texts[end++].size());
    const bool alone = session_->makes_text() && end == begin + 1 && n > session_->chunk();
    FOVEA_RETURN_IF_ERROR(alone
                              ? embed_in_chunks(texts[begin], cancel, out.data() + begin * width)
                              : embed_together(texts.subspan(begin, end - begin), cancel, out.data() + begin * width));
    if (progress) progress(end);
  }
  return out;
}

}  // namespace fovea::engine
