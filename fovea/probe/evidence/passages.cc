#include "fovea/probe/evidence/passages.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

namespace fovea::probe {
namespace {

// How many tokens of a document begin within some bytes of it.
class TokenCount {
 public:
  TokenCount(const engine::DocumentPrompt& prompt, size_t n_documents) : begins_(n_documents) {
    for (const engine::DocumentPrompt::Place& place : prompt.places) {
      if (place.document != engine::DocumentPrompt::kNoDocument)
        begins_[static_cast<size_t>(place.document)].push_back(place.begin);
    }
  }
  size_t operator()(int32_t document, size_t begin, size_t end) const {
    const std::vector<size_t>& at = begins_[static_cast<size_t>(document)];
    const auto first = std::lower_bound(at.begin(), at.end(), begin);
    return static_cast<size_t>(std::lower_bound(first, at.end(), end) - first);
  }

 private:
  std::vector<std::vector<size_t>> begins_;  // of each document's tokens, rising
};

bool blank(std::string_view line) {
  return std::all_of(line.begin(), line.end(), [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; });
}

// The line before `begin`, which begins a line, and the line after `end`, which ends one; without their line's end.
std::string_view line_before(std::string_view text, size_t begin) {
  const size_t before = begin < 2 ? std::string_view::npos : text.rfind('\n', begin - 2);
  const size_t first = before == std::string_view::npos ? 0 : before + 1;
  return text.substr(first, begin - 1 - first);
}
std::string_view line_after(std::string_view text, size_t end) {
  return text.substr(end + 1, std::min(text.find('\n', end + 1), text.size()) - end - 1);
}

// Takes lines in on both sides in turn, first to the end of the paragraph, then until there are `least` tokens; nothing
// that another passage has.
void widen(Passage& passage, std::string_view text, const TokenCount& count, std::span<const Passage> others,
           size_t most, size_t least) {
  size_t from = 0, to = text.size();
  for (const Passage& other : others) {
    if (other.document != passage.document) continue;
    if (other.end <= passage.begin) from = std::max(from, other.end);
    if (other.begin >= passage.end) to = std::min(to, other.begin);
  }
  const size_t before = passage.begin == 0 ? std::string_view::npos : text.rfind('\n', passage.begin - 1);
  const size_t begin = before == std::string_view::npos ? 0 : before + 1;
  const size_t end = std::min(text.find('\n', passage.end), text.size());
  if (begin < from || end > to || count(passage.document, begin, end) > most) return;  // part of a long line
  passage.begin = begin, passage.end = end;
  for (const bool beyond : {false, true}) {
    bool up = true, down = true;
    for (bool turn = false; up || down; turn = !turn) {
      if (beyond && count(passage.document, passage.begin, passage.end) >= least) break;
      if (turn ? up : down) {
        const bool ends = turn ? passage.begin == 0 : passage.end >= text.size();
        const std::string_view line = ends   ? ""
                                      : turn ? line_before(text, passage.begin)
                                             : line_after(text, passage.end);
        const size_t first = turn && !ends ? static_cast<size_t>(line.data() - text.data()) : passage.begin;
        const size_t last = turn || ends ? passage.end : passage.end + 1 + line.size();
        if (ends || first < from || last > to || (!beyond && blank(line)) ||
            count(passage.document, first, last) > most) {
          (turn ? up : down) = false;
        } else {
          passage.begin = first, passage.end = last;
        }
      }
    }
  }
}

void trim(Passage& passage, std::string_view text) {
  const auto end_of_line = [&](size_t at) { return std::min(text.find('\n', at), passage.end); };
  while (passage.begin < passage.end && end_of_line(passage.begin) < passage.end &&
         blank(text.substr(passage.begin, end_of_line(passage.begin) - passage.begin)))
    passage.begin = end_of_line(passage.begin) + 1;
  while (passage.end > passage.begin && std::isspace(static_cast<unsigned char>(text[passage.end - 1])) != 0)
    --passage.end;
}

}  // namespace

std::vector<Passage> passages_of(std::span<const engine::Document> documents, const engine::DocumentPrompt& prompt,
                                 std::span<const EvidenceSpan> spans, const PassageOptions& options) {
  const TokenCount count(prompt, documents.size());
  std::vector<Passage> found;
  size_t left = options.max_tokens;
  for (const EvidenceSpan& span : spans) {
    const auto holds = [&](const Passage& p) {
      return p.document == span.document && p.begin <= span.begin && span.end <= p.end;
    };
    if (const auto in = std::find_if(found.begin(), found.end(), holds); in != found.end()) {
      in->score += span.score;
      continue;
    }
    if (found.size() == static_cast<size_t>(options.max_passages)) continue;
    const std::string_view text = documents[static_cast<size_t>(span.document)].text;
    Passage passage{.document = span.document, .begin = span.begin, .end = span.end, .score = span.score};
    for (const Passage& other : found) {  // what another has already
      if (other.document != passage.document || other.begin >= passage.end || other.end <= passage.begin) continue;
      if (other.begin <= passage.begin) passage.begin = std::min(other.end, passage.end);
      if (other.end >= passage.end) passage.end = std::max(other.begin, passage.begin);
    }
    if (passage.begin >= passage.end || count(passage.document, passage.begin, passage.end) + options.besides > left)
      continue;
    widen(passage, text, count, found, std::min(left - options.besides, options.most_tokens), options.least_tokens);
    trim(passage, text);
    if (passage.begin >= passage.end) continue;
    left -= std::min(left, count(passage.document, passage.begin, passage.end) + options.besides);
    found.push_back(passage);
  }
  std::sort(found.begin(), found.end(), [](const Passage& a, const Passage& b) {
    return std::pair(a.document, a.begin) < std::pair(b.document, b.begin);
  });
  std::vector<Passage> out;
  for (const Passage& passage : found) {
    const bool meet = !out.empty() && out.back().document == passage.document &&
                      blank(std::string_view(documents[static_cast<size_t>(passage.document)].text)
                                .substr(out.back().end, passage.begin - out.back().end));
    if (meet && count(passage.document, out.back().begin, passage.end) <= options.most_tokens) {
      out.back().end = passage.end;
      out.back().score += passage.score;
    } else {
      out.push_back(passage);
    }
  }
  for (Passage& passage : out) {
    const std::string& text = documents[static_cast<size_t>(passage.document)].text;
    const auto at = [&](size_t byte) { return text.begin() + static_cast<ptrdiff_t>(byte); };
    passage.line_start = 1 + static_cast<int>(std::count(text.begin(), at(passage.begin), '\n'));
    passage.line_end = passage.line_start + static_cast<int>(std::count(at(passage.begin), at(passage.end), '\n'));
    passage.n_tokens = count(passage.document, passage.begin, passage.end);
  }
  return out;
}

}  // namespace fovea::probe
