// bench_tokenizer [MODEL [TEXT...]]: how fast a vocabulary loads and text is tokenized, one thread. The ids of
// byte-level models are first compared with the slow twin's, and decoded again. MODEL may be a folder that has nothing
// but a tokenizer. bench_tokenizer --json MODEL TEXT...: the texts alone, for bench/tokenizer.py, which compares the
// ids. bench_tokenizer --kinds [TEXT...]: the small tokenizers of tests/golden/tokenizers.json; their ids are first
// compared with the reference's.
#include "fovea/tokenizers/tokenizer.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/random.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"
#include "fovea/tokenizers/base64.h"
#include "fovea/tokenizers/testing/folder.h"
#include "fovea/tokenizers/testing/slow_tokenizer.h"
#include "fovea/tokenizers/unicode_forms.h"

namespace {

using namespace fovea;

// Of this process; nothing else here depends on what the machine does beside.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Median processor seconds of some runs.
double seconds(const std::function<void()>& run, int n_runs = 9) {
  std::vector<double> all;
  for (int i = 0; i < n_runs; ++i) {
    const double start = cpu_seconds();
    run();
    all.push_back(cpu_seconds() - start);
  }
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

[[noreturn]] void fail(const std::string& message) {
  fmt::print(stderr, "bench_tokenizer: {}\n", message);
  std::exit(1);
}

template <typename T>
T need(Result<T> result) {
  if (!result) fail(result.error().message);
  return std::move(result).value();
}

void check(const tokenizers::Tokenizer& tokenizer, const tokenizers::SlowTokenizer& slow, const std::string& name,
           std::string text) {
  text.resize(std::min<size_t>(text.size(), 200'000));
  const auto ids = need(tokenizer.encode(text, {.add_special = false}));
  if (ids != need(slow.encode(text))) fail(name + ": the ids differ from the slow tokenizer's");
  if (tokenizers::normalized(tokenizers::UnicodeForm::kNfc, text) == text && need(tokenizer.decode(ids)) != text)
    fmt::print("{}: some bytes of this text have no token\n", name);
}

// Letters, digits and symbols in words that are mostly new: what no cache helps with.
std::string random_words(size_t n) {
  Rng random(1);
  std::string text;
  while (text.size() < n) {
    for (uint64_t i = 1 + random.below(10); i > 0; --i)
      text += "etaoinshrdlucmfwypvbgkqjxz0123456789_-.,"[random.below(40)];
    text += ' ';
  }
  return text;
}

using Json = nlohmann::ordered_json;

// On these texts, or on English and the mixed text, a megabyte each or more.
int bench_kinds(std::vector<std::string> files) {
  const Json golden = need(read_json("tests/golden/tokenizers.json", 16 << 20));
  if (files.empty()) files = {"/usr/share/common-licenses/GPL-3", "tests/golden/tokens/mixed.txt"};
  std::vector<std::string> texts;
  for (const std::string& file : files) {
    const std::string once = need(read_file(file));
    std::string& text = texts.emplace_back();
    while (text.size() < (1 << 20)) text += once;
  }
  const auto row = [&](const std::string& name, const tokenizers::Vocabulary& v, const Json& ids, bool special) {
    const auto t = need(tokenizers::Tokenizer::create(v));
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto got = need(t->encode(golden["texts"][i].get<std::string>(), {.parse_special = special}));
      if (!ids[i].is_null() && got != ids[i].get<std::vector<int32_t>>())
        fail(name + ": the ids differ from the reference's");
    }
    std::string out = fmt::format("{:36}", name);
    for (const std::string& text : texts) {
      const double once = seconds([&] { need(t->encode(text)); }, 3);
      out += fmt::format(" {:9.1f} MB/s", static_cast<double>(text.size()) / once / 1e6);
    }
    const auto back = need(t->encode(texts[0]));
    const double once = seconds([&] { need(t->decode(back)); }, 3);
    fmt::print("{} {:9.1f} MB/s\n", out, static_cast<double>(texts[0].size()) / once / 1e6);
  };
  for (const auto& [name, one] : golden["json"].items()) {
    Json json = {{"version", "1.0"}, {"added_tokens", Json::array()}};
    for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) json[key] = nullptr;
    Json model = golden["models"][one["model"].get<std::string>()];
    for (const auto& [key, value] : one["rest"].items()) (json.contains(key) ? json : model)[key] = value;
    json["model"] = std::move(model);
    const std::string text = json.dump();
    tokenizers::Vocabulary v;
    v.name = name;
    v.kind = "files";
    v.files.tokenizer_json = text;
    row(name, v, one["ids"], true);
  }
  for (const auto& [name, one] : golden["files"].items()) {
    const std::string model = tokenizers::from_base64(one["model"].get<std::string>());
    tokenizers::Vocabulary v;
    v.name = name;
    v.kind = "files";
    v.files.tokenizer_model = model;
    v.files.tokenizer_config = R"({"add_bos_token": false, "legacy": false})";
    row("sentencepiece " + name, v, one["ids"], false);
  }
  return 0;
}

int bench_texts(const std::string& path, const std::vector<std::string>& files) {
  const auto tokenizer = std::filesystem::exists(path + "/config.json") || !std::filesystem::is_directory(path)
                             ? need(engine::load_tokenizer(*need(formats::open_model(path))))
                             : need(tokenizers::tokenizer_of_folder(path));
  Json rows = Json::array();
  for (const std::string& file : files) {
    const std::string text = need(read_file(file));
    const double encode = seconds([&] { need(tokenizer->encode(text, {.add_special = false})); }, 5);
    const auto ids = need(tokenizer->encode(text, {.add_special = false}));
    const double decode = seconds([&] { need(tokenizer->decode(ids)); }, 5);
    const double size = static_cast<double>(text.size()) / 1e6;
    rows.push_back({{"text", std::filesystem::path(file).stem().string()},
                    {"bytes", text.size()},
                    {"tokens", ids.size()},
                    {"encode_mb_per_second", size / encode},
                    {"decode_mb_per_second", size / decode}});
  }
  fmt::print("{}\n", rows.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (argc > 1 && arguments[0] == "--kinds") return bench_kinds({arguments.begin() + 1, arguments.end()});
  if (argc > 3 && arguments[0] == "--json") return bench_texts(arguments[1], {arguments.begin() + 2, arguments.end()});
  const std::string path = need(store::resolve_model(argc > 1 ? argv[1] : "qwen2.5-coder-0.5b"));
  const auto source = need(formats::open_model(path));
  const auto tokenizer = need(engine::load_tokenizer(*source));
  std::optional<tokenizers::SlowTokenizer> slow;
  if (const auto v = need(source->vocabulary()); v.kind == "gpt2") slow = need(tokenizers::SlowTokenizer::create(v));
  fmt::print("{}: {} tokens\n", path, tokenizer->vocab_size());
  fmt::print("{:28} {:8.1f} ms\n", "metadata (all of it)", 1e3 * seconds([&] { need(formats::open_model(path)); }));
  fmt::print("{:28} {:8.1f} ms\n", "vocabulary and merges",
             1e3 * seconds([&] { need(engine::load_tokenizer(*source)); }));

  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<std::string> files(argv + std::min(argc, 2), argv + argc);
  if (files.empty())
    files = {"/usr/share/common-licenses/GPL-3", "tests/golden/tokens/mixed.txt", "fovea/tokenizers/tokenizer.cc"};
  for (const std::string& file : files) {
    if (auto text = read_file(file)) texts.emplace_back(file, std::move(text).value());
  }
  texts.emplace_back("random words", random_words(1 << 20));
  for (const auto& named : texts) {
    const std::string &name = named.first, &text = named.second;
    if (slow) check(*tokenizer, *slow, name, text);
    const double once = seconds([&] { need(tokenizer->encode(text)); });
    const auto ids = need(tokenizer->encode(text));
    const double back = seconds([&] { need(tokenizer->decode(ids)); });
    fmt::print("{:40} {:9} bytes {:8} tokens  encode {:7.1f} MB/s  decode {:7.1f} MB/s\n", name, text.size(),
               ids.size(), static_cast<double>(text.size()) / once / 1e6,
               static_cast<double>(text.size()) / back / 1e6);
  }
  for (const auto& [name, text] :
       {std::pair<std::string, std::string>{"one letter, 100 MB", std::string(100'000'000, 'a')},
        std::pair<std::string, std::string>{"one space, 100 MB", std::string(100'000'000, ' ')}}) {
    const double start = cpu_seconds();
    const auto ids = need(tokenizer->encode(text));
    const double once = cpu_seconds() - start;
    if (slow && need(tokenizer->decode(ids)) != text) fail(name + ": decoded to something else");
    fmt::print("{:40} {:9} bytes {:8} tokens  encode {:7.1f} MB/s\n", name, text.size(), ids.size(),
               static_cast<double>(text.size()) / once / 1e6);
  }
}
