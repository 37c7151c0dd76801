#include "fovea/tasks/prompt.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/interrupt.h"
#include "fovea/engine/chat.h"

namespace fovea::tasks {
namespace {

using Ids = std::vector<int32_t>;

constexpr int kLeastFilling = 16;  // tokens, so that a depth means something

void append(Ids& to, const Ids& more) { to.insert(to.end(), more.begin(), more.end()); }

// What a chat template puts before and behind what a user says.
struct Frame {
  Ids head, tail;
};

class Reader {
 public:
  explicit Reader(const tokenizers::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  Result<Ids> read(std::string_view text) const {
    return tokenizer_.encode(text, {.add_special = false, .parse_special = false, .continues = true});
  }
  // A prompt's first tokens, without a text.
  Result<Ids> beginning() const {
    FOVEA_ASSIGN_OR_RETURN(Ids ids, tokenizer_.encode("a", {.add_special = true, .parse_special = false}));
    ids.resize(!ids.empty() && ids[0] == tokenizer_.bos() ? 1 : 0);
    return ids;
  }

  // Plain text where the file has no template, or one that changes what is put into it.
  Result<Frame> frame(const formats::ModelSource& source) const {
    Frame out;
    const auto chat = engine::encode_chat(source, tokenizer_, {{{"role", "user"}, {"content", "x"}}});
    if (!chat && chat.error().code != ErrorCode::kNotFound) return chat.error();
    if (!chat || chat->contents[0].first == std::string::npos) {
      FOVEA_ASSIGN_OR_RETURN(out.head, beginning());
      FOVEA_ASSIGN_OR_RETURN(out.tail, read("\nAnswer:"));
      return out;
    }
    const auto [begin, end] = chat->contents[0];
    const std::string_view text = chat->text;
    for (size_t i = 0; i < chat->tokens.size(); ++i) {
      const size_t from = chat->offsets[i], to = i + 1 < chat->tokens.size() ? chat->offsets[i + 1] : text.size();
      if (to <= begin) {
        out.head.push_back(chat->tokens[i]);
        continue;
      }
      if (from >= end) {
        out.tail.push_back(chat->tokens[i]);
        continue;
      }
      // A token over the seam: its bytes of the template are read apart.
      if (from < begin) {
        FOVEA_ASSIGN_OR_RETURN(const Ids before, read(text.substr(from, begin - from)));
        append(out.head, before);
      }
      if (to > end) {
        FOVEA_ASSIGN_OR_RETURN(const Ids behind, read(text.substr(end, to - end)));
        append(out.tail, behind);
      }
    }
    return out;
  }

 private:
  const tokenizers::Tokenizer& tokenizer_;
};

class SampleMaker {
 public:
  SampleMaker(const Task& task, const Reader& reader, const Frame& frame, const SampleOptions& options)
      : task_(task), reader_(reader), frame_(frame), options_(options) {}

  Result<Sample> make(int number) {
    // Seeds far apart, so that sample 1 of seed 0 is not sample 0 of seed 1.
    const uint64_t seed = options_.seed * 1'000'003 + static_cast<uint64_t>(number);
    Rng rng(seed);
    Haystack haystack(options_.haystacks, rng.next());
    const double even =
        options_.n_samples == 1 ? 0.5 : static_cast<double>(number) / static_cast<double>(options_.n_samples - 1);
    const bool several = options_.asking == Asking::kLater && !task_.info().one_question;
    Draw draw{rng, haystack, options_.depth.value_or(even), several ? kLaterQuestions : 1};
    Writing writing = task_.write(draw);
    return task_.info().scores_tokens ? halves(writing) : asked(writing);
  }

 private:
  Result<Sample> halves(Writing& writing) const {
    Ids all = frame_.head;
    FOVEA_RETURN_IF_ERROR(check_room(options_.length - static_cast<int>(all.size()), 0));
    while (static_cast<int>(all.size()) < options_.length) {
      FOVEA_ASSIGN_OR_RETURN(const Ids piece, reader_.read(writing.next()));
      append(all, piece);
    }
    all.resize(static_cast<size_t>(options_.length));
    const auto half = all.begin() + options_.length / 2;
    Sample out;
    out.context.assign(all.begin(), half);
    out.questions.resize(1);
    out.questions[0].tokens.assign(half, all.end());
    return out;
  }

  Result<Sample> asked(Writing& writing) const {
    Sample out;
    size_t longest = 0;
    for (Question& question : writing.questions) {
      SampleQuestion one;
      FOVEA_ASSIGN_OR_RETURN(one.tokens, reader_.read("\n\n" + question.text));
      append(one.tokens, frame_.tail);
      FOVEA_ASSIGN_OR_RETURN(const Ids begin, reader_.read(question.begin));
      append(one.tokens, begin);
      for (const std::string& wanted : question.expected) {
        FOVEA_ASSIGN_OR_RETURN(const Ids ids, reader_.read(" " + wanted));
        one.n_answer += static_cast<int>(ids.size());
      }
      // Room for commas, numbers of a list, and some words before.
      one.n_answer += 4 * static_cast<int>(question.expected.size()) + 16;
      longest = std::max(longest, one.tokens.size());
      one.question = std::move(question);
      out.questions.push_back(std::move(one));
    }
    out.context = frame_.head;
    FOVEA_ASSIGN_OR_RETURN(const Ids before, reader_.read(writing.before));
    append(out.context, before);
    FOVEA_ASSIGN_OR_RETURN(const Ids after, reader_.read(writing.after));
    std::vector<Ids> hidden;
    size_t taken = out.context.size() + after.size() + longest;
    for (const Hidden& each : writing.hidden) {
      FOVEA_ASSIGN_OR_RETURN(Ids ids, reader_.read(each.text));
      taken += ids.size();
      hidden.push_back(std::move(ids));
    }
    const int room = options_.length - static_cast<int>(taken);
    FOVEA_RETURN_IF_ERROR(check_room(room, taken));
    FOVEA_ASSIGN_OR_RETURN(const std::vector<Ids> pieces, fill(writing, static_cast<size_t>(room)));
    put_together(writing, pieces, hidden, out);
    append(out.context, after);
    return out;
  }

  Status check_room(int room, size_t taken) const {
    if (room >= kLeastFilling) return {};
    return make_error(
        ErrorCode::kUsage,
        "a prompt of {} tokens is too short for {}: its question and all else but the filling take {}, and "
        "{} of filling is the least (--length)",
        options_.length, task_.info().name, taken, kLeastFilling);
  }

  // Pieces that have `room` tokens together: the last is cut.
  Result<std::vector<Ids>> fill(Writing& writing, size_t room) const {
    std::vector<Ids> out;
    while (room > 0) {
      FOVEA_ASSIGN_OR_RETURN(Ids piece, reader_.read(writing.next()));
      FOVEA_CHECK(!piece.empty(), "{}: a piece of its filling has no token", task_.info().name);
      if (writing.last && room < 2 * piece.size()) {
        FOVEA_ASSIGN_OR_RETURN(piece, reader_.read(writing.last()));
        FOVEA_CHECK(piece.size() >= room, "{}: its last piece is too short for {} tokens", task_.info().name, room);
      }
      piece.resize(std::min(piece.size(), room));
      room -= piece.size();
      out.push_back(std::move(piece));
    }
    return out;
  }

  // Hidden texts go to the seam of two pieces that is nearest to their depth; those of one seam in the order of their
  // depths.
  static void put_together(const Writing& writing, const std::vector<Ids>& pieces, const std::vector<Ids>& hidden,
                           Sample& out) {
    std::vector<size_t> seams = {0};  // tokens of filling before each
    for (const Ids& piece : pieces) seams.push_back(seams.back() + piece.size());
    const auto room = static_cast<double>(seams.back());
    std::vector<size_t> order(hidden.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return writing.hidden[a].depth < writing.hidden[b].depth; });
    size_t next = 0;
    for (size_t s = 0; s < seams.size(); ++s) {
      const bool last = s + 1 == seams.size();
      const double middle = last ? 0 : 0.5 * static_cast<double>(seams[s] + seams[s + 1]);
      for (; next < order.size() && (last || writing.hidden[order[next]].depth * room < middle); ++next) {
        const int question = writing.hidden[order[next]].question;
        const Ids& ids = hidden[order[next]];
        if (question >= 0) {
          const auto begin = static_cast<int32_t>(out.context.size());
          out.questions[static_cast<size_t>(question)].needle = {begin, begin + static_cast<int32_t>(ids.size())};
          out.questions[static_cast<size_t>(question)].depth = static_cast<double>(seams[s]) / room;
        }
        append(out.context, ids);
      }
      if (!last) append(out.context, pieces[s]);
    }
  }

  const Task& task_;
  const Reader& reader_;
  const Frame& frame_;
  const SampleOptions& options_;
};

}  // namespace

Result<std::vector<Sample>> make_samples(const Task& task, const formats::ModelSource& source,
                                         const tokenizers::Tokenizer& tokenizer, const SampleOptions& options) {
  const Reader reader(tokenizer);
  Frame frame;
  if (task.info().scores_tokens) {
    FOVEA_ASSIGN_OR_RETURN(frame.head, reader.beginning());
  } else {
    FOVEA_ASSIGN_OR_RETURN(frame, reader.frame(source));
  }
  SampleMaker maker(task, reader, frame, options);
  std::vector<Sample> out;
  for (int i = 0; i < options.n_samples; ++i) {
    if (interrupted()) return interrupted_error();
    FOVEA_ASSIGN_OR_RETURN(Sample sample, maker.make(i));
    out.push_back(std::move(sample));
  }
  return out;
}

}  // namespace fovea::tasks
