#include "fovea/probe/evidence/evidence.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <set>
#include <string_view>

namespace fovea::probe {
namespace {

// What a span is made of: a line, or a sentence of a long one.
struct Unit {
  int32_t document;
  size_t begin, end;  // bytes of the document, without the line's end
  int line;
  double mass = 0;
};

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// The end of the piece of a long line that starts at `begin`: the last sentence end within reach, else the last space.
size_t piece_end(std::string_view text, size_t begin, size_t line_end) {
  constexpr size_t kLong = 320;
  if (line_end - begin <= kLong) return line_end;
  const size_t reach = begin + kLong;
  for (size_t i = reach; i > begin + kLong / 8; --i) {
    if (is_space(text[i]) && (text[i - 1] == '.' || text[i - 1] == '?' || text[i - 1] == '!')) return i;
  }
  for (size_t i = reach; i > begin + kLong / 2; --i) {
    if (is_space(text[i])) return i;
  }
  size_t i = reach;  // no space at all: at least no character is cut
  while (i > begin + 1 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
  return i;
}

std::vector<Unit> units_of(std::span<const engine::Document> documents) {
  std::vector<Unit> units;
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::string_view text = documents[d].text;
    int line = 1;
    for (size_t begin = 0; begin < text.size(); ++line) {
      const size_t line_end = std::min(text.find('\n', begin), text.size());
      size_t at = begin;
      do {
        const size_t end = piece_end(text, at, line_end);
        units.push_back({static_cast<int32_t>(d), at, end, line});
        at = end;
      } while (at < line_end);
      begin = line_end + 1;
    }
  }
  return units;
}

bool is_blank(const Unit& unit, std::span<const engine::Document> documents) {
  const std::string_view text = documents[static_cast<size_t>(unit.document)].text;
  return std::all_of(text.begin() + static_cast<ptrdiff_t>(unit.begin), text.begin() + static_cast<ptrdiff_t>(unit.end),
                     is_space);
}

bool is_end_mark(char c) { return c == '.' || c == '?' || c == '!'; }
bool is_closing(char c) { return c == '"' || c == '\'' || c == ')' || c == ']'; }
bool is_lower(char c) { return std::islower(static_cast<unsigned char>(c)) != 0; }

// Whether a sentence begins at `at`, which is no space: what goes before is the end of one, or a blank line.
bool begins_sentence(std::string_view text, size_t at) {
  if (is_lower(text[at])) return false;  // "e.g. this"
  size_t before = at;
  int lines = 0;
  while (before > 0 && is_space(text[before - 1])) lines += text[--before] == '\n' ? 1 : 0;
  if (before == 0 || lines > 1) return true;
  if (before == at) return false;
  while (before > 0 && is_closing(text[before - 1])) --before;
  return before > 0 && is_end_mark(text[before - 1]);
}

// How far a span is made longer, at each end, to begin and end with a sentence. One that is not found within this,
// nor within the paragraph (code, lists, headings), is not looked for further: the line stays as it is.
constexpr size_t kReach = 320;

size_t sentence_begin(std::string_view text, size_t begin) {
  size_t first = begin;
  while (first < text.size() && is_space(text[first])) ++first;
  if (first == text.size() || begins_sentence(text, first)) return begin;
  int lines = 0;
  for (size_t at = first; at-- > 0 && first - at <= kReach;) {
    if (is_space(text[at])) {
      lines += text[at] == '\n' ? 1 : 0;
      if (lines > 1) return begin;
      continue;
    }
    lines = 0;
    if ((at == 0 || is_space(text[at - 1])) && begins_sentence(text, at)) return at;
  }
  return begin;
}

size_t sentence_end(std::string_view text, size_t end) {
  size_t after = end;
  while (after > 0 && is_space(text[after - 1])) --after;
  int lines = 0;
  for (size_t at = after; at <= text.size() && at - after <= kReach; ++at) {
    // Here a sentence ends if an end mark goes before, perhaps with quotes closed, and space or nothing follows.
    size_t mark = at;
    while (mark > 0 && is_closing(text[mark - 1])) --mark;
    if ((at == text.size() || is_space(text[at])) && mark > 0 && is_end_mark(text[mark - 1])) {
      size_t next = at;
      while (next < text.size() && is_space(text[next])) ++next;
      if (next == text.size() || !is_lower(text[next])) return std::max(at, end);
    }
    if (at == text.size()) break;
    lines = !is_space(text[at]) ? 0 : lines + (text[at] == '\n' ? 1 : 0);
    if (lines > 1) break;
  }
  return end;
}

std::string without_spaces(std::string_view text) {
  std::string out;
  std::copy_if(text.begin(), text.end(), std::back_inserter(out), [](char c) { return !is_space(c); });
  return out;
}

}  // namespace

Evidence::Evidence(const attention::ModelShape& shape, const attention::HeadProfile* profile,
                   const engine::DocumentPrompt& prompt, const EvidenceOptions& options)
    : prompt_(prompt), options_(options), n_heads_(shape.n_heads), mass_(prompt.tokens.size()) {
  const auto n_all = head_id(shape.n_layers, 0, shape.n_heads);
  std::vector<double> scores(n_all, 1.0);
  size_t n_chosen = n_all;
  if (profile) {
    const std::vector<double>* retrieval = profile->find("retrieval");
    if (retrieval && retrieval->size() == n_all) {
      scores = *retrieval;
      n_chosen = std::min(n_all, static_cast<size_t>(options.n_heads));
    }
  }
  std::vector<size_t> order(n_all);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  slots_.assign(n_all, -1);
  for (size_t i = 0; i < n_chosen; ++i) {
    slots_[order[i]] = static_cast<int>(i);
    weights_.push_back(scores[order[i]]);
  }
  rows_.assign(n_chosen, {std::vector<float>(prompt.tokens.size(), 0.0f)});
}

void Evidence::see(const attention::RowView& row, std::span<const float> pattern) {
  const int64_t ahead = int64_t{row.q_pos} + 1 - static_cast<int64_t>(mass_.size()) - n_taken_;
  if (ahead < 0) return;  // of the prompt, before its last token
  auto& rows = rows_[static_cast<size_t>(slots_[head_id(row.call.layer, row.head, n_heads_)])];
  while (rows.size() <= static_cast<size_t>(ahead)) rows.emplace_back(mass_.size());
  std::vector<float>& kept = rows[static_cast<size_t>(ahead)];
  std::fill(kept.begin(), kept.end(), 0.0f);
  for (size_t j = 0; j < pattern.size(); ++j) {
    const auto key = static_cast<size_t>(row.key_positions[j]);  // an empty slot lies past every prompt
    if (key < kept.size()) kept[key] = pattern[j];
  }
}

void Evidence::take(int32_t token) {
  for (size_t key = 0; key < mass_.size(); ++key) {
    if (prompt_.places[key].document == engine::DocumentPrompt::kNoDocument) continue;
    double sum = 0;
    for (size_t slot = 0; slot < rows_.size(); ++slot) sum += weights_[slot] * static_cast<double>(rows_[slot][0][key]);
    mass_[key] += prompt_.tokens[key] == token ? sum : options_.uncopied * sum;
  }
  for (auto& rows : rows_) std::rotate(rows.begin(), rows.begin() + 1, rows.end());
  ++n_taken_;
}

std::vector<EvidenceSpan> Evidence::spans(std::span<const engine::Document> documents, int max_spans,
                                          double least) const {
  std::vector<Unit> units = units_of(documents);
  double total = 0;
  for (size_t key = 0; key < mass_.size(); ++key) {
    const engine::DocumentPrompt::Place& place = prompt_.places[key];
    if (place.document == engine::DocumentPrompt::kNoDocument || mass_[key] <= 0) continue;
    // A token that begins with the line's end belongs to the line that follows.
    const std::string_view text = documents[static_cast<size_t>(place.document)].text;
    size_t at = place.begin;
    while (at + 1 < place.end && is_space(text[at])) ++at;
    const auto after = std::upper_bound(units.begin(), units.end(), at, [&](size_t byte, const Unit& unit) {
      return place.document != unit.document ? place.document < unit.document : byte < unit.begin;
    });
    if (after == units.begin()) continue;
    (after - 1)->mass += mass_[key];
    total += mass_[key];
  }
  if (total <= 0) return {};

  std::vector<size_t> order(units.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return units[a].mass > units[b].mass; });
  std::vector<bool> used(units.size(), false);
  std::vector<EvidenceSpan> out;
  std::set<std::string> texts;
  struct Shown {
    int32_t document;
    size_t begin, end;
  };
  std::vector<Shown> shown;
  for (const size_t peak : order) {
    if (units[peak].mass <= 0 || out.size() >= 4 * static_cast<size_t>(max_spans)) break;
    if (used[peak] || is_blank(units[peak], documents)) continue;
    size_t first = peak, last = peak;
    double sum = units[peak].mass;
    const auto joins = [&](size_t i) {
      return i < units.size() && !used[i] && units[i].document == units[peak].document &&
             !is_blank(units[i], documents) && units[i].mass >= options_.neighbour * units[peak].mass;
    };
    while (last - first + 1 < static_cast<size_t>(options_.max_units)) {
      const bool before = first > 0 && joins(first - 1), after = joins(last + 1);
      if (!before && !after) break;
      if (before && (!after || units[first - 1].mass > units[last + 1].mass)) {
        sum += units[--first].mass;
      } else {
        sum += units[++last].mass;
      }
    }
    for (size_t i = first; i <= last; ++i) used[i] = true;
    const int32_t document = units[peak].document;
    const std::string& text = documents[static_cast<size_t>(document)].text;
    size_t begin = sentence_begin(text, units[first].begin), end = sentence_end(text, units[last].end);
    for (const Shown& other : shown) {  // a sentence is shown once
      if (other.document != document || other.begin >= end || other.end <= begin) continue;
      if (other.begin <= units[first].begin) begin = std::max(begin, other.end);
      if (other.begin > units[first].begin) end = std::min(end, other.begin);
    }
    while (begin < end && is_space(text[begin]) && begin != units[first].begin) ++begin;
    while (end > begin && is_space(text[end - 1]) && end != units[last].end) --end;
    if (begin >= end || is_blank({document, begin, end, 0}, documents)) continue;
    shown.push_back({document, begin, end});
    for (size_t i = 0; i < units.size(); ++i) {  // lines that the sentences took in whole
      if (used[i] || units[i].document != document || units[i].begin < begin || units[i].end > end) continue;
      used[i] = true;
      sum += units[i].mass;
    }
    const auto lines = [&](size_t from, size_t to) {
      return static_cast<int>(std::count(text.begin() + static_cast<ptrdiff_t>(from),
                                         text.begin() + static_cast<ptrdiff_t>(std::max(from, to)), '\n'));
    };
    const int line_start = units[first].line - lines(begin, units[first].begin) + lines(units[first].begin, begin);
    EvidenceSpan span{
        document, line_start, line_start + lines(begin, end), text.substr(begin, end - begin), sum / total, begin, end};
    if (texts.insert(without_spaces(span.text)).second) out.push_back(std::move(span));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const EvidenceSpan& a, const EvidenceSpan& b) { return a.score > b.score; });
  while (out.size() > static_cast<size_t>(max_spans) || (out.size() > 1 && out.back().score < least)) out.pop_back();
  return out;
}

}  // namespace fovea::probe
