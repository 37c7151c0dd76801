#include "fovea/probe/evidence/question_words.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <numeric>
#include <string_view>
#include <utility>

namespace fovea::probe {
namespace {

constexpr size_t kMostBytes = 400;  // of a paragraph; what is longer is cut between lines

bool is_letter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0; }

// What stays of a word whatever its ending: "licensed", "licenses" and "licensing" are one.
std::string stem_of(std::string word) {
  constexpr size_t kStem = 6;
  for (const std::string_view ending : {"ing", "ed", "es", "s"}) {
    if (word.size() < ending.size() + 4 || !word.ends_with(ending)) continue;
    word.erase(word.size() - ending.size());
    break;
  }
  return word.substr(0, kStem);
}

std::vector<std::string> stems_of(std::string_view text) {
  std::vector<std::string> out;
  for (size_t i = 0; i < text.size();) {
    std::string word;
    for (; i < text.size() && is_letter(text[i]); ++i)
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
    if (word.empty()) {
      ++i;
    } else {
      out.push_back(stem_of(std::move(word)));
    }
  }
  return out;
}

std::vector<EvidenceSpan> paragraphs_of(std::span<const engine::Document> documents) {
  std::vector<EvidenceSpan> out;
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::string_view text = documents[d].text;
    bool open = false;
    int line = 1;
    for (size_t begin = 0; begin < text.size(); ++line) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const bool blank =
          std::all_of(text.begin() + static_cast<ptrdiff_t>(begin), text.begin() + static_cast<ptrdiff_t>(end),
                      [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; });
      open = open && !blank && end - out.back().begin <= kMostBytes;
      if (!blank && !open) out.push_back({static_cast<int32_t>(d), line, line, "", 0, begin, end});
      if (!blank) out.back().line_end = line, out.back().end = end;
      open = !blank;
      begin = end + 1;
    }
  }
  return out;
}

}  // namespace

std::vector<EvidenceSpan> spans_by_words(std::span<const engine::Document> documents, const std::string& question,
                                         int n) {
  std::vector<std::string> asked = stems_of(question);
  std::sort(asked.begin(), asked.end());
  asked.erase(std::unique(asked.begin(), asked.end()), asked.end());
  std::vector<EvidenceSpan> paragraphs = paragraphs_of(documents);
  std::vector<std::vector<double>> counts;  // [paragraphs][asked]
  std::vector<double> lengths, holders(asked.size(), 0.0);
  for (const EvidenceSpan& paragraph : paragraphs) {
    const std::string& text = documents[static_cast<size_t>(paragraph.document)].text;
    const auto stems = stems_of(std::string_view(text).substr(paragraph.begin, paragraph.end - paragraph.begin));
    std::vector<double>& count = counts.emplace_back(asked.size(), 0.0);
    for (const std::string& stem : stems) {
      const auto at = std::lower_bound(asked.begin(), asked.end(), stem);
      if (at != asked.end() && *at == stem) ++count[static_cast<size_t>(at - asked.begin())];
    }
    for (size_t w = 0; w < asked.size(); ++w) holders[w] += count[w] > 0 ? 1 : 0;
    lengths.push_back(static_cast<double>(stems.size()));
  }
  const auto n_all = static_cast<double>(paragraphs.size());
  const double mean_length = std::max(1.0, std::accumulate(lengths.begin(), lengths.end(), 0.0) / std::max(1.0, n_all));
  std::vector<double> scores(paragraphs.size(), 0.0);
  for (size_t p = 0; p < paragraphs.size(); ++p) {
    for (size_t w = 0; w < asked.size(); ++w) {
      const double rare = std::log(1 + (n_all - holders[w] + 0.5) / (holders[w] + 0.5));
      scores[p] += rare * counts[p][w] / (counts[p][w] + 0.3 + 0.7 * lengths[p] / mean_length);
    }
  }
  std::vector<size_t> order(paragraphs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<EvidenceSpan> out;
  for (const size_t p : order) {
    if (out.size() >= static_cast<size_t>(n) || scores[p] <= 0) break;
    EvidenceSpan& span = out.emplace_back(std::move(paragraphs[p]));
    const std::string& text = documents[static_cast<size_t>(span.document)].text;
    span.text = text.substr(span.begin, span.end - span.begin);
  }
  return out;
}

}  // namespace fovea::probe
